//! How the example gateway ends: what its last line and its exit code say of records, and of streams that are cut.

use std::fs;

use libtest_mimic::Trial;

use crate::audit::journal;
use crate::gateway::Gateway;
use crate::keys::{call, temporary};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a journal that was removed is an error at the end", a_removed_journal_is_an_error),
        trial("an event that nobody has heard is an error at the end", an_untold_event_is_an_error),
    ]
}

/// Asserts that a gateway ends with an error that contains this, and does not say that everything was recorded.
fn assert_ends_badly(gateway: Gateway, why: &[&str]) {
    gateway.interrupt();
    let (status, log) = gateway.end();
    let last = log.trim_end().lines().next_back().unwrap_or_default();
    assert!(status.code() == Some(1) && last.contains("ERROR"), "{status}: {log}");
    assert!(why.iter().all(|why| last.contains(why)), "{log}");
    assert!(!log.contains("every call is settled and recorded"), "{log}");
}

fn a_removed_journal_is_an_error() {
    for is_called in [false, true] {
        let directory = journal("removed-journal");
        let dir = directory.display().to_string();
        let args = ["--database", "memory:", "--journal", &dir, "--mint", "name=ada"];
        let gateway = Gateway::with("removed-journal", &args, 1);
        let key = gateway.key("ada").to_owned();
        assert_eq!(call(&gateway, &key).0, 200);
        fs::remove_dir_all(&directory).expect("it was made");
        if is_called {
            // Whether this one is let through depends on whether the removal was noticed by then.
            call(&gateway, &key);
        }
        assert_ends_badly(gateway, &[&format!("the journal {dir} "), "records of the last calls may be lost"]);
    }
}

/// The webhook is a port that nobody listens on.
fn an_untold_event_is_an_error() {
    let path = temporary("untold");
    let [database, dir] = [format!("sqlite://{}", path.display()), journal("untold-journal").display().to_string()];
    let args = ["--database", &database, "--journal", &dir, "--notify", "http://127.0.0.1:9/hook"];
    let first = Gateway::with("untold-1", &[&args[..], &["--mint", "name=ada"]].concat(), 1);
    first.interrupt();
    first.assert_exits_well();
    let second = Gateway::with("untold-2", &[&args[..], &["--revoke", "ada"]].concat(), 0);
    assert_ends_badly(second, &["slack has not received the last ", ": it gets them after the next start with it"]);
}
