//! Streams that were granted too little, and are granted more or are ended, dropped after every poll.

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use tollgate::Call;
use tollgate::budget::{BudgetLayer, Estimator, OverBudget};
use tollgate::domain::budget::Window;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{End, Outcome};
use tollgate::domain::principal::Principal;
use tollgate::ingest::{IngestLayer, TokenCounter};
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tower::ServiceExt;

use crate::calls::{Ask, polls};
use crate::endings::Paused;
use crate::in_process::noon;
use crate::oracle::price;
use crate::site::{Site, mint};
use crate::watched::Watched;
use crate::weather::Weather;

/// A token counter that counts a hundredth of what the provider counts.
struct Blind;

#[async_trait]
impl TokenCounter for Blind {
    async fn count(&self, _: &Call, body: &Bytes) -> Option<u64> {
        Some(body.len() as u64 / 400)
    }
}

/// Drops such a stream after its first poll, another after its second, and so on until one comes to its end. Returns
/// the outcome of that one, the provider's bill for it, and the number of streams that were dropped once begun.
async fn at_every_poll(door: &str, limit: &str) -> (Outcome, Money, usize) {
    let mut begun = 0;
    for k in 1..2_000 {
        let keys = MemoryKeys::new();
        let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Total, limit.parse().expect("an amount")));
        let pots = record.principal.budgets.clone();
        // Each request to the store is pending twice on the way there, and twice on the way back.
        let budgets = Watched::new(MemoryBudgets::new().clock(noon()), pots, Weather::yields(2));
        let money = BudgetLayer::new(budgets.clone()).estimator(Estimator::Counted).over_budget(OverBudget::Reject);
        let site = Site::with(keys, RateLimitLayer::new(MemoryLimits::new()), money, |layer| {
            layer.clock(Paused::new()).ingest(IngestLayer::new().count_by(Blind))
        });
        // The provider counts four bytes as a token, so the input is a thousand tokens.
        let script = format!("sim:deltas=12,delay=1 {}", "x".repeat(4_000));
        let ask = Ask { max_tokens: 200, ..Ask::of("claude-swift".into(), &key, true, &script) };
        let asked = async {
            let mut body = site.gateway.clone().oneshot(ask.request_at(door)).await.expect("infallible").into_body();
            while let Some(Ok(_)) = body.frame().await {
                tokio::task::yield_now().await;
            }
        };
        let is_whole = polls(pin!(asked), k).await.is_some();
        let settled = tokio::time::timeout(Duration::from_secs(60), site.settled()).await;
        settled.unwrap_or_else(|_| panic!("{door}, {limit}, poll {k}: settlements come to no end"));
        let (outcome, standing) = (site.closed.lock()[0].clone(), budgets.standings().remove(0));
        let bill = site.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
        let (charged, what) = (outcome.charged.unwrap_or_default(), format!("{door}, {limit}, poll {k}: {outcome:?}"));
        assert_eq!((standing.spent, standing.held), (charged, Money::ZERO), "{what}");
        assert_eq!((site.closed.lock().len(), site.records.lock().len()), (1, 1), "{what}");
        assert!(charged >= bill, "{bill}, {what}");
        if is_whole {
            return (outcome, bill, begun);
        }
        begun += usize::from(outcome.bytes_out > 0);
        // After the last polls everything has come, and only the end of the body has not been seen.
        let is_complete = outcome.end == End::Complete && charged == bill;
        assert!(is_complete || matches!(outcome.end, End::Abandoned | End::Cut), "{what}");
    }
    panic!("{door}, {limit}: it never came to its end");
}

const CLAUDES: [&str; 2] = ["/v1/messages", "/v1/chat/completions"];

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_granted_more_can_be_let_go_of_at_every_poll() {
    for door in CLAUDES {
        let (outcome, bill, begun) = at_every_poll(door, "100").await;
        assert!(begun > 9, "{begun}");
        assert_eq!((outcome.end, outcome.charged), (End::Complete, Some(bill)));
        // The first grant covers the output and almost none of the input.
        assert!(outcome.granted > Some("0.006".parse().expect("an amount")), "it was granted more: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_where_its_budget_does_can_be_let_go_of_at_every_poll() {
    for door in CLAUDES {
        let (outcome, bill, _) = at_every_poll(door, "0.0042").await;
        assert_eq!(outcome.end, End::Cut, "{bill}, {outcome:?}");
        assert!(outcome.charged >= outcome.granted, "all that was held is used up: {outcome:?}");
    }
}
