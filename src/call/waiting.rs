//! Tells stores until they have heard, counts what still waits, and limits what is logged about it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use uuid::Uuid;

use super::left::Owed;
use crate::store::{Chain, StoreError, at_once, contained, so_far};

/// The most settlements that may wait for stores to come back; the same number of settlements for nothing may wait
/// besides. Without it memory has no bound: while a store is away, calls whose budgets are all soft still pass.
pub(super) const MOST_WAITING: usize = 100_000;

/// How often an answer is waited for before the store is asked again.
const OUTLAST: u32 = 12;

/// The pause before a store is told again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A store is told no more when less than one part in this many is left of its memory.
const ABOUT: u32 = 12;

/// What is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Budget,
    RateLimit,
}

impl Kind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Kind::Budget => "a budget",
            Kind::RateLimit => "a rate limit",
        }
    }
}

/// Something that has happened, and that a store must hear of.
pub(crate) trait Fact: Send + Sync + 'static {
    /// The kind of settlement.
    const KIND: Kind;

    /// Tells the store, which may have heard before.
    fn tell(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether this settles a question that came to nothing.
    fn is_nothing(&self) -> bool;

    /// How long the store remembers that it was told.
    fn memory(&self) -> Duration;

    /// The store has not heard, and is told no more.
    fn given_up(&self) {}
}

/// Tells a store what it is owed. The first poll uses no timers; anything that needs more than one poll runs on the
/// runtime that it is spawned on.
pub(super) async fn tell<F: Fact>(mut owed: Owed<F>, waiting: Arc<Waiting>) {
    let call = owed.call;
    if let Some(fact) = &owed.fact {
        if is_forgotten(call, fact, owed.unsure_since) {
            fact.given_up();
        } else {
            let mut telling = pin!(contained(fact.tell()));
            let said = at_once(telling.as_mut()).await;
            if !matches!(said, Some(Ok(()))) {
                yield_now().await;
                Box::pin(tell_on(call, fact, telling, said, (&mut owed.unsure_since, waiting))).await;
            }
        }
    }
    owed.fact = None;
}

/// Continues what was not told at once: waits for the answer, and asks again when there is none.
async fn tell_on<F: Fact>(
    call: Uuid,
    fact: &F,
    mut telling: Pin<&mut impl Future<Output = Result<(), StoreError>>>,
    said: Option<Result<(), StoreError>>,
    (unsure_since, waiting): (&mut Option<Instant>, Arc<Waiting>),
) {
    let said = match said {
        None => so_far(telling.as_mut()).await,
        said => said,
    };
    if matches!(said, Some(Ok(()))) {
        return;
    }
    let Some(mut place) = Place::take(call, waiting, F::KIND, fact.is_nothing()) else { return fact.given_up() };
    let mut said = match said {
        Some(said) => said,
        None => place.outlast(telling).await,
    };
    let mut pause = FIRST_PAUSE;
    while let Err(error) = said {
        place.say(&error);
        if error.may_have_applied() {
            unsure_since.get_or_insert_with(Instant::now);
        }
        // An error that a retry does not fix may still be fixed by an operator. Until then, holds stay held.
        if !error.is_unavailable() {
            pause = LAST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        if is_forgotten(call, fact, *unsure_since) {
            return fact.given_up();
        }
        said = place.outlast(pin!(contained(fact.tell()))).await;
    }
}

/// Whether a store that may have heard is about to forget it.
fn is_forgotten<F: Fact>(call: Uuid, fact: &F, unsure_since: Option<Instant>) -> bool {
    let Some(since) = unsure_since else { return false };
    let memory = fact.memory();
    let is_forgotten = since.elapsed() > memory - memory / ABOUT;
    if is_forgotten {
        tracing::error!(%call, "{} is not settled: the store may already have applied it and no longer remembers, so it is not sent again", F::KIND.words());
    }
    is_forgotten
}

/// What stores could not be told yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    many: [AtomicUsize; 2],
    /// For each kind, and for stores that are away or broken, one settlement logs each of its failures, for all that
    /// wait.
    has_speaker: [[AtomicBool; 2]; 2],
}

impl Waiting {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.many.iter().map(|many| many.load(Ordering::Relaxed)).sum()
    }
}

/// A place among those that wait. Dropping it leaves.
pub(super) struct Place {
    call: Uuid,
    kind: Kind,
    is_nothing: bool,
    waiting: Arc<Waiting>,
    /// Whether this one logs, for stores that are away (`true`) or broken (`false`).
    speaks: Option<bool>,
}

impl Place {
    pub(super) fn take(call: Uuid, waiting: Arc<Waiting>, kind: Kind, is_nothing: bool) -> Option<Self> {
        let before = waiting.many[usize::from(is_nothing)].fetch_add(1, Ordering::Relaxed);
        let place = Place { call, kind, is_nothing, waiting, speaks: None };
        if before >= MOST_WAITING {
            tracing::error!(%call, "{} is not settled: too many settlements are waiting ({MOST_WAITING})", kind.words());
            return None;
        }
        Some(place)
    }

    /// Waits for an answer, up to a minute. A repeated question would not return the thresholds that the answer
    /// reports.
    pub(super) async fn outlast(
        &mut self,
        mut telling: Pin<&mut impl Future<Output = Result<(), StoreError>>>,
    ) -> Result<(), StoreError> {
        for _ in 0..OUTLAST {
            if let Some(said) = so_far(telling.as_mut()).await {
                return said;
            }
            self.say(&StoreError::uncertain("no answer yet"));
        }
        Err(StoreError::uncertain("no answer within a minute"))
    }

    pub(super) fn say(&mut self, error: &StoreError) {
        if self.is_speaker(error.is_unavailable()) {
            let (call, waiting, error) = (self.call, self.waiting.len(), Chain(error));
            tracing::error!(%call, waiting, %error, "{} could not be settled; trying again", self.kind.words());
        }
    }

    /// Whether this is the one that logs, of thousands with the same failure.
    pub(super) fn is_speaker(&mut self, is_away: bool) -> bool {
        if self.speaks == Some(is_away) {
            return true;
        }
        self.fall_silent();
        let is_first =
            !self.waiting.has_speaker[self.kind as usize][usize::from(is_away)].swap(true, Ordering::Relaxed);
        self.speaks = is_first.then_some(is_away);
        is_first
    }

    fn fall_silent(&mut self) {
        if let Some(is_away) = self.speaks.take() {
            self.waiting.has_speaker[self.kind as usize][usize::from(is_away)].store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.many[usize::from(self.is_nothing)].fetch_sub(1, Ordering::Relaxed);
        self.fall_silent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let waiting = Arc::new(Waiting::default());
        let take = |is_nothing| Place::take(Uuid::nil(), waiting.clone(), Kind::Budget, is_nothing);
        let mut places: Vec<_> = (0..MOST_WAITING).map(|_| take(false).expect("room")).collect();
        assert!(take(false).is_none());
        assert!(take(true).is_some(), "what came to nothing takes no room of what did not");
        places.pop();
        assert!(take(false).is_some());
    }
}
