use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::budget::Pot;
use crate::store::budget::Reservation;

/// The bounds of `retry-after` for money that is held.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);

/// Only this many of the oldest calls are searched, so that a store that refuses many calls does not delay others.
const MOST: usize = 1_000;

/// The weight of the latest call in the moving average of durations: one part in this many.
const WEIGHT: u64 = 8;

/// The calls of this gateway that hold money, and how long such calls usually take: estimates when money may come back.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// By call id; ids sort by creation time.
    live: Mutex<BTreeMap<Uuid, Flight>>,
    usual_millis: AtomicU64,
}

#[derive(Debug)]
struct Flight {
    began: Timestamp,
    reservation: Arc<Reservation>,
}

impl Flights {
    /// Records that the call holds this reservation from now on.
    pub(super) fn begin(&self, call: Uuid, began: Timestamp, reservation: Arc<Reservation>) {
        self.lock().insert(call, Flight { began, reservation });
    }

    /// Records that the call has ended.
    pub(super) fn end(&self, call: Uuid, now: Timestamp) {
        let Some(ended) = self.lock().remove(&call) else { return };
        let took = age(&ended, now);
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mean = |usual: u64| match usual {
            0 => took,
            usual => usual / WEIGHT * (WEIGHT - 1) + took / WEIGHT,
        };
        // A concurrent update may be lost, which does no harm.
        self.usual_millis.store(mean(self.usual_millis.load(Ordering::Relaxed)).max(1), Ordering::Relaxed);
    }

    /// Estimates how long it will be until the oldest call that holds money of `pot` gives it back. Calls of other
    /// gateways are not known here.
    pub(super) fn until_back(&self, pot: &Pot, now: Timestamp) -> Duration {
        let live = self.lock();
        let holds = |flight: &&Flight| flight.reservation.pots.iter().any(|pinned| pinned.pot == *pot);
        let Some(age) = live.values().take(MOST).find(holds).map(|flight| age(flight, now)) else { return SOONEST };
        drop(live);
        let usual = Duration::from_millis(self.usual_millis.load(Ordering::Relaxed));
        usual.saturating_sub(age).clamp(SOONEST, LATEST)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Flight>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age(flight: &Flight, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(flight.began)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::Window;
    use crate::domain::money::Money;
    use crate::domain::scope::Scope;
    use crate::store::budget::Pinned;

    fn pot(name: &str) -> Pot {
        Pot { scope: Scope::team(name), window: Window::Day }
    }

    #[test]
    fn who_is_refused_for_what_others_hold_comes_back_when_the_oldest_of_them_should_be_done() {
        let flights = Flights::default();
        let at = |second| Timestamp::from_second(second).expect("a time");
        let call = Uuid::from_u128;
        let begin = |id: u128, name: &str, second| {
            let pinned = Pinned { pot: pot(name), window_start: at(0), limit: Money::MAX };
            let (granted, pots) = (Money::ZERO, vec![pinned]);
            flights.begin(call(id), at(second), Arc::new(Reservation { id: call(id), granted, pots }));
        };
        let until = |name, second| flights.until_back(&pot(name), at(second)).as_secs();
        begin(1, "a", 100);
        assert_eq!(until("a", 100), 1, "nobody knows yet how long a call takes");
        flights.end(call(1), at(140));
        begin(2, "a", 200);
        begin(3, "a", 220);
        begin(4, "b", 190);
        assert_eq!((until("a", 230), until("b", 230), until("c", 230)), (10, 1, 1), "the oldest of its own pot");
        flights.end(call(2), at(240));
        assert_eq!((until("a", 240), until("a", 1_000)), (20, 1));
        for id in 5..100 {
            begin(id, "c", 300);
            flights.end(call(id), at(4_300));
        }
        assert_eq!(until("a", 230), 60, "no longer than a client waits");
        flights.end(call(3), at(4_300));
        flights.end(call(4), at(4_300));
        assert!(flights.lock().is_empty());
    }
}
