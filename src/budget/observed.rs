use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;

use crate::call::Call;
use crate::dialect::prefix::Prefix;
use crate::domain::estimate::Observation;
use crate::domain::outcome::Outcome;
use crate::domain::principal::Principal;

/// How many messages back an earlier end is looked for: turns are shorter, and everyone else waits meanwhile.
const DEEPEST: usize = 64;
/// How many are remembered for certain, and twice as many at most.
const MOST: usize = 50_000;

/// What providers have billed for the conversations of this gateway's callers, of late. Nothing of them but a fingerprint
/// is kept, and each caller's own are known to that caller alone.
#[derive(Debug, Default)]
pub(super) struct Observations {
    seed: RandomState,
    kept: Mutex<Kept>,
}

/// What is young is asked first; what grows old without being asked for is forgotten.
#[derive(Debug, Default)]
struct Kept {
    young: HashMap<Place, Observation>,
    old: HashMap<Place, Observation>,
}

/// Whose, of what model; and what it looked like.
type Place = (u64, u64);

impl Observations {
    /// Of the longest beginning that was billed before.
    pub(super) fn find(&self, principal: &Principal, model: &str, prefixes: &[Prefix]) -> Option<Observation> {
        let whose = self.whose(principal, model);
        let mut kept = self.lock();
        prefixes.iter().rev().take(DEEPEST).find_map(|prefix| {
            let place = (whose, prefix.fingerprint);
            let seen = kept.get(place)?;
            (seen.bytes == prefix.bytes).then_some(seen)
        })
    }

    fn remember(&self, principal: &Principal, model: &str, whole: Prefix, seen: Observation) {
        let place = (self.whose(principal, model), whole.fingerprint);
        self.lock().insert(place, seen);
    }

    fn whose(&self, principal: &Principal, model: &str) -> u64 {
        self.seed.hash_one((principal.key, &principal.name, model))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the end of a call will tell of its conversation.
pub(super) struct Lesson {
    observations: Arc<Observations>,
    whole: Prefix,
    /// But for what is billed.
    seen: Observation,
    model: Arc<str>,
}

impl Lesson {
    /// Of a call that has anything to tell.
    pub(super) fn of(call: &Call, observations: &Arc<Observations>) -> Option<Self> {
        let head = call.head()?;
        let whole = *head.prefixes().last()?;
        let model = match call.route() {
            Some(targets) => &targets.first()?.model,
            None => call.model()?,
        };
        let seen = Observation::new(head.inputs(), call.catalog().find(model)?, 0, whole.bytes)?;
        Some(Lesson { observations: observations.clone(), whole, seen, model: model.clone() })
    }

    /// Of one answer, whole, by the model that was asked first: what several were billed is not one's beginning.
    pub(super) fn learn(mut self, outcome: &Outcome) {
        let ([attempt], Some(principal)) = (&outcome.attempts[..], &outcome.principal) else { return };
        let is_its = attempt.target.as_ref().is_none_or(|target| target.model == self.model);
        if let Some(usage) = attempt.usage.filter(|_| attempt.usage_is_final && is_its) {
            self.seen.input = usage.total_input();
            self.observations.remember(principal, &self.model, self.whole, self.seen);
        }
    }
}

impl Kept {
    fn get(&mut self, place: Place) -> Option<Observation> {
        match self.young.get(&place) {
            Some(seen) => Some(*seen),
            None => {
                let seen = self.old.remove(&place)?;
                self.insert(place, seen);
                Some(seen)
            }
        }
    }

    fn insert(&mut self, place: Place, seen: Observation) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place, seen);
    }
}
