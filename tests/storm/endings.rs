//! What each way for a call to end is charged, to the unit; the numbers are those of the project's contract. Over both
//! dialects, whole and streamed, and translated from the one to the other.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::Clock;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::Outcome;
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Line;
use tollgate::{Body, Gateway};
use tower::ServiceExt;

use crate::calls::DOORS;
use crate::oracle::price;
use crate::site::{Site, mint};

/// What a call asks for at most, and what it pays for a token of output.
const MOST: u64 = 4_000;
const TOKEN: i64 = 15_000;
/// What the model can have made in a second at its top speed; the provider may go on for one after all is over.
const A_SECOND: u64 = 500;

/// The time that the test makes pass.
#[derive(Debug)]
pub(crate) struct Paused(tokio::time::Instant);

impl Paused {
    pub(crate) fn new() -> Self {
        Paused(tokio::time::Instant::now())
    }
}

impl Clock for Paused {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One call, and what became of it.
struct Ended {
    what: String,
    outcome: Outcome,
    lines: Vec<Line>,
    is_stream: bool,
    /// Whether the provider says of a stream what went in before it says anything else.
    states_input: bool,
}

impl Ended {
    fn charged(&self) -> Money {
        self.outcome.charged.expect("granted")
    }

    /// Whether the provider has said in the end what it was.
    fn is_exact(&self) -> bool {
        self.outcome.attempts[0].usage_is_final
    }

    fn bill(&self) -> Money {
        self.lines.iter().map(price).fold(Money::ZERO, Money::saturating_add)
    }

    /// Its input, and so many tokens of output: the input that the provider stated, or the most that it can have been.
    fn of_output(&self, tokens: u64) -> Money {
        match self.lines.first().filter(|_| self.states_input) {
            Some(line) => {
                let mut line = line.clone();
                line.output = tokens;
                price(&line)
            }
            None => {
                let unspent = i64::try_from(MOST - tokens).expect("small") * TOKEN;
                self.outcome.granted.expect("granted").saturating_sub(Money::from_nanos(unspent))
            }
        }
    }

    fn assert_charged(&self, due: Money) {
        assert_eq!(self.charged(), due, "{}", self.what);
        assert!(due >= self.bill(), "{}: never under the bill", self.what);
    }
}

async fn read(gateway: Gateway, request: Request<Body>) {
    let mut body = gateway.oneshot(request).await.expect("infallible").into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

/// Every kind of call under this script, each on a site of its own; its client waits for so long.
async fn every(script: &str, patience: Duration) -> Vec<Ended> {
    let mut all = Vec::new();
    for (path, family) in DOORS {
        for stream in [true, false] {
            let keys = MemoryKeys::new();
            let (_, key) = mint(&keys, Principal::new("ada").budget(Window::Total, "100".parse().expect("an amount")));
            let (limits, budgets) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(MemoryBudgets::new()));
            let site = Site::with(keys, limits, budgets, |layer| layer.clock(Paused::new()));
            let body = json!({ "model": format!("{family}-swift"), "max_tokens": MOST, "stream": stream,
                "messages": [{ "role": "user", "content": script }] });
            let request = Request::post(path).header("authorization", format!("Bearer {key}"));
            let request = request.body(Body::from(body.to_string())).expect("a request");
            // Who has no more patience leaves.
            let _ = tokio::time::timeout(patience, read(site.gateway.clone(), request)).await;
            let (outcome, lines) = (site.only().await, site.provider.bill().lines());
            let what = format!("{script}: {path} on {family}, streamed: {stream}");
            let states_input = stream && family == "claude";
            all.push(Ended { what, outcome, lines, is_stream: stream, states_input });
        }
    }
    all
}

const FOR_EVER: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn row_3_no_head_costs_what_its_time_can_have_made() {
    for ended in every("sim:first=60000", Duration::from_secs(2)).await {
        assert_eq!(ended.outcome.attempts[0].status, None, "{}", ended.what);
        ended.assert_charged(ended.of_output(3 * A_SECOND));
    }
    // Ten minutes, after which we give up ourselves, are time for all that was asked for.
    for ended in every("sim:first=9000000", FOR_EVER).await {
        ended.assert_charged(ended.outcome.granted.expect("granted"));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_4_and_5_what_the_provider_refuses_costs_nothing() {
    for script in ["sim:status=400", "sim:status=429", "sim:status=500", "sim:status=529"] {
        for ended in every(script, FOR_EVER).await {
            ended.assert_charged(Money::ZERO);
            assert_eq!(ended.outcome.attempts[0].at_most, None, "{}", ended.what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_6_and_8_an_answer_with_its_usage_costs_what_it_says() {
    for ended in every("sim:deltas=70", FOR_EVER).await {
        ended.assert_charged(ended.bill());
        assert!(ended.bill() > Money::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn row_7_a_whole_answer_without_usage_costs_what_its_time_can_have_made() {
    for ended in every("sim:deltas=70,nousage,first=1000", FOR_EVER).await {
        ended.assert_charged(ended.of_output(2 * A_SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_9_10_and_11_what_breaks_off_costs_what_its_time_can_have_made() {
    for fault in ["end", "error", "abort", "garbage"] {
        for ended in every(&format!("sim:deltas=70,{fault}=5,first=2000"), FOR_EVER).await {
            // A whole answer has no room for an error event, and comes after all.
            let due = if ended.is_exact() { ended.bill() } else { ended.of_output(3 * A_SECOND) };
            ended.assert_charged(due);
            assert!(!ended.is_exact() || fault == "error" && !ended.is_stream, "{}", ended.what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_12_silence_that_we_end_ourselves_is_time_for_all_that_was_asked_for() {
    for ended in every("sim:deltas=70,stall=5", FOR_EVER).await {
        ended.assert_charged(ended.of_output(MOST));
    }
}

#[tokio::test(start_paused = true)]
async fn row_13_who_hangs_up_pays_for_what_the_time_can_have_made() {
    // The second time for no more than was asked for.
    for (patience, most) in [(4, 5 * A_SECOND), (30, MOST)] {
        for ended in every("sim:deltas=700,delay=100", Duration::from_secs(patience)).await {
            // A whole answer comes at once.
            let due = if ended.is_stream { ended.of_output(most) } else { ended.bill() };
            ended.assert_charged(due);
            assert_eq!(ended.is_exact(), !ended.is_stream, "{}", ended.what);
        }
    }
}
