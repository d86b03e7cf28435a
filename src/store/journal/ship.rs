//! Delivers finals and events to sinks, each at its own pace.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::chain::{Head, LineHash};
use super::error::JournalError;
use super::outbox::{Kept, Outbox};
use super::tail::{Tail, Told};
use super::{Shared, moments, position, resume};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::Event;
use crate::store::audit::AuditSink;
use crate::store::event::EventSink;
use crate::store::{Chain, StoreError, both, contained, patiently};

/// The most records in one delivery.
const BATCH: usize = 256;
/// How long a record waits for others.
const LINGER: Duration = Duration::from_millis(20);
/// How long to wait before a sink is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long the delivery of an event may take before the event is kept apart from the journal.
const MOMENT: Duration = Duration::from_secs(1);
/// How often to check whether waiting for room still makes sense.
const LOOK: Duration = Duration::from_millis(250);
/// How often a delivery is tried at which the sink panics.
const PANICS: u32 = 3;

/// The sinks of a journal.
#[derive(Default)]
pub(super) struct Shipments {
    all: Vec<Arc<Shipment>>,
}

struct Shipment {
    name: Arc<str>,
    sink: Sink,
    /// The events that the sink has not had and that nothing waits for.
    outbox: Outbox,
    /// A task serves it, on a runtime that has not ended.
    is_under_way: AtomicBool,
    /// Its last position could not be saved.
    is_unsaved: AtomicBool,
    /// Nor what waits for it.
    is_unkept: AtomicBool,
}

/// The result of a delivery.
enum Answer {
    Had,
    /// The sink will never take it.
    Refused(StoreError),
    /// The journal was closed meanwhile.
    Closed,
}

/// The receiver.
pub(super) enum Sink {
    Records(Box<dyn AuditSink>),
    Events(Box<dyn EventSink>),
}

impl Shipments {
    pub(super) fn add(&mut self, shared: &Shared, name: &str, sink: Sink) -> Result<(), JournalError> {
        let names: BTreeSet<&str> = self.all.iter().map(|shipment| &*shipment.name).collect();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(is_plain) || names.contains(name) {
            let what = "a sink needs a unique name of lowercase letters, digits, `-` and `_`";
            return Err(JournalError::setting(&shared.dir, what));
        }
        let name: Arc<str> = name.into();
        let had = resume::behind(&shared.dir, &name, matches!(sink, Sink::Events(_)))
            .map_err(JournalError::io(&shared.dir))?;
        let waiting = shared.dir.join(format!("{name}.waiting"));
        let outbox = match sink {
            // Events that wait there are not for this sink, and must not be waited for.
            Sink::Records(_) => Outbox::unused(waiting),
            Sink::Events(_) => Outbox::open(waiting),
        };
        shared.ack(&name, |acked| (acked.had, acked.taken) = (outbox.had(had), had));
        shared.has_record_sink.fetch_or(matches!(sink, Sink::Records(_)), Ordering::Relaxed);
        let [is_under_way, is_unsaved, is_unkept] = [const { AtomicBool::new(false) }; 3];
        self.all.push(Arc::new(Shipment { name, sink, outbox, is_under_way, is_unsaved, is_unkept }));
        Ok(())
    }

    /// Makes sure that every sink is served, on the caller's runtime if it has no task.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        for shipment in &self.all {
            if shipment.is_under_way.load(Ordering::Relaxed) {
                continue;
            }
            let Ok(runtime) = Handle::try_current() else { return };
            if !shipment.is_under_way.swap(true, Ordering::Relaxed) {
                let under_way = UnderWay(shipment.clone());
                let shared = shared.clone();
                runtime.spawn(async move { under_way.0.run(&shared).await });
            }
        }
    }
}

/// Ends with its task, even when that ends with its runtime.
struct UnderWay(Arc<Shipment>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Relaxed);
    }
}

impl Shipment {
    /// Runs until the journal is closed.
    async fn run(&self, shared: &Arc<Shared>) {
        match &self.sink {
            Sink::Records(_) => self.read(shared).await,
            Sink::Events(sink) => {
                self.outbox.reopen();
                let reading = async {
                    self.read(shared).await;
                    self.outbox.close();
                };
                both(reading, self.tell_events(shared, &**sink)).await;
            }
        }
    }

