//! The storm without sockets. The seed decides what the clients do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::call::{LiveCalls, Settlements};
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::store::journal::{Journal, verify};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::{AdmissionLayer, AuditLayer, GatewayLayer, RateLimitLayer};

use crate::calls::{Ask, Crowd, Leaves, Together};
use crate::oracle::{Sum, reckon};
use crate::seeded::{Seeded, seeds};
use crate::site::{Closed, Records, Site, served};
use crate::support::dir::Dir;
use crate::watched::Watched;
use crate::weather::{Weather, Weathered};
use crate::whole::Whole;

/// A clock at noon, so that no window ends in the middle of a storm.
pub(crate) fn noon() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-25T12:00:00Z".parse().expect("a time")))
}

/// A crowd of clients, their site, and its stores.
pub(crate) struct Storm {
    pub(crate) crowd: Crowd,
    pub(crate) budgets: Watched,
    pub(crate) limits: MemoryLimits,
    pub(crate) weather: Weather,
    pub(crate) site: Site,
    live: LiveCalls,
}

/// What a crowd that asks at the same moment consists of.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    streams: usize,
    leaving: usize,
    /// The largest number of calls under way at one moment.
    most: usize,
}

/// How the stores of limits and budgets are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Questions {
    /// Each by its own layer.
    Two,
    /// Both in one step, by `AdmissionLayer`.
    One,
}

impl Storm {
    pub(crate) fn new(weather: Weather, limits: [&str; 3]) -> Self {
        Self::asked(Questions::Two, weather, limits)
    }

    pub(crate) fn asked(questions: Questions, weather: Weather, limits: [&str; 3]) -> Self {
        Self::recorded(questions, weather, limits, |layer| layer)
    }

    /// With another audit layer.
    pub(crate) fn recorded(
        questions: Questions,
        weather: Weather,
        limits: [&str; 3],
        trail: impl FnOnce(GatewayLayer) -> GatewayLayer,
    ) -> Self {
        let provider = Simulated::new().recording();
        let build = served(&provider, trail);
        Self::toward(provider, questions, weather, limits, build)
    }

    /// With the upstreams that `build` adds.
    pub(crate) fn toward(
        provider: Simulated,
        questions: Questions,
        weather: Weather,
        limits: [&str; 3],
        build: impl FnOnce(GatewayLayer, AuditLayer, Records, Closed, Settlements, Simulated) -> Site,
    ) -> Self {
        let keys = MemoryKeys::new();
        let crowd = Crowd::new(&keys, limits);
        let budgets = Watched::new(MemoryBudgets::new().clock(noon()), crowd.pots.clone(), weather.clone());
        let limits = MemoryLimits::new();
        let over = OverBudget::Clamp { floor: 16, share: 4 };
        let whole = Whole::new(&keys, &limits, &budgets);
        let keys = Weathered { store: keys, weather: weather.clone() };
        let live = LiveCalls::new();
        let govern = |layer: GatewayLayer| match questions {
            Questions::Two => {
                let limits = RateLimitLayer::new(Weathered { store: limits.clone(), weather: weather.clone() });
                layer.rate_limit(limits).budget(BudgetLayer::new(budgets.clone()).over_budget(over))
            }
            Questions::One => layer.admission(AdmissionLayer::new(whole).budgets(|budgets| budgets.over_budget(over))),
        };
        let site = Site::governed(provider, keys, |layer| govern(layer).live_calls(live.clone()), build);
        Storm { crowd, budgets, limits, weather, site, live }
    }

    /// Makes this many calls within 150 ms, cuts some whenever a few have ended, and reports each end to `progress`.
    pub(crate) async fn rage(&self, calls: u64, random: &mut Seeded, progress: impl Fn(usize)) {
        let mut clients = JoinSet::new();
        for number in 0..calls {
            clients.spawn(Ask::random(number, &self.crowd.secrets, random).run(self.site.gateway.clone()));
        }
        self.watch(clients, random, progress).await;
    }

    /// As [`rage`](Self::rage), but with all calls at the same moment. Returns how many are streams, how many hang up,
    /// and how many were under way at once.
    pub(crate) async fn burst(&self, calls: u64, random: &mut Seeded) -> Burst {
        let (mut clients, together, mut burst) = (JoinSet::new(), Together::of(calls), Burst::default());
        for number in 0..calls {
            let ask = Ask::at_once(number, &self.crowd.secrets, random);
            burst.streams += usize::from(ask.is_stream);
            burst.leaving += usize::from(ask.leaves != Leaves::Never);
            clients.spawn(together.clone().ask(ask.run(self.site.gateway.clone())));
        }
        self.watch(clients, random, |_| {}).await;
        Burst { most: together.most(), ..burst }
    }

    async fn watch(&self, mut clients: JoinSet<()>, random: &mut Seeded, progress: impl Fn(usize)) {
        let mut ended = 0;
        while let Some(client) = clients.join_next().await {
            client.expect("no client panics");
            ended += 1;
            if ended % 8 == 0 {
                let unlucky = random.below(256);
                self.live.cut(&revoked(), |call| call.model().is_some_and(|model| number(model) % 256 == unlucky));
            }
            progress(ended);
        }
    }

