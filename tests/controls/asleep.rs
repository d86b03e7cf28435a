//! A machine that sleeps while a provider works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::clock::{Clock, ManualClock};
use tollgate::domain::outcome::AttemptEnd;
use tollgate::domain::usage::Usage;
use tollgate::testing::{Fault, Script};
use tower::{ServiceExt, service_fn};

use crate::budgets::ada;
use crate::world::{MESSAGES, World, post};

const MODEL: &str = "claude-haiku-5-5";
const MOST: u64 = 50_000;

/// The time of day goes on in a sleep, and what measures durations does not.
#[derive(Debug, Clone)]
struct Asleep {
    awake: Arc<ManualClock>,
    slept: Arc<AtomicU64>,
}

impl Clock for Asleep {
    fn now(&self) -> Timestamp {
        self.awake.now() + Duration::from_secs(self.slept.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.awake.elapsed()
    }
}

#[tokio::test]
async fn what_a_provider_can_have_made_while_the_machine_slept_is_charged() {
    let mut charged = Vec::new();
    for sleeps in [0, 60, 3_600] {
        let slept = Arc::new(AtomicU64::new(0));
        let awake = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
        let clock = Asleep { awake, slept: slept.clone() };
        let world = World::behind(
            |provider| {
                service_fn(move |request| {
                    slept.store(sleeps, Ordering::Relaxed);
                    provider.clone().oneshot(request)
                })
            },
            |layer| layer.clock(clock),
        );
        let key = world.mint(ada("1000")).await;
        world.provider.script(Script::new().deltas(9).fault(Fault::Abort, 3));
        let body = json!({ "model": MODEL, "max_tokens": MOST, "stream": true,
            "messages": [{ "role": "user", "content": "Hello" }] });
        assert_eq!(world.ask(post(MESSAGES, &key, &body)).await.status, 200);
        let record = world.records().await.remove(0);
        assert_eq!(record.attempts[0].end, AttemptEnd::Broken);
        charged.push(record.charged.expect("a budget"));
        assert!(record.charged <= record.granted, "{record:?}");
    }
    assert!(charged[0] < charged[1] && charged[1] < charged[2], "{charged:?}");
    let all = Usage { output: MOST, ..Usage::default() };
    let all = Catalog::builtin().find(MODEL).expect("a price").cost(&all, Terms::default());
    assert!(Some(charged[2]) > all, "in an hour, all of it: {charged:?}");
}
