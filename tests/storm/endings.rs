//! The exact charge for each way that a call may end: in both dialects, whole and streamed, and translated between
//! them. The numbers in the names are rows of the project's contract.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::task::JoinSet;
use tollgate::body::BoxError;
use tollgate::budget::BudgetLayer;
use tollgate::call::LiveCalls;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::Clock;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{End, Outcome};
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::{Line, Simulated};
use tollgate::{Body, Gateway};
use tower::{ServiceExt, service_fn};

use crate::calls::DOORS;
use crate::in_process::revoked;
use crate::oracle::price;
use crate::site::{Site, mint, served};

/// The most output that a call asks for, and the price of a token of output in billionths of a dollar.
const MOST: u64 = 4_000;
const TOKEN: i64 = 15_000;
/// The tokens that the model can make in a second at its top speed. The provider may go on for a second after the end.
const A_SECOND: u64 = 500;

/// A clock of tokio's paused time.
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

/// A call that has ended.
struct Ended {
    what: String,
    outcome: Outcome,
    lines: Vec<Line>,
    is_stream: bool,
    /// Whether the provider states the input at the beginning of a stream.
    states_input: bool,
}

impl Ended {
    fn charged(&self) -> Money {
        self.outcome.charged.expect("granted")
    }

    /// Whether the provider stated its final usage.
    fn is_exact(&self) -> bool {
        self.outcome.attempts[0].usage_is_final
    }

    fn bill(&self) -> Money {
        self.lines.iter().map(price).fold(Money::ZERO, Money::saturating_add)
    }

    /// The price of the input and this many tokens of output. The input is what the provider stated, or the most that
    /// it can have been.
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

/// Makes every kind of call under this script, each on a site of its own. The clients wait for `patience`.
async fn every(script: &str, patience: Duration) -> Vec<Ended> {
    every_under(script, false, LiveCalls::new, async |gateway, request, _| {
        // The client leaves when its patience is over.
        let _ = tokio::time::timeout(patience, read(gateway, request)).await;
    })
    .await
}

/// The same, but the calls are made by `ask`, which may cut them. The body of the provider's answer may panic.
async fn every_under(
    script: &str,
    panics: bool,
    live: impl Fn() -> LiveCalls,
    ask: impl AsyncFn(Gateway, Request<Body>, LiveCalls),
) -> Vec<Ended> {
    let mut all = Vec::new();
    for (path, family) in DOORS {
        for stream in [true, false] {
            let (keys, live, provider) = (MemoryKeys::new(), live(), Simulated::new().recording());
            let (_, key) = mint(&keys, Principal::new("ada").budget(Window::Total, "100".parse().expect("an amount")));
            let (limits, budgets) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(MemoryBudgets::new()));
            let client = provider.clone();
            let client = service_fn(move |request: Request<Body>| {
                let answer = client.clone().oneshot(request);
                async move { Ok::<_, Infallible>(answer.await?.map(|body| Breaking::or_whole(body, panics))) }
            });
            let build = served(&client, |layer| layer.clock(Paused::new()).live_calls(live.clone()));
            let site = Site::toward(provider, keys, limits, budgets, build);
            let body = json!({ "model": format!("{family}-swift"), "max_tokens": MOST, "stream": stream,
                "messages": [{ "role": "user", "content": script }] });
            let request = Request::post(path).header("authorization", format!("Bearer {key}"));
            let request = request.body(Body::from(body.to_string())).expect("a request");
            ask(site.gateway.clone(), request, live).await;
            let (outcome, lines) = (site.only().await, site.provider.bill().lines());
            let what = format!("{script}: {path} on {family}, streamed: {stream}");
            let states_input = stream && family == "claude";
            all.push(Ended { what, outcome, lines, is_stream: stream, states_input });
        }
    }
    all
}

/// A provider's body that panics after three frames, or where it should end.
struct Breaking {
    body: Body,
    left: u8,
}

impl Breaking {
    fn or_whole(body: Body, panics: bool) -> Body {
        if panics { Body::new(Breaking { body, left: 3 }) } else { body }
    }
}

impl http_body::Body for Breaking {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        assert!(self.left > 0 && frame.is_some(), "a body of the provider's that panics");
        self.left -= 1;
        Poll::Ready(frame)
    }
}

