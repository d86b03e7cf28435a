//! Telling stores until they have heard, what they could not be told yet, and who says so in the log.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;
use uuid::Uuid;

use super::left::Owed;
use crate::store::{Chain, StoreError, at_once, contained, so_far};

/// How much may wait for stores to be there again, and how many questions that nothing came of besides. Of what a store that
/// is away has let through there is no end, since budgets that refuse nothing are not asked about; so there is one here, before
/// memory has it.
pub(super) const MOST_WAITING: usize = 100_000;

/// How often an answer is waited for before the store is asked anew.
const OUTLAST: u32 = 12;

/// How long to wait before a store is told again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A store is told no more where it is about to forget that it was.
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
    /// What it is.
    const KIND: Kind;

    /// Tells the store, which may have heard before.
    fn tell(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether it is only that nothing came of a question.
    fn is_nothing(&self) -> bool;

    /// For how long the store knows that it was told.
    fn memory(&self) -> Duration;

    /// It has not heard, and is told no more.
    fn given_up(&self) {}
}

/// Tells a store what it is owed. What asks for more than one look at it, as timers do, is for the runtime that it is spawned on.
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

/// Goes on with what was not told at once: waits for the answer, and asks again once there is none to wait for.
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
        // What asking again will not help may still be mended by somebody: until then, what is held stays held.
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

/// Whether a store that may have heard is about to forget that it did.
fn is_forgotten<F: Fact>(call: Uuid, fact: &F, unsure_since: Option<Instant>) -> bool {
    let Some(since) = unsure_since else { return false };
    let memory = fact.memory();
    let is_forgotten = since.elapsed() > memory - memory / ABOUT;
    if is_forgotten {
        tracing::error!(%call, "{} is not settled: its store may have heard, and forgotten that it did", F::KIND.words());
    }
    is_forgotten
}

/// What stores could not be told yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    many: [AtomicUsize; 2],
    /// Of each kind, and of stores that are away or broken, one says in the log, each time it fails, that they wait.
    has_speaker: [[AtomicBool; 2]; 2],
}

impl Waiting {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.many.iter().map(|many| many.load(Ordering::Relaxed)).sum()
    }
}

/// A place among those that wait, left when it is dropped.
pub(super) struct Place {
    call: Uuid,
    kind: Kind,
    is_nothing: bool,
    waiting: Arc<Waiting>,
    /// Where it is the one that speaks, and of a store that is away, or of one that is broken.
    speaks: Option<bool>,
}

impl Place {
    pub(super) fn take(call: Uuid, waiting: Arc<Waiting>, kind: Kind, is_nothing: bool) -> Option<Self> {
        let before = waiting.many[usize::from(is_nothing)].fetch_add(1, Ordering::Relaxed);
        let place = Place { call, kind, is_nothing, waiting, speaks: None };
        if before >= MOST_WAITING {
            tracing::error!(%call, "{} is not settled: {MOST_WAITING} calls wait for that", kind.words());
            return None;
        }
        Some(place)
    }

    /// Waits for an answer, up to a minute: whoever asks anew hears of no threshold that the answer would have told of.
    pub(super) async fn outlast(
        &mut self,
        mut telling: Pin<&mut impl Future<Output = Result<(), StoreError>>>,
    ) -> Result<(), StoreError> {
        for _ in 0..OUTLAST {
            if let Some(said) = so_far(telling.as_mut()).await {
                return said;
            }
            self.say(&StoreError::uncertain("it does not answer"));
        }
        Err(StoreError::uncertain("it did not answer for a minute"))
    }

    pub(super) fn say(&mut self, error: &StoreError) {
        if self.is_speaker(error.is_unavailable()) {
            let (call, waiting, error) = (self.call, self.waiting.len(), Chain(error));
            tracing::error!(%call, waiting, %error, "{} could not be settled", self.kind.words());
        }
    }

    /// Whether it is the one that speaks, of thousands that say the same.
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
