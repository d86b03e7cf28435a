//! Events that a sink has not had, in a file beside the segments: those of the journal need not wait for it.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::ship::write_whole;
use crate::domain::event::Event;

/// How many may wait, and in how many bytes. Beyond, the oldest are told to nobody.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;
/// After how many that were told the file says so; those before come again after a crash.
const SOME: usize = 32;

/// The events that wait for one sink. A clone is the same.
#[derive(Clone)]
pub(super) struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    waiting: Mutex<Waiting>,
    /// Something was added or told.
    news: Notify,
    /// Held while the file is written.
    keeping: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Kept>,
    /// What the file held when it was opened: a crash may have come before it was kept how far the journal had been read.
    known: HashSet<Uuid>,
    /// How many were told since the file was written, if there is one.
    unkept: Option<usize>,
    is_changed: bool,
    is_closed: bool,
}

/// As the file has it, a line each.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// Of its line in the journal.
    seq: u64,
    event: Event,
    #[serde(skip)]
    bytes: usize,
}

impl Outbox {
    /// With what an earlier process left in this file.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut waiting = Waiting::default();
        if let Some(text) = read(&path) {
            for line in text.lines() {
                match serde_json::from_str::<Kept>(line) {
                    Ok(kept) => waiting.events.push_back(Kept { bytes: line.len(), ..kept }),
                    Err(error) => {
                        tracing::error!(%error, path = %path.display(), line, "an event cannot be read that a sink has not had");
                    }
                }
            }
            waiting.known = waiting.events.iter().map(|kept| kept.event.id).collect();
            waiting.unkept = Some(0);
        }
        let inner = Inner { path, waiting: Mutex::new(waiting), news: Notify::new(), keeping: Mutex::default() };
        Outbox { inner: Arc::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds these, of the lines of these numbers, and gives those that nobody is told of for want of room.
    pub(super) fn add(&self, events: Vec<(u64, Event)>) -> Vec<Event> {
        let mut waiting = self.lock();
        for (seq, event) in events {
            if waiting.known.contains(&event.id) || waiting.events.iter().any(|kept| kept.event.id == event.id) {
                continue;
            }
            let bytes = serde_json::to_string(&event).map_or(0, |text| text.len());
            waiting.events.push_back(Kept { seq, event, bytes });
            waiting.is_changed = true;
        }
        let (mut lost, mut bytes) = (Vec::new(), waiting.events.iter().map(|kept| kept.bytes).sum::<usize>());
        // The first may be on its way.
        while waiting.events.len() > 2 && (waiting.events.len() > MOST || bytes > MOST_BYTES) {
            let Some(kept) = waiting.events.remove(1) else { break };
            bytes -= kept.bytes;
            lost.push(kept.event);
        }
        drop(waiting);
        self.inner.news.notify_waiters();
        lost
    }

    /// The first of them, once there is one. `None` at the end.
    pub(super) async fn next(&self) -> Option<Event> {
        let first = |waiting: &Waiting| match waiting.events.front() {
            Some(kept) => Some(Some(kept.event.clone())),
            None => waiting.is_closed.then_some(None),
        };
        self.once(first).await
    }

    /// Waits until none is left.
    pub(super) async fn emptied(&self) {
        self.once(|waiting| waiting.events.is_empty().then_some(())).await;
    }

    async fn once<T>(&self, look: impl Fn(&Waiting) -> Option<T>) -> T {
        loop {
            // Before looking: what comes in between is not missed.
            let news = self.inner.news.notified();
            let seen = look(&self.lock());
            match seen {
                Some(seen) => return seen,
                None => news.await,
            }
        }
    }

    /// The first was told, or never will be. Whether the file should say so.
    pub(super) fn told(&self) -> bool {
        let mut waiting = self.lock();
        waiting.events.pop_front();
        waiting.is_changed = true;
        let is_empty = waiting.events.is_empty();
        let is_due = waiting.unkept.as_mut().is_some_and(|unkept| {
            *unkept += 1;
            is_empty || *unkept >= SOME
        });
        drop(waiting);
        self.inner.news.notify_waiters();
        is_due
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().events.is_empty()
    }

    /// Up to which line the sink has had all, where the journal is read up to this one.
    pub(super) fn had(&self, read: u64) -> u64 {
        self.lock().events.front().map_or(read, |kept| kept.seq.saturating_sub(1).min(read))
    }

    /// Nothing more is added: who waits for the next is told so, when there is none left.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.inner.news.notify_waiters();
    }

