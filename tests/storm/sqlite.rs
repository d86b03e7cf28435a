//! The storm over one SQLite file, and the search of its bytes for secrets.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate::audit::AuditLayer;
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::call::Settlements;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::Outcome;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::cached::CachedKeys;
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::MemoryKeys;
use tollgate::store::sqlite::Sqlite;
use tollgate::testing::Simulated;
use tollgate::{Dialect, Gateway, GatewayLayer};

use crate::calls::{Ask, Crowd};
use crate::canaries::Canaries;
use crate::in_process::noon;
use crate::oracle::price;
use crate::seeded::{Seeded, seeds};
use crate::site::{Closed, catalog, pepper, providers};
use crate::support::dir::Dir;
use crate::watched::now;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn spent_and_held_never_exceed_the_limit_in_one_file_and_no_secret_is_written_there() {
    const CALLS: u64 = 600;
    for seed in seeds(&[51]) {
        let mut random = Seeded::new(seed);
        let directory = Dir::new("storm");
        let path = directory.0.join("tollgate.db");
        let sqlite = Sqlite::options().without_fsync().clock(noon()).open(&path).await.expect("a new file");
        sqlite.migrate().await.expect("tables");
        let memory = MemoryKeys::new();
        let crowd = Crowd::new(&memory, ["0.02", "0.035", "0.06"]);
        for number in 0..8 {
            let record = now(memory.named(&format!("key-{number}"))).expect("memory").expect("minted");
            assert!(sqlite.keys().put(&record).await.expect("written").is_written());
        }
        let (provider, closed, settlements) = (Simulated::new(), Closed::default(), Settlements::new());
        let (anthropic, openai) = providers(&provider);
        let (audit, observer) = (AuditLayer::new(sqlite.audit()), closed.clone());
        let over = OverBudget::Clamp { floor: 16, share: 4 };
        let layer = GatewayLayer::new()
            .audit(&audit)
            .auth(KeyAuthLayer::new(CachedKeys::new(sqlite.keys()), pepper()))
            .rate_limit(RateLimitLayer::new(sqlite.limits()))
            .budget(BudgetLayer::new(sqlite.budgets()).over_budget(over))
            .catalog(catalog())
            .settlements(settlements.clone())
            .on_close(move |outcome| observer.lock().push(Outcome::clone(outcome)));
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, anthropic)
            .upstream("openai", Dialect::OpenAiChat, openai)
            .layer(layer)
            .build()
            .expect("a gateway");

        // A reader looks at the pots all the time.
        let over = Arc::new(AtomicBool::new(false));
        let (watched, stop, pots) = (sqlite.budgets(), over.clone(), crowd.pots.clone());
        let mut clients = JoinSet::new();
        clients.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                for standing in watched.standing(&pots, At::Store).await.expect("readable") {
                    let taken = standing.spent.saturating_add(standing.held);
                    assert!(taken <= standing.budget.limit, "{standing:?}");
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        for number in 0..CALLS {
            clients.spawn(Ask::random(number, &crowd.secrets, &mut random).run(gateway.clone()));
        }
        for _ in 0..CALLS {
            clients.join_next().await.expect("a client").expect("no client panics");
        }
        tokio::time::timeout(Duration::from_secs(20), settlements.drain()).await.expect("settlements end");
        over.store(true, Ordering::SeqCst);
        clients.join_next().await.expect("the watch").expect("never beyond a limit");
        audit.flush().await;

        let outcomes = closed.lock().clone();
        assert_eq!(outcomes.len() as u64, CALLS);
        assert!(outcomes.iter().filter(|outcome| outcome.granted.is_some()).count() > 30);
        for line in provider.bill().lines() {
            let outcome =
                outcomes.iter().find(|outcome| outcome.model.as_deref() == Some(&line.model)).expect("its call");
            assert!(outcome.charged >= Some(price(&line)), "{line:?} {outcome:?}");
        }
        for standing in sqlite.budgets().standing(&crowd.pots, At::Store).await.expect("readable") {
            let pot = &standing.budget.pot;
            let pays =
                |o: &&Outcome| o.principal.as_ref().is_some_and(|p| p.budgets.iter().any(|budget| budget.pot == *pot));
            let charged =
                outcomes.iter().filter(pays).filter_map(|o| o.charged).fold(Money::ZERO, Money::saturating_add);
            assert_eq!((standing.spent, standing.held), (charged, Money::ZERO), "{pot:?}");
        }

        sqlite.close().await.expect("closed");
        // Search the file and everything beside it. The digest of a key is in it, and nothing else of the key.
        let canaries = Canaries::of_keys(crowd.secrets.iter().map(String::as_str));
        let mut size = 0;
        for file in fs::read_dir(&directory.0).expect("ours") {
            let bytes = fs::read(file.expect("ours").path()).expect("readable");
            size += bytes.len();
            canaries.assert_silent("the file", &String::from_utf8_lossy(&bytes));
        }
        assert!(size > 100_000, "{size} bytes were looked at");
    }
}
