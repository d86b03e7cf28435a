use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, watch};

use super::calls::Calls;
use super::carry::Carry;
use super::chain::Head;
use super::ends::SyncEnd;
use super::error::JournalError;
use super::events::Events;
use super::late::Since;
use super::line::{Opened, Said, Settled, put};
use super::queue::{Closed, Item, Queue};
use super::recover::{Left, recover};
use super::release::Release;
use super::seal::Sealer;
use super::segment::{Segment, owners};
use super::shared::Trouble;
use super::ship::{Shipments, Sink};
use super::sync::Sync;
use super::writer::{LONGEST, Writer};
use super::{Shared, moments, position, segment};
use crate::domain::audit::AuditRecord;
use crate::domain::clock::{Clock, SystemClock};
use crate::store::audit::AuditSink;
use crate::store::budget::BudgetStore;
use crate::store::event::EventSink;
use crate::store::{At, StoreError};

/// A store is told no more where it is about to forget: clocks differ, and telling takes time.
const ABOUT: u32 = 12;

/// A journal that this process alone writes. See the [module](super).
pub struct Journal {
    shared: Arc<Shared>,
    shipments: Shipments,
    left: VecDeque<Left>,
    /// Nobody has taken it over, who would close it.
    is_mine: bool,
}

/// What [`Journal::settle_lost`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Corrected {
    /// Calls whose end nobody saw: closed now, and their budgets charged the most that they can have cost.
    pub lost: usize,
    /// Calls that had closed just before, of which their budgets may not have heard: they have now.
    pub told_again: usize,
    /// Calls of either kind that were left too long ago: a store may have forgotten whether it has heard, so that it is told
    /// nothing, and what they held stays charged whole.
    pub too_old: usize,
}

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    dir: PathBuf,
    segment: u64,
    keep: u64,
    most: u64,
    calls: usize,
}

impl Journal {
    /// A journal in this directory, which must be there: a volume that is not mounted is found out, not written beside.
    #[must_use]
    pub fn at(dir: impl AsRef<Path>) -> JournalOptions {
        let dir = dir.as_ref().to_owned();
        JournalOptions { dir, segment: 32 << 20, keep: 256 << 20, most: 8 << 30, calls: 65_536 }
    }

    /// Hands every final on to this sink, from where the one of this name stopped before; the first time, from the beginning.
    ///
    /// # Errors
    /// When a sink has the name already, it is none of small letters, digits, `-` and `_`, or how far it came cannot be
    /// read.
    pub fn ship(mut self, name: &str, sink: impl AuditSink) -> Result<Self, JournalError> {
        self.shipments.add(&self.shared, name, Sink::Records(Box::new(sink)))?;
        Ok(self)
    }

    /// Tells this sink of every [event](crate::domain::event), from where the one of this name stopped before; the first time,
    /// from the beginning. What it does not take waits for it, 1,000 events and 1 MiB at most; one that is slow is read on for as
    /// it takes them. Of more, the oldest are in the log, where it has taken none for a minute, or where the journal has little
    /// room left and what it has not been read for is in the way.
    ///
    /// # Errors
    /// As [`ship`](Self::ship).
    pub fn notify(mut self, name: &str, sink: impl EventSink) -> Result<Self, JournalError> {
        self.shipments.add(&self.shared, name, Sink::Events(Box::new(sink)))?;
        Ok(self)
    }

    /// Where events are told of that somebody should hear of.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.shared.clone())
    }

    /// Closes the calls that an earlier process left, and tells their budgets: of one that it sent and whose end it did not
    /// see, the most that it can have cost; of one that it closed at last, what it was charged.
    ///
    /// A threshold that this reaches goes to whom [`notify`](Self::notify) says.
    ///
    /// Call it at start, with the store that the budgets are kept in, before the journal is given away: what is left then is
    /// closed and no store told, so that what they held stays charged whole.
    ///
    /// # Errors
    /// When the store cannot be told. Those it was told of are done with; the rest comes with the next call.
    pub async fn settle_lost<B: BudgetStore + ?Sized>(&mut self, budgets: &B) -> Result<Corrected, StoreError> {
        let (now, mut corrected) = (SystemClock.now(), Corrected::default());
        let memory = budgets.memory();
        while let Some(left) = self.left.front() {
            let memory = if left.record.is_some() { memory.forfeited } else { memory.settled };
            let is_known = now.duration_since(left.at).unsigned_abs() < memory - memory / ABOUT;
            match &left.settlement {
                Some((reservation, charged)) if is_known => {
                    let news = budgets.settle(reservation, *charged, At::Store).await?;
                    moments::at("loss-told");
                    // Once a window, and this was the once.
                    let key = || left.record.as_ref().and_then(AuditRecord::key);
                    news.into_iter().for_each(|crossing| self.events().crossing(&crossing.by_key(key())));
                }
                Some((reservation, charged)) => {
                    corrected.too_old += 1;
                    tracing::warn!(call = %left.id, granted = %reservation.granted, %charged, "left too long ago: no budget is told how it ended");
                }
                None => {}
            }
            if is_known || left.settlement.is_none() {
                match left.record {
                    Some(_) => corrected.lost += 1,
                    None => corrected.told_again += 1,
                }
            }
            if let Some(left) = self.left.pop_front() {
                self.shared.close(left);
            }
        }
        Ok(corrected)
    }

    /// Where it is written down what content is kept: for [`ContentLayer::sealed_by`](crate::ContentLayer::sealed_by).
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer::new(self.shared.clone())
    }

    /// The last line that is written.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        *self.shared.written.borrow()
    }

    pub(super) fn into_parts(mut self) -> (Arc<Shared>, Shipments) {
        self.left.drain(..).for_each(|left| self.shared.close(left));
        self.is_mine = false;
        (self.shared.clone(), std::mem::take(&mut self.shipments))
    }
}