    /// Something may be added again.
    pub(super) fn reopen(&self) {
        self.lock().is_closed = false;
    }

    /// Whether the file says something else.
    pub(super) fn is_changed(&self) -> bool {
        let waiting = self.lock();
        waiting.is_changed && (waiting.unkept.is_some() || !waiting.events.is_empty())
    }

    /// Writes the file, which is there only while something waits.
    pub(super) fn keep(&self) -> io::Result<()> {
        let _in_order = self.inner.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (events, had_file) = {
            let mut waiting = self.lock();
            waiting.is_changed = false;
            let had_file = waiting.unkept.is_some();
            waiting.unkept = (!waiting.events.is_empty()).then_some(0);
            (waiting.events.clone(), had_file)
        };
        let kept = match (events.is_empty(), had_file) {
            (true, false) => Ok(()),
            (true, true) => fs::remove_file(&self.inner.path),
            (false, _) => lines(&events).and_then(|lines| write_whole(&self.inner.path, &lines)),
        };
        if kept.is_err() {
            let mut waiting = self.lock();
            waiting.is_changed = true;
            waiting.unkept = waiting.unkept.or(had_file.then_some(0));
        }
        kept
    }
}

fn read(path: &PathBuf) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "events cannot be read that a sink has not had");
            None
        }
    }
}

fn lines(events: &VecDeque<Kept>) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for kept in events {
        serde_json::to_writer(&mut lines, kept)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::What;

    fn event(number: u128) -> Event {
        let at = "2026-11-28T09:00:00Z".parse().expect("a time");
        Event { id: Uuid::from_u128(number), ..Event::new(at, What::AuditRestored) }
    }

    fn numbers(outbox: &Outbox) -> Vec<u128> {
        outbox.lock().events.iter().map(|kept| kept.event.id.as_u128()).collect()
    }

    #[test]
    fn what_waits_is_there_after_a_restart_once_and_no_more_of_it_than_there_may_be() {
        let name = format!("outbox-{}", std::process::id());
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join("ear.waiting");
        let outbox = Outbox::open(path.clone());
        assert!(outbox.add(vec![(4, event(1)), (7, event(2)), (9, event(3))]).is_empty());
        assert_eq!((outbox.had(20), outbox.had(2)), (3, 2));
        outbox.keep().expect("writable");
        // The file is written now and then.
        assert!(!outbox.told() && outbox.is_changed());

        let outbox = Outbox::open(path.clone());
        assert_eq!(numbers(&outbox), [1, 2, 3]);
        // They are in the journal too, and are read there once more.
        assert!(outbox.add(vec![(7, event(2)), (9, event(3)), (11, event(4))]).is_empty());
        assert_eq!(numbers(&outbox), [1, 2, 3, 4]);
        let many = (5..=1_002).map(|number| (20, event(number))).collect();
        let lost: Vec<_> = outbox.add(many).iter().map(|event| event.id.as_u128()).collect();
        assert_eq!((lost, numbers(&outbox).len()), (vec![2, 3], MOST), "the first may be on its way");
        outbox.keep().expect("writable");
        let is_due = (0..MOST).filter(|_| outbox.told()).count();
        assert!(outbox.is_empty() && is_due > 0);
        assert_eq!(outbox.had(20), 20);
        outbox.keep().expect("writable");
        assert!(!path.exists() && !outbox.is_changed());
        fs::remove_dir_all(&dir).expect("ours");
    }
}
