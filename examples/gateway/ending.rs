//! The shutdown, once no client is served any more. Each step has a deadline. A step that misses it is named in the
//! error, and the process ends whatever hangs.

use std::error::Error;
use std::fs::{DirEntry, read_dir};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tollgate::call::Settlements;

use crate::chain;
use crate::serve::Stop;
use crate::storage::Storage;

/// The deadline of each step, counted from the beginning. A step that hangs leaves time for the steps after it.
const SETTLED: Deadline = Deadline::of(4_000, 2_000);
const KEPT: Deadline = Deadline::of(6_000, 2_200);
const WRITTEN: Deadline = Deadline::of(9_000, 2_800);
const CLOSED: Deadline = Deadline::of(10_000, 3_000);

#[derive(Clone, Copy)]
struct Deadline {
    in_time: Duration,
    /// The same, counted from another stop signal.
    in_haste: Duration,
}

impl Deadline {
    const fn of(in_time: u64, in_haste: u64) -> Self {
        Deadline { in_time: Duration::from_millis(in_time), in_haste: Duration::from_millis(in_haste) }
    }
}

struct Ending {
    stop: Stop,
    began: Instant,
    /// The time of the second stop signal, if there was one.
    is_urgent_since: Option<Instant>,
    left: Vec<String>,
}

/// Waits until everything is written down, then closes the files. Takes at most 10 seconds, or 3 after a second signal.
pub(crate) async fn end(
    stop: Stop,
    is_urgent: bool,
    settlements: &Settlements,
    storage: &Storage,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut ending = Ending { stop, began, is_urgent_since: is_urgent.then_some(began), left: Vec::new() };
    let unsettled = || {
        let calls = settlements.len();
        format!("{calls} calls are not settled: everything held for them is charged 5 minutes from now")
    };
    ending.within(SETTLED, unsettled, settlements.drain()).await;
    // Content comes before the records with a short deadline: content may be lost, records may not.
    if let Some(content) = &storage.content {
        ending.within(KEPT, || "some content was not written".to_owned(), content.flush()).await;
    }
    ending.within(WRITTEN, || "the audit trail is not completely written".to_owned(), storage.audit.flush()).await;
    ending.left.extend(unrecorded(storage));
    let closed = ending.within(CLOSED, || "the database is not closed".to_owned(), storage.close()).await;
    if let Some(Err(error)) = closed {
        ending.left.push(chain(&*error));
    }
    match ending.left.is_empty() {
        true => Ok(()),
        false => Err(ending.left.join("; ").into()),
    }
}

/// What the audit trail has not written or handed on, after its flush.
fn unrecorded(storage: &Storage) -> Vec<String> {
    let status = storage.audit.status();
    let mut left = Vec::new();
    // The trail looks for its files now and then only, and may not have noticed yet.
    let is_gone = storage.journal.as_ref().is_some_and(|journal| !has_segments(journal));
    let may_be_lost = status.is_refusing || is_gone;
    if may_be_lost {
        let what = match &storage.journal {
            Some(journal) => format!("the journal {} cannot be written", journal.display()),
            None => "the audit trail cannot be written".to_owned(),
        };
        left.push(format!("{what}: records of the last calls may be lost; see the errors above"));
    }
    for (sink, lines) in status.behind.iter().filter(|(_, lines)| *lines > 0) {
        left.push(match may_be_lost {
            true => format!("{sink} has not received the last {lines} lines of the journal"),
            false => format!(
                "{sink} has not received the last {lines} lines of the journal: it gets them after the next start with it"
            ),
        });
    }
    left
}

/// Whether there is any of the files that hold the lines of this journal. From its start on, there always is one.
fn has_segments(journal: &Path) -> bool {
    let is_segment =
        |file: std::io::Result<DirEntry>| file.is_ok_and(|file| file.path().extension() == Some("seg".as_ref()));
    read_dir(journal).is_ok_and(|mut files| files.any(is_segment))
}

impl Ending {
    /// Returns the output of `work` if it ends by the deadline. Otherwise gives it up and notes what is `left` undone.
    async fn within<T>(
        &mut self,
        by: Deadline,
        left: impl FnOnce() -> String,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let in_time = self.began + by.in_time;
            let by = self.is_urgent_since.map_or(in_time, |since| in_time.min(since + by.in_haste));
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = sleep_until(by) => {
                    self.left.push(left());
                    return None;
                }
                () = self.stop.asked() => {
                    self.is_urgent_since.get_or_insert_with(Instant::now);
                }
            }
        }
    }
}
