//! Stores that fail in the middle of a storm: requests are lost, or are done without an answer, and are repeated.

use tollgate::domain::outcome::{End, Outcome};
use tollgate::domain::rejection::RejectionKind;

use crate::in_process::Storm;
use crate::oracle::Sum;
use crate::seeded::{Seeded, seeds};
use crate::weather::Weather;

/// Runs a storm in the middle of which two of three requests to any store fail, either lost or without an answer.
async fn outage(seed: u64, calls: u64, limits: [&str; 3]) -> (Sum, Vec<Outcome>) {
    let mut random = Seeded::new(seed);
    let storm = Storm::new(Weather::gusts(random.next()), limits);
    let (dies, recovers) = (calls / 10, calls * 9 / 10);
    let weather = storm.weather.clone();
    let progress = move |ended: usize| match ended as u64 {
        ended if ended == dies => weather.storm(true),
        ended if ended == recovers => weather.storm(false),
        _ => {}
    };
    storm.rage(calls, &mut random, progress).await;
    let sum = storm.reckon(calls).await;
    let closed = storm.site.closed.lock().clone();
    (sum, closed)
}

fn assert_refused_for_the_store(closed: &[Outcome]) {
    let refused = |outcome: &&Outcome| outcome.rejection == Some(RejectionKind::StoreUnavailable);
    let refused: Vec<_> = closed.iter().filter(refused).collect();
    assert!(refused.len() > closed.len() / 10, "{} were refused for the store", refused.len());
    for outcome in refused {
        assert_eq!(outcome.end, End::Refused);
        assert!(outcome.attempts.is_empty() && outcome.granted.is_none() && outcome.charged.is_none(), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_dies_in_the_storm_keeps_no_money_charges_nothing_twice_and_lets_nobody_in() {
    for seed in seeds(&[11]) {
        let (sum, closed) = outage(seed, 1_000, ["0.03", "0.055", "0.1"]).await;
        assert!(sum.admitted > 50 && sum.complete > 50, "{sum:?}");
        assert_refused_for_the_store(&closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_dies_in_any_order_that_a_seed_makes_keeps_no_money() {
    for seed in seeds(&(200..210).collect::<Vec<_>>()) {
        let (sum, closed) = outage(seed, 200, ["0.005", "0.009", "0.015"]).await;
        assert!(sum.admitted > 10, "{sum:?}");
        assert_refused_for_the_store(&closed);
    }
}
