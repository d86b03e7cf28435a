//! Reports what cannot be tested on this machine.
#![allow(dead_code, reason = "every area uses its own part")]

use std::io::Write;
use std::path::PathBuf;

/// Prints to standard error directly: the test harness captures what `println!` prints and hides it if the test passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints what is not tested, and what is missing for it.
///
/// With `CI=true` this panics, unless `TOLLGATE_MAY_SKIP` contains the word in `missing`. A CI script that does without
/// something has to name it there.
pub(crate) fn skip(missing: &str, why: &str) {
    say(&format!("SKIPPED ({missing}): {why}"));
    let allowed = std::env::var("TOLLGATE_MAY_SKIP").unwrap_or_default();
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let may_skip = !is_ci || allowed.split(',').any(|word| word == missing);
    assert!(may_skip, "CI tests this, or names `{missing}` in TOLLGATE_MAY_SKIP: {why}");
}

/// Returns the directory of the recorded traffic. If there is none, reports what was not done.
pub(crate) fn corpus(not_done: &str) -> Option<PathBuf> {
    let corpus = std::env::var_os("TOLLGATE_CORPUS").map(PathBuf::from);
    if corpus.is_none() {
        skip("corpus", &format!("{not_done}, since TOLLGATE_CORPUS is not set"));
    }
    corpus
}
