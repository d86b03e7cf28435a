//! What is not tested on this machine, said where somebody reads it.
#![allow(dead_code, reason = "every area uses its own part")]

use std::io::Write;
use std::path::PathBuf;

/// Past the capture of the test harness, which hides what a passing test prints.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says what is not tested, and for want of what. Where `CI=true` that is a failure, unless `TOLLGATE_MAY_SKIP` has the word
/// for what is missing among its own: whoever lets CI do without it says so in its script.
pub(crate) fn skip(missing: &str, why: &str) {
    say(&format!("SKIPPED ({missing}): {why}"));
    let allowed = std::env::var("TOLLGATE_MAY_SKIP").unwrap_or_default();
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let may_skip = !is_ci || allowed.split(',').any(|word| word == missing);
    assert!(may_skip, "CI tests this, or names `{missing}` in TOLLGATE_MAY_SKIP: {why}");
}

/// Where the recorded traffic lies; if nowhere, that this was not done is said.
pub(crate) fn corpus(not_done: &str) -> Option<PathBuf> {
    let corpus = std::env::var_os("TOLLGATE_CORPUS").map(PathBuf::from);
    if corpus.is_none() {
        skip("corpus", &format!("{not_done}, since TOLLGATE_CORPUS is not set"));
    }
    corpus
}
