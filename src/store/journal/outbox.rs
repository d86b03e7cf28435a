//! Events that a sink has not had, in a file beside the segments, so that no segment is kept for them.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::position::write_whole;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::Event;

/// The most events that may wait, and the most bytes. Beyond that, the oldest events of a sink that takes nothing are
/// dropped.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;
/// The file is updated after this many deliveries; events since then come again after a crash.
const SOME: usize = 32;
/// A sink that has had nothing for this long, though something waits, is stuck; any other is slow.
const STUCK: Duration = Duration::from_secs(60);

/// The events that wait for one sink. Clones share them.
#[derive(Clone)]
pub(super) struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    waiting: Mutex<Waiting>,
    /// Something was added or delivered.
    news: Notify,
    /// Held while the file is written.
    keeping: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Kept>,
    /// What the file held when it was opened: a crash may have come before the position in the journal was stored.
    known: HashSet<Uuid>,
    /// How many events were delivered since the file was written, if it exists.
    unkept: Option<usize>,
    /// How often something has changed, and up to which change the file has it.
    changes: u64,
    kept: u64,
    is_closed: bool,
    /// When the first event became the first.
    moved: Duration,
}

/// A line of the file.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The number of its line in the journal.
    seq: u64,
    event: Event,
    #[serde(skip)]
    bytes: usize,
}

impl Outbox {
    /// For a sink that needs no outbox: it does not get what an earlier process left in this file.
    pub(super) fn unused(path: PathBuf) -> Self {
        if path.exists() {
            tracing::error!(path = %path.display(), "events are waiting for a sink of this name, but the sink now takes records; the events are not delivered");
        }
        Outbox::with(path, Waiting::default())
    }

    /// Loads what an earlier process left in this file.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut waiting = Waiting::default();
        if let Some(text) = read(&path) {
            for line in text.lines() {
                match serde_json::from_str::<Kept>(line) {
                    Ok(kept) => waiting.events.push_back(Kept { bytes: line.len(), ..kept }),
                    Err(error) => {
                        tracing::error!(%error, path = %path.display(), line, "an undelivered event cannot be read; it is not delivered");
                    }
                }
            }
            waiting.known = waiting.events.iter().map(|kept| kept.event.id).collect();
            waiting.unkept = Some(0);
        }
        Outbox::with(path, waiting)
    }

    fn with(path: PathBuf, waiting: Waiting) -> Self {
        let inner = Inner { path, waiting: Mutex::new(waiting), news: Notify::new(), keeping: Mutex::default() };
        Outbox { inner: Arc::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Splits events into parts, each of which fits into an empty outbox; mostly into one.
    pub(super) fn parts(events: Vec<(u64, Event)>) -> Vec<Vec<Kept>> {
        let (mut parts, mut room) = (Vec::<Vec<Kept>>::new(), 0);
        for (seq, event) in events {
            let bytes = serde_json::to_string(&event).map_or(0, |text| text.len());
            let kept = Kept { seq, event, bytes };
            match parts.last_mut() {
                Some(part) if bytes <= room && part.len() < MOST => {
                    room -= bytes;
                    part.push(kept);
                }
                _ => {
                    room = MOST_BYTES.saturating_sub(bytes);
                    parts.push(vec![kept]);
                }
            }
        }
        parts
    }

    /// Adds a part, and returns the events that are dropped for want of room.
    pub(super) fn add(&self, part: Vec<Kept>) -> Vec<Event> {
        let mut waiting = self.lock();
        for kept in part {
            let id = kept.event.id;
            if waiting.known.contains(&id) || waiting.events.iter().any(|kept| kept.event.id == id) {
                continue;
            }
            if waiting.events.is_empty() {
                waiting.moved = SystemClock.elapsed();
            }
            waiting.events.push_back(kept);
            waiting.changes += 1;
        }
        let (mut lost, mut bytes) = (Vec::new(), bytes_of(&waiting.events));
        // The first may be in delivery.
        while waiting.events.len() > 2 && (waiting.events.len() > MOST || bytes > MOST_BYTES) {
            let Some(kept) = waiting.events.remove(1) else { break };
            bytes -= kept.bytes;
            lost.push(kept.event);
        }
        drop(waiting);
        self.inner.news.notify_waiters();
        lost
    }

    /// The first event, once there is one. `None` at the end.
    pub(super) async fn next(&self) -> Option<Event> {
        let first = |waiting: &Waiting| match waiting.events.front() {
            Some(kept) => Some(Some(kept.event.clone())),
            None => waiting.is_closed.then_some(None),
        };
        self.once(first).await
    }

    /// Waits until the outbox is empty.
    pub(super) async fn emptied(&self) {
        self.once(|waiting| waiting.events.is_empty().then_some(())).await;
    }

    /// Waits until there is room for a part.
    pub(super) async fn room_for(&self, part: &[Kept]) {
        self.once(|waiting| waiting.has_room(part).then_some(())).await;
    }

    /// Whether waiting for room is pointless.
    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        let waiting = self.lock();
        !waiting.events.is_empty() && now.saturating_sub(waiting.moved) >= STUCK
    }

    async fn once<T>(&self, look: impl Fn(&Waiting) -> Option<T>) -> T {
        loop {
            // Before looking, so that nothing in between is missed.
            let news = self.inner.news.notified();
            let seen = look(&self.lock());
            match seen {
                Some(seen) => return seen,
                None => news.await,
            }
        }
    }

    /// The first event was delivered, or never will be. Returns whether the file should be updated.
    pub(super) fn told(&self) -> bool {
        let mut waiting = self.lock();
        waiting.events.pop_front();
        waiting.moved = SystemClock.elapsed();
        waiting.changes += 1;
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

    /// The line up to which the sink has had everything, given that the journal is read up to `read`.
    pub(super) fn had(&self, read: u64) -> u64 {
        self.lock().events.front().map_or(read, |kept| kept.seq.saturating_sub(1).min(read))
    }

    /// Nothing more is added. Whoever waits for the next event is told so once it is empty.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.inner.news.notify_waiters();
    }

    /// Something may be added again.
    pub(super) fn reopen(&self) {
        let mut waiting = self.lock();
        // Nothing was delivered meanwhile.
        (waiting.is_closed, waiting.moved) = (false, SystemClock.elapsed());
    }

    /// Whether the file is out of date, even if it is being written.
    pub(super) fn is_changed(&self) -> bool {
        let waiting = self.lock();
        waiting.changes != waiting.kept && (waiting.unkept.is_some() || !waiting.events.is_empty())
    }

    /// Writes the file, which exists only while something waits.
    pub(super) fn keep(&self) -> io::Result<()> {
        let _in_order = self.inner.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (events, had_file, changes) = {
            let mut waiting = self.lock();
            let had_file = waiting.unkept.is_some();
            waiting.unkept = (!waiting.events.is_empty()).then_some(0);
            (waiting.events.clone(), had_file, waiting.changes)
        };
        let kept = match (events.is_empty(), had_file) {
            (true, false) => Ok(()),
            (true, true) => match fs::remove_file(&self.inner.path) {
                // Somebody else has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            (false, _) => lines(&events).and_then(|lines| write_whole(&self.inner.path, &lines)),
        };
        let mut waiting = self.lock();
        match &kept {
            Ok(()) => waiting.kept = changes,
            Err(_) => waiting.unkept = waiting.unkept.or(had_file.then_some(0)),
        }
        kept
    }
}

impl Waiting {
    fn has_room(&self, part: &[Kept]) -> bool {
        let fits = |events: usize, bytes: usize| events <= MOST && bytes <= MOST_BYTES;
        self.events.is_empty()
            || fits(self.events.len() + part.len(), bytes_of(&self.events).saturating_add(bytes_of(part)))
    }
}

fn bytes_of<'a>(events: impl IntoIterator<Item = &'a Kept>) -> usize {
    events.into_iter().map(|kept| kept.bytes).sum()
}