impl Shared {
    /// Nothing more is to be done about this call.
    fn close(&self, left: Left) {
        if let Some(record) = left.record {
            self.queue.push(Item::Final(Closed::Lost(Box::new(record)), None, None));
        }
        self.queue.push(Item::Heard(left.id));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.is_mine {
            self.shared.queue.close();
        }
    }
}

impl JournalOptions {
    /// How large a segment is; 32 MiB otherwise, and 1 MiB at least. There are never less than two.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment = bytes;
        self
    }

    /// How much is kept of what every sink of records has had; 256 MiB otherwise. Without a sink of records nothing is
    /// removed.
    #[must_use]
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep = bytes;
        self
    }

    /// How large the journal may become before no call is let through; 8 GiB otherwise. The ends of those that were go beyond.
    #[must_use]
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// How many calls may be open, or closed and not yet written; 65,536 otherwise.
    #[must_use]
    pub fn calls(mut self, calls: usize) -> Self {
        self.calls = calls;
        self
    }

    /// Opens it: finds out what an earlier process left, and begins a new segment. Blocks until that is on the disk.
    ///
    /// # Errors
    /// When the directory is not there, cannot be written, has no room for two segments, or another process writes there.
    pub fn open(self) -> Result<Journal, JournalError> {
        let JournalOptions { dir, segment: size, keep, most, calls } = self;
        let calls = calls.clamp(1, Semaphore::MAX_PERMITS);
        if size < 4 * LONGEST as u64 || most < size.saturating_mul(2) {
            return Err(JournalError::setting(&dir, "a segment has 1 MiB at least, and a journal two segments"));
        }
        let io = JournalError::io(&dir);
        let lock = Arc::new(lock(&dir)?);
        let segments = segment::list(&dir).map_err(&io)?;
        let recovered = recover(&segments).map_err(&io)?;
        // Made just before a machine died, and never written to: they would stand behind what is written now.
        let lies_behind = |segment: &&Segment| segment.first > recovered.head.seq;
        for segment in segments.iter().filter(lies_behind) {
            segment::set_aside(segment).map_err(&io)?;
        }
        let mut lines = Vec::new();
        let missing = position::missing(&dir, recovered.head).map_err(&io)?;
        let (at, version) = (SystemClock.now(), env!("CARGO_PKG_VERSION").to_owned());
        let opened = Opened { at, version, torn: recovered.torn, missing };
        // Of a line that nobody here has written.
        let none_left = JournalError::setting(&dir, "its last line has so high a number that there are no more");
        let Some(behind) = recovered.head.seq.checked_add(2) else { return Err(none_left) };
        let first = behind - 1;
        let before = recovered.left.first().map_or(behind, |left| left.seq);
        let broken = |error: serde_json::Error| io(error.into());
        let head = put(&mut lines, recovered.head, &Said::Opened(opened)).map_err(broken)?;
        let settled = Settled { before, done: Vec::new(), ongoing: recovered.ongoing.clone() };
        let head = put(&mut lines, head, &Said::Settled(settled)).map_err(broken)?;
        segment::forget_spare(&dir);
        let file = segment::prepare(&dir, size, |_| Ok(())).map_err(&io)?;
        let path = segment::begin(&dir, first).map_err(&io)?;
        let shared = Arc::new(Shared {
            sync: Sync::new(dir.clone(), size, segment::prepare(&dir, size, |_| Ok(())).map_err(&io)?),
            dir: dir.clone(),
            size,
            keep,
            most,
            queue: Queue::default(),
            writing: Since::default(),
            places: Arc::new(Semaphore::new(calls)),
            calls,
            written: watch::Sender::new(Some(recovered.head)),
            acked: Mutex::default(),
            has_record_sink: AtomicBool::new(false),
            has_all_sinks: AtomicBool::new(false),
            troubles: AtomicU8::new(if recovered.ongoing.is_degraded { Trouble::Before as u8 } else { 0 }),
            ongoing: Mutex::new(recovered.ongoing),
            telling: Mutex::default(),
            has_sealer: AtomicBool::new(false),
            open_from: AtomicU64::new(before),
            needed_from: AtomicU64::new(before),
            is_untold: AtomicBool::new(false),
            release: Release::default(),
        });
        let mut writer = Writer {
            shared: shared.clone(),
            file: Arc::new(file),
            path: path.into(),
            at: 0,
            head,
            calls: Calls::left(&recovered.left),
            lines,
            ticked: SystemClock.elapsed(),
            settled: before,
            unsettled: Vec::new(),
            closed: Vec::new(),
            backlog: VecDeque::new(),
            carry: Carry::new(first, size, keep, most),
        };
        writer.begin().map_err(&io)?;
        position::pull_back(&dir, recovered.head).map_err(&io)?;
        // Both have it: neither writes beside another process when the other has ended.
        let (locked, syncing) = (lock.clone(), SyncEnd(shared.clone()));
        spawn("tollgate-journal", move || {
            writer.run();
            drop(locked);
        })
        .map_err(&io)?;
        spawn("tollgate-journal-sync", move || {
            Sync::run(&syncing.0);
            drop((syncing, lock));
        })
        .inspect_err(|_| shared.queue.close())
        .map_err(&io)?;
        Ok(Journal { shared, shipments: Shipments::default(), left: recovered.left.into(), is_mine: true })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// The lock that says who writes here; given back when the file is closed, by the process or with it.
fn lock(dir: &Path) -> Result<File, JournalError> {
    let io = JournalError::io(dir);
    let file = owners().open(dir.join("lock")).map_err(&io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::locked(dir)),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("dir", &self.shared.dir).field("left", &self.left.len()).finish_non_exhaustive()
    }
}
