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

/// The part of a store's memory that is left unused as a margin: clocks differ, and settling takes time.
const ABOUT: u32 = 12;

/// A journal, which only this process writes. See the [module](super).
pub struct Journal {
    shared: Arc<Shared>,
    shipments: Shipments,
    left: VecDeque<Left>,
    /// No [`Trails`](super::Trails) has taken the journal over, and will close it.
    is_mine: bool,
}

/// What [`Journal::settle_lost`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Corrected {
    /// Calls whose end nobody saw. They are closed now, and their budgets are charged the most that they can have cost.
    pub lost: usize,
    /// Calls that had closed just before, and whose budgets may not have been settled. They are settled now.
    pub told_again: usize,
    /// Calls of either kind that are too old. A store may have forgotten whether they were settled, so no store is
    /// told, and what they held stays charged in full.
    pub too_old: usize,
}

/// Options for a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    dir: PathBuf,
    segment: u64,
    keep: u64,
    most: u64,
    calls: usize,
}

impl Journal {
    /// Options for a journal in this directory. The directory must exist, so that a volume that is not mounted is
    /// noticed.
    #[must_use]
    pub fn at(dir: impl AsRef<Path>) -> JournalOptions {
        // The working directory may change, and the journal's must not.
        let dir = std::path::absolute(&dir).unwrap_or_else(|_| dir.as_ref().to_owned());
        JournalOptions { dir, segment: 32 << 20, keep: 256 << 20, most: 8 << 30, calls: 65_536 }
    }

    /// Delivers every final to this sink. It starts where a sink of this name stopped before; the first time, at the
    /// beginning.
    ///
    /// # Errors
    /// When a sink with this name exists already, when the name has other characters than small letters, digits, `-`
    /// and `_`, and when the position of the sink cannot be read.
    pub fn ship(mut self, name: &str, sink: impl AuditSink) -> Result<Self, JournalError> {
        self.shipments.add(&self.shared, name, Sink::Records(Box::new(sink)))?;
        Ok(self)
    }

    /// Delivers every [event](crate::domain::event) to this sink. It starts where a sink of this name stopped before;
    /// the first time, at the beginning.
    ///
    /// Events that the sink has not taken wait for it, up to 1,000 events and 1 MiB. If the sink is slow, the journal
    /// is read on only as fast as the sink takes events, so it misses none. The oldest events go to the log instead in
    /// two cases: the sink has taken none for a minute, or the journal has little room left because it is kept for this
    /// sink.
    ///
    /// # Errors
    /// As for [`ship`](Self::ship).
    pub fn notify(mut self, name: &str, sink: impl EventSink) -> Result<Self, JournalError> {
        self.shipments.add(&self.shared, name, Sink::Events(Box::new(sink)))?;
        Ok(self)
    }

    /// Takes events into this journal.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.shared.clone())
    }

    /// Closes the calls that an earlier process left, and settles their budgets.
    ///
    /// A call whose end the earlier process did not see is charged the most that it can have cost. A call that the
    /// earlier process closed last is charged what it recorded. A threshold that this reaches goes to the sinks of
    /// [`notify`](Self::notify).
    ///
    /// Call it at startup, with the store that the budgets are kept in, before you give the journal away. Giving it
    /// away closes the calls that are left without telling any store, so what they held stays charged in full.
    ///
    /// # Errors
    /// When the store cannot be told. The calls that it was told of are done; the rest come with the next call of this
    /// method.
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
                    // A threshold is told once per window, and this was the time.
                    let key = || left.record.as_ref().and_then(AuditRecord::key);
                    news.into_iter().for_each(|crossing| self.events().crossing(&crossing.by_key(key())));
                }
                Some((reservation, charged)) => {
                    corrected.too_old += 1;
                    tracing::warn!(call = %left.id, granted = %reservation.granted, %charged, "a call of an earlier run ended too long ago; its budgets are not corrected");
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

    /// Records in this journal what content is kept: for [`ContentLayer::sealed_by`](crate::ContentLayer::sealed_by).
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
    /// The size of a segment: 32 MiB unless set, and at least 1 MiB. There are always at least two segments.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment = bytes;
        self
    }

    /// How many bytes are kept of what every sink of records has had: 256 MiB unless set. Without a sink of records
    /// nothing is removed.
    #[must_use]
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep = bytes;
        self
    }

    /// How large the journal may become before it lets no call through: 8 GiB unless set. The finals of calls that were
    /// let through are written beyond it.
    #[must_use]
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// How many calls may be open, or closed and not yet written: 65,536 unless set.
    #[must_use]
    pub fn calls(mut self, calls: usize) -> Self {
        self.calls = calls;
        self
    }

    /// Opens the journal: finds what an earlier process left, and begins a new segment. Blocks until that is on the
    /// disk.
    ///
    /// # Errors
    /// When the directory does not exist, cannot be written, has no room for two segments, or is in use by another
    /// process, and when a size is too small.
    pub fn open(self) -> Result<Journal, JournalError> {
        let JournalOptions { dir, segment: size, keep, most, calls } = self;
        let calls = calls.clamp(1, Semaphore::MAX_PERMITS);
        if size < 4 * LONGEST as u64 || most < size.saturating_mul(2) {
            return Err(JournalError::setting(
                &dir,
                "a segment must have at least 1 MiB, and a journal room for at least two segments",
            ));
        }
        let io = JournalError::io(&dir);
        let lock = Arc::new(lock(&dir)?);
        let segments = segment::list(&dir).map_err(&io)?;
        let recovered = recover(&segments).map_err(&io)?;
        // Such a segment was made just before the machine died, and was never written to. It would stand behind what is
        // written now.
        let lies_behind = |segment: &&Segment| segment.first > recovered.head.seq;
        for segment in segments.iter().filter(lies_behind) {
            segment::set_aside(segment).map_err(&io)?;
        }
        let mut lines = Vec::new();
        let missing = position::missing(&dir, recovered.head).map_err(&io)?;
        let (at, version) = (SystemClock.now(), env!("CARGO_PKG_VERSION").to_owned());
        let opened = Opened { at, version, torn: recovered.torn, missing };
        // For a last line that no journal has written.
        let none_left =
            JournalError::setting(&dir, "the number of its last line is the highest possible, so no line can be added");
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
            unmade: None,
            closed: Vec::new(),
            backlog: VecDeque::new(),
            carry: Carry::new(first, size, keep, most),
            unnamed: None,
            has_rolled: false,
            is_lost: false,
        };
        writer.begin().map_err(&io)?;
        position::pull_back(&dir, recovered.head).map_err(&io)?;
        // Both threads hold the lock, so that neither writes beside another process once the other thread has ended.
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

/// The lock that says who writes here. It is released when the file is closed, by the process or at its end.
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
