use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderName};

use crate::call::Call;
use crate::dialect::prefix::Prefix;
use crate::domain::estimate::Observation;
use crate::domain::outcome::Outcome;
use crate::domain::target::Target;

/// At least this many observations are kept, and at most twice as many.
const MOST: usize = 50_000;

/// What providers have recently billed for conversations of this gateway's callers. Only fingerprints of the
/// conversations are kept, and a caller can use only its own observations.
#[derive(Debug, Default)]
pub(super) struct Observations {
    seed: RandomState,
    kept: Mutex<Kept>,
}

/// `young` is searched first. What ages without being used is dropped.
#[derive(Debug, Default)]
struct Kept {
    young: HashMap<Place, Observation>,
    old: HashMap<Place, Observation>,
}

/// The setting, and the fingerprint of the prefix.
type Place = (u64, u64);

/// The setting in which a request is billed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting(u64);

impl Observations {
    /// The observation for the longest known prefix in this setting.
    pub(super) fn find(&self, setting: Setting, prefixes: &[Prefix]) -> Option<Observation> {
        let mut kept = self.lock();
        prefixes.iter().rev().find_map(|prefix| {
            let seen = kept.get((setting.0, prefix.fingerprint))?;
            (seen.bytes == prefix.bytes).then_some(seen)
        })
    }

    fn remember(&self, setting: Setting, whole: Prefix, seen: Observation) {
        self.lock().insert((setting.0, whole.fingerprint), seen);
    }

    /// Everything outside of the request body that affects what is billed: the caller; the client's dialect, which
    /// decides what is sent; the upstream and model; and the betas. `target` is `None` if the inner service is the
    /// host's own.
    pub(super) fn setting(&self, call: &Call, target: Option<&Target>, betas: u64) -> Option<Setting> {
        let principal = call.principal()?;
        let model = target.map_or_else(|| call.model(), |target| Some(&target.model));
        let upstream = target.map(|target| &target.upstream);
        Some(Setting(self.seed.hash_one((principal.key, &principal.name, call.dialect(), upstream, model, betas))))
    }

    /// The request's betas, hashed into one number.
    pub(super) fn betas(&self, headers: &HeaderMap) -> u64 {
        const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
        headers.get_all(BETA).iter().fold(0, |betas, value| self.seed.hash_one((betas, value.as_bytes())))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the end of a call will teach about its conversation.
pub(super) struct Lesson {
    observations: Arc<Observations>,
    whole: Prefix,
    /// Complete except for the billed input.
    seen: Observation,
    setting: Setting,
    target: Option<Arc<Target>>,
}

impl Lesson {
    /// For a call that has prefixes to learn from.
    pub(super) fn of(call: &Call, betas: u64, observations: &Arc<Observations>) -> Option<Self> {
        let head = call.head()?;
        let whole = *head.prefixes().last()?;
        let target = match call.route() {
            Some(targets) => Some(targets.first()?.clone()),
            None => None,
        };
        let model = target.as_ref().map_or_else(|| call.model(), |target| Some(&target.model))?;
        let seen = Observation::new(head.inputs(), call.catalog().find(model)?, 0, whole.bytes)?;
        let setting = observations.setting(call, target.as_deref(), betas)?;
        Some(Lesson { observations: observations.clone(), whole, seen, setting, target })
    }

    /// Learns from a single complete answer of the first target: the bill of several attempts does not belong to one
    /// prefix. Servers that do not count state zero input, which is ignored.
    pub(super) fn learn(mut self, outcome: &Outcome) {
        let [attempt] = &outcome.attempts[..] else { return };
        let is_its = attempt.target.as_ref() == self.target.as_deref();
        let billed = attempt.usage.filter(|_| attempt.usage_is_final && is_its).map_or(0, |usage| usage.total_input());
        if billed > 0 {
            self.seen.input = billed;
            self.observations.remember(self.setting, self.whole, self.seen);
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