fn read(path: &PathBuf) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "undelivered events cannot be read; they are not delivered");
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

    /// Those of these numbers, of the lines of these.
    fn part(numbers: impl IntoIterator<Item = (u64, u128)>) -> Vec<Kept> {
        let events = numbers.into_iter().map(|(seq, number)| (seq, event(number))).collect();
        Outbox::parts(events).into_iter().flatten().collect()
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
        assert!(outbox.add(part([(4, 1), (7, 2), (9, 3)])).is_empty());
        assert_eq!((outbox.had(20), outbox.had(2)), (3, 2));
        outbox.keep().expect("writable");
        // The file is written now and then.
        assert!(!outbox.told() && outbox.is_changed());

        let outbox = Outbox::open(path.clone());
        assert_eq!(numbers(&outbox), [1, 2, 3]);
        // They are in the journal too, and are read there once more.
        assert!(outbox.add(part([(7, 2), (9, 3), (11, 4)])).is_empty());
        assert_eq!(numbers(&outbox), [1, 2, 3, 4]);
        let lost: Vec<_> =
            outbox.add(part((5..=1_002).map(|number| (20, number)))).iter().map(|event| event.id.as_u128()).collect();
        assert_eq!((lost, numbers(&outbox).len()), (vec![2, 3], MOST), "the first may be on its way");
        outbox.keep().expect("writable");
        let is_due = (0..MOST).filter(|_| outbox.told()).count();
        assert_eq!((outbox.is_empty(), is_due), (true, MOST - SOME + 1));
        assert_eq!(outbox.had(20), 20);
        outbox.keep().expect("writable");
        assert!(!path.exists() && !outbox.is_changed());

        // Somebody removes the file.
        outbox.add(part([(30, 5_000)]));
        outbox.keep().expect("writable");
        fs::remove_file(&path).expect("it was written");
        assert!(outbox.told());
        outbox.keep().expect("it is as it should be");
        assert!(!outbox.is_changed());
        fs::remove_dir_all(&dir).expect("ours");
    }

    #[test]
    fn what_has_no_room_waits_for_a_sink_that_moves_and_for_no_other() {
        let outbox = Outbox::open("/nowhere/ear.waiting".into());
        let (more, now) = (part([(2, 2_000), (2, 2_001)]), || SystemClock.elapsed());
        let has_room = || outbox.lock().has_room(&more);
        assert!(has_room() && !outbox.is_stuck(now() + STUCK), "nothing waits");
        outbox.add(part((1..MOST as u128).map(|number| (1, number))));
        assert!(!has_room() && !outbox.is_stuck(now()));
        assert!(outbox.is_stuck(now() + STUCK));
        let before = outbox.lock().moved;
        while outbox.lock().moved == before {
            outbox.told();
        }
        assert!(has_room() && !outbox.is_stuck(before + STUCK));
        // Nor is one that nobody has told anything meanwhile.
        let before = now();
        while now() == before {}
        outbox.reopen();
        assert!(!outbox.is_stuck(before + STUCK));
    }

    #[test]
    fn more_than_ever_has_room_comes_in_parts_that_have() {
        let what = || What::AuditDegraded { reason: "x".repeat(200_000).into() };
        let at = "2026-11-28T09:00:00Z".parse().expect("a time");
        let parts = Outbox::parts((1..=12).map(|seq| (seq, Event::new(at, what()))).collect());
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 2]);
        assert_eq!(parts.iter().flatten().map(|kept| kept.seq).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| bytes_of(part) <= MOST_BYTES));
        assert!(Outbox::parts(Vec::new()).is_empty());
    }
}
