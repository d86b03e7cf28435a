use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use tollgate::store::journal::{Journal, JournalError};
use tollgate::store::memory::MemoryBudgets;

use crate::site::{Dir, Sink, Site, open_again, until};
use crate::support::log::Log;

fn refused(dir: &Path) -> JournalError {
    Journal::at(dir).open().expect_err("no journal can be kept here")
}

#[tokio::test]
async fn a_directory_that_is_not_there_or_none_is_refused_and_named() {
    let dir = Dir::new("none");
    let missing = dir.0.join("missing");
    let error = refused(&missing).to_string();
    assert!(error.contains("missing: cannot keep a journal here: No such file"), "{error}");
    assert!(!missing.exists(), "a volume that is not mounted is not written beside");
    let file = dir.0.join("file");
    fs::write(&file, "").expect("writable");
    assert!(refused(&file).to_string().contains("Not a directory"));
}

#[tokio::test]
async fn a_directory_that_another_writes_to_is_refused() {
    let dir = Dir::new("locked");
    let first = Journal::at(&dir.0).open().expect("a journal");
    let error = refused(&dir.0);
    assert!(error.is_locked(), "{error}");
    assert!(error.to_string().ends_with("another process is using this journal"), "{error}");
    drop(first);
    until("it has ended", || Journal::at(&dir.0).open().is_ok()).await;
}

#[tokio::test]
async fn sizes_and_names_that_make_no_sense_are_refused() {
    let dir = Dir::new("senseless");
    assert!(Journal::at(&dir.0).segment_bytes(0).open().is_err());
    assert!(Journal::at(&dir.0).segment_bytes(8 << 20).most_bytes(9 << 20).open().is_err());
    for name in ["", "Upper", "a/b", "..", "a b"] {
        assert!(open_again(&dir).await.ship(name, Sink::default()).is_err(), "{name:?}");
    }
    let named = open_again(&dir).await.ship("kept", Sink::default()).expect("a name");
    assert!(named.ship("kept", Sink::default()).is_err(), "one position is not kept for two");
    // After a power loss the position may be empty. The sink then gets everything again, and the gateway starts.
    fs::write(dir.0.join("other.acked"), "").expect("writable");
    assert!(open_again(&dir).await.ship("other", Sink::default()).is_ok());
}

const READ_ONLY: &str = "TOLLGATE_TEST_JOURNAL_READ_ONLY";
const NOBODY: u32 = 65_534;

/// Runs as a child process of a user who may not write everywhere. Without the variable it does nothing.
#[test]
fn child_that_may_not_write() {
    let Some(dir) = std::env::var_os(READ_ONLY) else { return };
    let error = refused(Path::new(&dir)).to_string();
    assert!(error.contains("cannot keep a journal here: Permission denied"), "{error}");
}

#[test]
fn a_directory_that_this_process_may_only_read_is_refused_when_it_is_opened() {
    let dir = Dir::new("read-only");
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o555)).expect("ours");
    if fs::metadata(&dir.0).expect("it is there").uid() != 0 {
        assert!(refused(&dir.0).to_string().contains("Permission denied"));
        return fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    // Root may write everywhere, so run the test as a child of another user.
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["directories::child_that_may_not_write", "--exact"])
        .env(READ_ONLY, &dir.0)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("root may start one that is nobody");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).expect("ours");
}

#[tokio::test]
async fn a_journal_whose_file_somebody_has_removed_lets_no_call_through() {
    no_call_passes_after("removed", |dir| {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|ending| ending == "seg") {
                fs::remove_file(path).expect("ours");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_journal_whose_directory_somebody_has_moved_lets_no_call_through() {
    no_call_passes_after("moved", |dir| fs::rename(dir, dir.with_extension("away")).expect("ours")).await;
}

async fn no_call_passes_after(name: &str, change: fn(&Path)) {
    let dir = Dir::new(name);
    let site = Site::new(Journal::at(&dir.0).segment_bytes(1 << 20).open().expect("a journal"), MemoryBudgets::new());
    assert_eq!(site.whole("hello").await, StatusCode::OK);
    assert!(!site.audit.status().is_refusing);
    let (log, _listening) = Log::listen();
    change(&dir.0);
    // The journal looks every two seconds.
    for _ in 0..400 {
        if site.whole("hello").await != StatusCode::OK {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(site.audit.status().is_refusing);
    for _ in 0..20 {
        assert_ne!(site.whole("hello").await, StatusCode::OK);
    }
    // At most every ten seconds: a log of each call would fill what is left of a disk.
    let text = log.text();
    let told =
        text.lines().filter(|line| line.contains("ERROR") && line.contains("cannot record this request")).count();
    assert!((1..=2).contains(&told), "{text}");
    let _ = fs::remove_dir_all(dir.0.with_extension("away"));
}