const FOR_EVER: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn row_3_no_head_costs_what_its_time_can_have_made() {
    for ended in every("sim:first=60000", Duration::from_secs(2)).await {
        assert_eq!(ended.outcome.attempts[0].status, None, "{}", ended.what);
        ended.assert_charged(ended.of_output(3 * A_SECOND));
    }
    // The gateway gives up after ten minutes. In that time everything that was asked for can have been made.
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
            // A whole answer cannot carry an error event, so it comes complete.
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
    // The second time the charge is limited by what was asked for.
    for (patience, most) in [(4, 5 * A_SECOND), (30, MOST)] {
        for ended in every("sim:deltas=700,delay=100", Duration::from_secs(patience)).await {
            // A whole answer has come by then.
            let due = if ended.is_stream { ended.of_output(most) } else { ended.bill() };
            ended.assert_charged(due);
            assert_eq!(ended.is_exact(), !ended.is_stream, "{}", ended.what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_14_a_client_that_takes_nothing_pays_for_what_the_time_until_it_is_cut_can_have_made() {
    let live = || LiveCalls::with_client_timeout(Duration::from_secs(4));
    let takes_one = async |gateway: Gateway, request, live: LiveCalls| {
        let mut body = gateway.oneshot(request).await.expect("infallible").into_body();
        assert!(body.frame().await.is_some());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(live.is_empty());
    };
    for ended in every_under("sim:deltas=700,delay=100", false, live, takes_one).await {
        // The gateway looks every second, and first sees after one second that the client reads nothing. A whole answer
        // has come by then.
        let due = if ended.is_stream { ended.of_output(6 * A_SECOND) } else { ended.bill() };
        ended.assert_charged(due);
        let end = if ended.is_stream { End::Cut } else { End::Complete };
        assert_eq!((ended.outcome.end, ended.is_exact()), (end, !ended.is_stream), "{}", ended.what);
    }
}

#[tokio::test(start_paused = true)]
async fn row_15_who_is_cut_pays_for_what_the_time_can_have_made() {
    // Before the head, in the middle of the answer, and when everything that was asked for can have been made.
    for (script, seconds, most) in [
        ("sim:first=60000", 2, 3 * A_SECOND),
        ("sim:deltas=700,delay=100", 4, 5 * A_SECOND),
        ("sim:deltas=700,delay=100", 30, MOST),
    ] {
        let cut = async |gateway: Gateway, request, live: LiveCalls| {
            let cut = async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                live.cut(&revoked(), |_| true)
            };
            tokio::join!(read(gateway, request), cut);
        };
        for ended in every_under(script, false, LiveCalls::new, cut).await {
            let is_whole = !ended.is_stream && most != 3 * A_SECOND;
            ended.assert_charged(if is_whole { ended.bill() } else { ended.of_output(most) });
            let end = if is_whole { End::Complete } else { End::Cut };
            assert_eq!((ended.outcome.end, ended.is_exact()), (end, is_whole), "{}", ended.what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_16_what_a_shutdown_waits_for_costs_what_it_says_and_what_it_cuts_what_the_time_can_have_made() {
    for (script, is_cut) in [("sim:deltas=30,delay=100", false), ("sim:deltas=700,delay=100", true)] {
        let finish = async |gateway: Gateway, request, live: LiveCalls| {
            let finish = async {
                // By then the call has been admitted.
                tokio::time::sleep(Duration::from_millis(1)).await;
                live.finish(Duration::from_millis(3_999)).await
            };
            tokio::join!(read(gateway, request), finish);
        };
        for ended in every_under(script, false, LiveCalls::new, finish).await {
            let is_cut = is_cut && ended.is_stream;
            ended.assert_charged(if is_cut { ended.of_output(5 * A_SECOND) } else { ended.bill() });
            let end = if is_cut { End::Cut } else { End::Complete };
            assert_eq!((ended.outcome.end, ended.is_exact()), (end, !is_cut), "{}", ended.what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_17_a_panic_costs_what_the_time_until_it_can_have_made() {
    let panics = async |gateway: Gateway, request, _| {
        let mut task = JoinSet::new();
        task.spawn(read(gateway, request));
        let ended = task.join_next().await.expect("one");
        assert!(ended.is_err_and(|error| error.is_panic()), "a panic goes where panics go");
    };
    for ended in every_under("sim:deltas=70,first=2000", true, LiveCalls::new, panics).await {
        ended.assert_charged(ended.of_output(3 * A_SECOND));
        assert!(!ended.is_exact(), "{}", ended.what);
    }
}
