//! What stores could not be told yet, and who says so in the log.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use uuid::Uuid;

use crate::store::{Chain, StoreError, so_far};

/// How much may wait for stores to be there again, and how many questions that nothing came of besides. Of what a store that
/// is away has let through there is no end, since budgets that refuse nothing are not asked about; so there is one here, before
/// memory has it.
pub(super) const MOST_WAITING: usize = 100_000;

/// How often an answer is waited for before the store is asked anew.
const OUTLAST: u32 = 12;

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
