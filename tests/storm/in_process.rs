//! The storm without sockets: as many interleavings as a seed can make.

use std::sync::Arc;

use tokio::task::JoinSet;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::domain::clock::ManualClock;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};

use crate::calls::{Ask, crowd};
use crate::oracle::{Sum, reckon};
use crate::seeded::{Seeded, seeds};
use crate::site::Site;
use crate::watched::Watched;
use crate::weather::{Weather, Weathered};

/// So that no window ends in the middle of a storm at midnight.
pub(crate) fn noon() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-25T12:00:00Z".parse().expect("a time")))
}

/// Runs so many calls at once, and reckons.
async fn storm(seed: u64, calls: u64, limits: [&str; 3]) -> Sum {
    let mut random = Seeded::new(seed);
    let keys = MemoryKeys::new();
    let (secrets, pots) = crowd(&keys, limits);
    let weather = Weather::gusts(random.next());
    let budgets = Watched::new(MemoryBudgets::new().clock(noon()), pots, weather.clone());
    let over = OverBudget::Clamp { floor: 16, share: 4 };
    let site = Site::new(
        Weathered { store: keys, weather: weather.clone() },
        Weathered { store: MemoryLimits::new(), weather },
        BudgetLayer::new(budgets.clone()).over_budget(over),
    );
    let mut clients = JoinSet::new();
    for number in 0..calls {
        clients.spawn(Ask::random(number, &secrets, &mut random).run(site.gateway.clone()));
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client panics");
    }
    site.settled().await;
    let sum = reckon(&site, &budgets, usize::try_from(calls).expect("small"));
    eprintln!("seed {seed}: {sum:?}, closest to a limit: {:?}", budgets.ledger().closest);
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn spent_and_held_never_exceed_the_limit_among_a_thousand_calls_of_which_a_fifth_can_be_paid() {
    for seed in seeds(&[1, 2]) {
        let sum = storm(seed, 1_000, ["0.025", "0.045", "0.08"]).await;
        assert!((100..450).contains(&sum.admitted), "{sum:?}");
        assert!(sum.refused > 400 && sum.clamped > 0 && sum.abandoned > 50 && sum.complete > 50, "{sum:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn spent_and_held_never_exceed_the_limit_in_any_order_that_a_seed_makes() {
    for seed in seeds(&(100..110).collect::<Vec<_>>()) {
        storm(seed, 200, ["0.006", "0.01", "0.018"]).await;
    }
}