    /// Reads on, and makes sure that the sink gets everything.
    async fn read(&self, shared: &Arc<Shared>) {
        let mut written = shared.written.subscribe();
        let acked = shared.acked.lock().map(|acked| acked.get(&self.name).copied()).ok().flatten().unwrap_or_default();
        let (mut tail, mut is_stuck) = (Tail::behind(shared.dir.clone(), acked.taken), false);
        loop {
            let Some(head) = *written.borrow_and_update() else { return };
            if tail.seq() >= head.seq {
                if written.changed().await.is_err() {
                    return;
                }
                tokio::time::sleep(LINGER).await;
                continue;
            }
            let before = tail.seq();
            let reading = tokio::task::spawn_blocking(move || {
                let records = tail.read(head.seq, BATCH);
                (tail, records)
            });
            let Ok((read, records)) = reading.await else { return };
            tail = read;
            match records {
                // Somebody has removed its segments; asking all the time would not bring them back.
                Ok(told) if told.is_empty() && tail.seq() == before => {
                    if !is_stuck {
                        tracing::error!(
                            sink = &*self.name,
                            after = before,
                            "the next lines of the journal for a sink are missing"
                        );
                    }
                    is_stuck = true;
                    tokio::time::sleep(LAST_PAUSE).await;
                }
                Ok(told) => {
                    is_stuck = false;
                    if !self.tell(shared, told).await {
                        return;
                    }
                    self.ack(shared, tail.head()).await;
                }
                Err(error) => {
                    tracing::error!(%error, sink = &*self.name, "the journal cannot be read for a sink");
                    tokio::time::sleep(LAST_PAUSE).await;
                }
            }
        }
    }

    /// Delivers everything that is for the sink, unless it says that it never will take it. Returns `false` if the
    /// journal was closed meanwhile: the next process that opens it begins with these.
    async fn tell(&self, shared: &Shared, told: Vec<Told>) -> bool {
        let (mut records, mut events) = (Vec::new(), Vec::new());
        for one in told {
            match one {
                Told::Record(record) => records.push(*record),
                Told::Event(seq, event) => events.push((seq, *event)),
            }
        }
        match &self.sink {
            Sink::Records(_) if records.is_empty() => true,
            Sink::Records(sink) => {
                let mut answer = self.until_told(shared, &records[0].id, records.len(), || sink.write(&records)).await;
                // The sink may refuse only one of them.
                if matches!(answer, Answer::Refused(_)) && records.len() > 1 {
                    for record in &records {
                        let one = std::slice::from_ref(record);
                        answer = self.until_told(shared, &record.id, 1, || sink.write(one)).await;
                        if !self.goes_on(&answer, record) {
                            break;
                        }
                    }
                } else {
                    self.goes_on(&answer, &records[0]);
                }
                moments::at("sink-told");
                !matches!(answer, Answer::Closed)
            }
            Sink::Events(_) => self.take(shared, events).await,
        }
    }

    /// Puts these events into the outbox, and waits a moment for their delivery. What is not delivered by then stays in
    /// the outbox: it is little, and the journal must not grow until no call is let through only because a channel
    /// takes no messages. Returns `false` if the journal was closed before there was room for them, or before they were
    /// saved.
    async fn take(&self, shared: &Shared, events: Vec<(u64, Event)>) -> bool {
        let (is_behind, mut goes_on) = (!self.outbox.is_empty(), true);
        for part in Outbox::parts(events) {
            goes_on = self.has_room(shared, &part).await;
            if !goes_on {
                break;
            }
            for event in self.outbox.add(part) {
                self.is_lost(&"too many events are waiting for this sink", &event);
            }
        }
        if goes_on && !is_behind {
            let _ = tokio::time::timeout(MOMENT, self.outbox.emptied()).await;
        }
        goes_on && self.is_kept(shared).await
    }

    /// Waits until what waits for the sink is saved or delivered, since its lines may be removed then. Returns `false`
    /// if the journal was closed meanwhile.
    async fn is_kept(&self, shared: &Shared) -> bool {
        // No call waits for it.
        while !self.keep().await && !shared.is_short_by(&self.name) {
            tokio::time::sleep(LOOK).await;
            if shared.written.borrow().is_none() {
                return false;
            }
        }
        true
    }