    /// Waits for the settlements, which must come to an end, and then compares bill, ledger, outcomes and records.
    pub(crate) async fn reckon(&self, calls: u64) -> Sum {
        tokio::time::timeout(Duration::from_secs(60), self.site.settled()).await.expect("settlements come to an end");
        self.crowd.assert_no_slot_is_held(&self.limits);
        assert!(self.live.is_empty(), "{:?}", self.live);
        reckon(&self.site, &self.budgets, usize::try_from(calls).expect("small"))
    }
}

/// The number of a call, from its model: each call of a storm asks for a model name of its own.
fn number(model: &str) -> u64 {
    model.bytes().filter(u8::is_ascii_digit).fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

pub(crate) fn revoked() -> Rejection {
    Rejection::new(RejectionKind::Unauthenticated, "this key was revoked")
}

/// Runs one storm: as a `burst` at one moment, or within 150 ms.
async fn storm(questions: Questions, seed: u64, calls: u64, limits: [&str; 3], burst: bool) -> (Burst, Sum) {
    let mut random = Seeded::new(seed);
    let storm = Storm::asked(questions, Weather::gusts(random.next()), limits);
    let burst = match burst {
        true => storm.burst(calls, &mut random).await,
        false => {
            storm.rage(calls, &mut random, |_| {}).await;
            Burst::default()
        }
    };
    let sum = storm.reckon(calls).await;
    eprintln!(
        "{questions:?}, seed {seed}: {burst:?}, {sum:?}, closest to a limit: {:?}",
        storm.budgets.ledger().closest
    );
    (burst, sum)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn spent_and_held_never_exceed_the_limit_among_a_thousand_calls_of_which_a_fifth_can_be_paid() {
    for (seed, questions) in
        seeds(&[1, 2]).into_iter().flat_map(|seed| [(seed, Questions::Two), (seed, Questions::One)])
    {
        let (burst, sum) = storm(questions, seed, 1_000, ["0.02", "0.035", "0.06"], true).await;
        assert!((450..550).contains(&burst.streams) && (200..300).contains(&burst.leaving), "{burst:?}");
        assert!(burst.most > 100, "{burst:?}");
        // The exact numbers depend on the scheduler.
        assert!((50..500).contains(&sum.admitted) && sum.held > 0 && sum.refused > 300, "{sum:?}");
        assert!(sum.clamped > 0 && sum.abandoned > 50 && sum.complete > 50 && sum.cut > 0, "{sum:?}");
    }
}

/// With a journal, whose lines and sink must say what the ledger and the bill say.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn journal_ledger_and_bill_agree_to_the_unit_over_a_storm() {
    for questions in [Questions::Two, Questions::One] {
        let dir = Dir::new(&format!("agree-{questions:?}"));
        let shipped = Records::default();
        let journal = Journal::at(&dir.0).segment_bytes(1 << 20).open().expect("a journal");
        let audit = AuditLayer::journaled(journal.ship("records", shipped.clone()).expect("a name"));
        let mut random = Seeded::new(11);
        let weather = Weather::gusts(random.next());
        let storm = Storm::recorded(questions, weather, ["0.02", "0.035", "0.06"], |layer| layer.audit(&audit));
        storm.rage(1_000, &mut random, |_| {}).await;
        let sum = storm.reckon(1_000).await;
        assert!(sum.admitted > 20 && sum.refused > 300 && sum.abandoned > 20, "{sum:?}");
        audit.flush().await;

        let by_id = |records: &[AuditRecord]| {
            records.iter().map(|record| (record.id, record.clone())).collect::<BTreeMap<_, _>>()
        };
        let (written, kept) = (by_id(&shipped.lock()), by_id(&storm.site.records.lock()));
        assert_eq!((shipped.lock().len(), written.len()), (1_000, 1_000), "every record, once");
        assert_eq!(written, kept, "as it was recorded without a journal");
        let report = verify(&dir.0, &[]).expect("readable");
        assert_eq!((report.broken, report.finals), (None, 1_000));
    }
}

#[tokio::test(start_paused = true)]
async fn spent_and_held_never_exceed_the_limit_in_any_order_that_a_seed_makes() {
    let (mut spent, mut cut) = (0, 0);
    let seeds = seeds(&(100..110).collect::<Vec<_>>());
    for (seed, questions) in seeds.into_iter().flat_map(|seed| [(seed, Questions::Two), (seed, Questions::One)]) {
        let (_, sum) = storm(questions, seed, 200, ["0.005", "0.009", "0.015"], false).await;
        assert!(sum.admitted > 10 && sum.refused > 10 && sum.clamped > 0, "{sum:?}");
        spent += sum.spent;
        cut += sum.cut;
    }
    assert!(cut > 0, "some were cut");
    assert!(spent > 0, "some came when all of it was gone");
}