    /// Waits until these have room, so that a slow sink misses nothing. Earlier events are dropped if the sink takes
    /// nothing, or if calls would have to wait for it. Returns `false` if the journal was closed meanwhile.
    async fn has_room(&self, shared: &Shared, part: &[Kept]) -> bool {
        while !self.outbox.is_stuck(SystemClock.elapsed()) && !shared.is_short_by(&self.name) {
            if tokio::time::timeout(LOOK, self.outbox.room_for(part)).await.is_ok() {
                break;
            }
            if shared.written.borrow().is_none() {
                return false;
            }
        }
        true
    }

    /// Saves what waits for the sink. Returns `false` if that failed.
    async fn keep(&self) -> bool {
        let outbox = self.outbox.clone();
        if !outbox.is_changed() {
            return true;
        }
        let kept = tokio::task::spawn_blocking(move || outbox.keep()).await;
        // Said once, and not again for each try.
        let was_unkept = self.is_unkept.swap(!matches!(kept, Ok(Ok(()))), Ordering::Relaxed);
        if let (Ok(Err(error)), false) = (&kept, was_unkept) {
            tracing::warn!(%error, sink = &*self.name, "undelivered events of a sink cannot be saved; they stay in the journal for as long as it has room, and after that only in memory");
        }
        matches!(kept, Ok(Ok(())))
    }

    /// Delivers what waits, one event after the other, until the journal is closed.
    async fn tell_events(&self, shared: &Shared, sink: &dyn EventSink) {
        while let Some(event) = self.outbox.next().await {
            let answer = self.until_told(shared, &event.id, 1, || sink.tell(&event)).await;
            if !self.goes_on(&answer, &event) {
                return;
            }
            if self.outbox.told() {
                self.keep().await;
            }
            shared.ack(&self.name, |acked| acked.had = self.outbox.had(acked.taken));
        }
    }

    /// Returns `false` if the journal was closed. What the sink refuses is logged in full, since the sink never gets
    /// it.
    fn goes_on(&self, answer: &Answer, told: &impl Serialize) -> bool {
        if let Answer::Refused(error) = answer {
            self.is_lost(&Chain(error), told);
        }
        !matches!(answer, Answer::Closed)
    }

    fn is_lost(&self, error: &dyn Display, told: &impl Serialize) {
        let told = serde_json::to_string(told).unwrap_or_default();
        tracing::error!(%error, sink = &*self.name, told, "a record or an event cannot be delivered to a sink; it is only in the journal and in this log line");
    }

    async fn until_told<F: Future<Output = Result<(), StoreError>>>(
        &self,
        shared: &Shared,
        first: &Uuid,
        many: usize,
        tell: impl Fn() -> F,
    ) -> Answer {
        let (sink, mut pause, mut panics) = (&*self.name, FIRST_PAUSE, 0);
        while let Err(error) = patiently(many, contained(tell())).await {
            tracing::error!(error = %Chain(&error), sink, %first, "records or events of the journal could not be delivered to a sink");
            panics += u32::from(error.is_panic());
            if !error.is_unavailable() && (!error.is_panic() || panics >= PANICS) {
                return Answer::Refused(error);
            }
            tokio::time::sleep(pause).await;
            if shared.written.borrow().is_none() {
                return Answer::Closed;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
        Answer::Had
    }

    /// The outbox was stored before, since what is acknowledged may be removed.
    async fn ack(&self, shared: &Arc<Shared>, had: Head) {
        let (dir, name) = (shared.dir.clone(), self.name.clone());
        if had.hash == LineHash::NONE {
            // Behind lines that cannot be read there is no hash to identify the position.
            return self.has_come(shared, had.seq);
        }
        let kept = tokio::task::spawn_blocking(move || position::write(&dir, &name, had)).await;
        // Said once, and not again for each batch that a full disk has no room for.
        let was_unsaved = self.is_unsaved.swap(!matches!(kept, Ok(Ok(()))), Ordering::Relaxed);
        if let (Ok(Err(error)), false) = (kept, was_unsaved) {
            tracing::warn!(%error, sink = &*self.name, "the position of a sink cannot be saved; after a restart it is sent the same lines again");
        }
        self.has_come(shared, had.seq);
    }

    fn has_come(&self, shared: &Shared, seq: u64) {
        shared.ack(&self.name, |acked| (acked.had, acked.taken) = (self.outbox.had(seq), seq));
    }
}
