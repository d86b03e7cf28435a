//! A call that is dropped holds nothing afterwards and is charged at least the provider's bill, whichever poll it is
//! dropped after and however it would have ended.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tollgate::call::{Drain, LiveCalls};
use tollgate::dialect::head::Head;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{End, Outcome, Quality};
use tollgate::domain::rejection::RejectionKind;
use tollgate::domain::target::Target;
use tollgate::route::Route;
use tollgate::testing::Simulated;
use tollgate::{Body, Call, Dialect, Gateway, GatewayLayer, Rejection};
use tower::{ServiceExt, service_fn};

use crate::calls::{Ask, DOORS, polls};
use crate::endings::Paused;
use crate::in_process::{Questions, Storm, revoked};
use crate::oracle::price;
use crate::site::{served, served_beside};
use crate::weather::Weather;

/// One way for a call to end, and what is known of its price if it is not dropped.
#[derive(Debug, Clone, Copy)]
struct Ending {
    script: &'static str,
    costs: Costs,
    most: u64,
    /// The limit of the key's own pot.
    limit: &'static str,
    /// Whether the first of two upstreams cannot be reached.
    falls_back: bool,
    takes_gzip: bool,
    /// Whether the gateway reads the answer on without the client.
    is_drained: bool,
    /// When the call is cut.
    cut_after: Option<Duration>,
    /// Whether only streams can end like this.
    of_streams: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Costs {
    Nothing,
    TheBill,
    /// At least the bill. The exact amount is unknown.
    Unknown,
}

impl Ending {
    const fn of(script: &'static str, costs: Costs) -> Self {
        let (most, limit) = (50, "100");
        let (falls_back, takes_gzip, is_drained, cut_after, of_streams) = (false, false, false, None, false);
        Ending { script, costs, most, limit, falls_back, takes_gzip, is_drained, cut_after, of_streams }
    }
}

/// Drops such a call after its first poll, another after its second, and so on until one comes to its end: at each API,
/// with each family of models, whole and streamed.
async fn at_every_poll(ending: Ending) {
    for (door, family) in DOORS {
        for is_stream in [true, false] {
            for questions in [Questions::Two, Questions::One] {
                // The two ways to ask the stores differ only before the head, and translation only after it.
                let is_translated = (door == "/v1/messages") != (family == "claude");
                if is_translated && questions == Questions::One || ending.of_streams && !is_stream {
                    continue;
                }
                one_kind(ending, door, family, is_stream, questions).await;
            }
        }
    }
}

async fn one_kind(ending: Ending, door: &str, family: &str, is_stream: bool, questions: Questions) {
    let mut after_head = 0;
    for k in 1..1_000 {
        let what = format!("{ending:?}, {door} on {family}, streamed: {is_stream}, {questions:?}, poll {k}");
        let (storm, live) = site(ending, family, questions);
        // The speed of this model is known, so less than everything may be charged.
        let model = format!("{family}-swift-{k:08}");
        let ask = Ask { max_tokens: ending.most, ..Ask::of(model, &storm.crowd.secrets[0], is_stream, ending.script) };
        let mut request = ask.request_at(door);
        if ending.takes_gzip {
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let has_head = AtomicBool::new(false);
        let asked = async {
            let whole = whole(storm.site.gateway.clone(), request, &has_head);
            let Some(after) = ending.cut_after else { return whole.await };
            let cut = async {
                tokio::time::sleep(after).await;
                live.cut(&revoked(), |_| true)
            };
            tokio::join!(whole, cut).0
        };
        let status = polls(pin!(asked), k).await;
        let sum = storm.reckon(1).await;
        let (told, outcome) = (storm.budgets.ledger().settlements, storm.site.closed.lock()[0].clone());
        assert!(told <= 1 && told >= sum.admitted, "{what}: one entry, but {told} were made");
        match status {
            Some(status) => {
                let bill =
                    storm.site.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
                ended(ending, &what, status, &outcome, bill);
                let before_head = 4 * if questions == Questions::One { 2 } else { 3 };
                assert!(k > before_head + after_head && after_head > 0, "every store was waited for: {what}");
                return;
            }
            None if !has_head.load(Ordering::SeqCst) => {
                let is_cut = ending.cut_after.is_some() && outcome.end == End::Cut;
                assert!(is_cut || outcome.end == End::Abandoned, "{what}: {outcome:?}");
            }
            None => {
                after_head += 1;
                let is_read_on = ending.is_drained && ending.costs == Costs::TheBill;
                assert!(!is_read_on || outcome.quality() == Some(Quality::Exact), "{what}: {outcome:?}");
            }
        }
    }
    panic!("{ending:?} never came to its end");
}

/// A site on which every request to a store is pending twice on the way there, and twice on the way back.
fn site(ending: Ending, family: &str, questions: Questions) -> (Storm, LiveCalls) {
    let (provider, live) = (Simulated::new(), LiveCalls::new());
    let (weather, limits) = (Weather::yields(2), [ending.limit, "100", "100"]);
    let more = |layer: GatewayLayer| match layer.clock(Paused::new()).live_calls(live.clone()) {
        layer if ending.is_drained => layer.drain(Drain::new(1, Duration::from_secs(1))),
        layer => layer,
    };
    if !ending.falls_back {
        return (Storm::toward(provider.clone(), questions, weather, limits, served(&provider, more)), live);
    }
    let router = match family {
        "claude" => Second { upstream: "anthropic", dialect: Dialect::Anthropic },
        _ => Second { upstream: "openai", dialect: Dialect::OpenAiChat },
    };
    let build = served_beside(
        &provider,
        |layer| more(layer).router(router),
        |builder| builder.upstream("gone", Dialect::Anthropic, service_fn(gone)),
    );
    (Storm::toward(provider.clone(), questions, weather, limits, build), live)
}

/// An upstream that cannot be reached, which takes a moment to find out.
async fn gone(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    tokio::task::yield_now().await;
    let rejection = Rejection::new(RejectionKind::UpstreamUnreachable, "nothing listens there").nothing_sent();
    let mut answer = Response::new(Body::empty());
    answer.extensions_mut().insert(rejection);
    Ok(answer)
}

/// Routes every call to an upstream that cannot be reached, and then to this one.
struct Second {
    upstream: &'static str,
    dialect: Dialect,
}

impl Route for Second {
    fn route(&self, _: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        let target = |upstream| Arc::new(Target::new(upstream, self.dialect, head.model()));
        Ok(vec![target("gone"), target(self.upstream)])
    }
}

/// Asks, and reads to the end. It is pending after each frame, so that the call can be dropped there too.
async fn whole(gateway: Gateway, request: Request<Body>, has_head: &AtomicBool) -> StatusCode {
    let answer = gateway.oneshot(request).await.expect("infallible");
    has_head.store(true, Ordering::SeqCst);
    let (status, mut body) = (answer.status(), answer.into_body());
    tokio::task::yield_now().await;
    while let Some(Ok(_)) = body.frame().await {
        tokio::task::yield_now().await;
    }
    status
}

/// Checks the last call, whose client read everything.
fn ended(ending: Ending, what: &str, status: StatusCode, outcome: &Outcome, bill: Money) {
    let (charged, what) = (outcome.charged.unwrap_or_default(), format!("{what}: {status}, {bill} for {outcome:?}"));
    match ending.costs {
        Costs::Nothing => assert!(charged == Money::ZERO && outcome.end != End::Complete && status != 200, "{what}"),
        Costs::TheBill => {
            assert!(charged == bill && bill > Money::ZERO && outcome.end == End::Complete, "{what}");
            assert_eq!(status, 200, "{what}");
        }
        Costs::Unknown => {
            let end = if ending.cut_after.is_some() { End::Cut } else { End::Failed };
            assert!(charged >= bill && charged > Money::ZERO && outcome.end == end, "{what}");
            assert_ne!(outcome.quality(), Some(Quality::Exact), "{what}");
        }
    }
    assert_eq!(outcome.attempts.len(), usize::from(outcome.granted.is_some()) * if ending.falls_back { 2 } else { 1 });
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_provider_refuses_can_be_let_go_of_at_every_poll() {
    for script in ["sim:first=1,status=429", "sim:first=1,status=500", "sim:first=1,status=529", "sim:html"] {
        at_every_poll(Ending::of(script, Costs::Nothing)).await;
    }
    // 524 comes from a proxy in front of the provider, which does not know what the provider makes.
    at_every_poll(Ending::of("sim:first=1,status=524", Costs::Unknown)).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_wrong_can_be_let_go_of_at_every_poll() {
    for script in ["sim:deltas=3,error=2", "sim:deltas=3,abort=2", "sim:deltas=3,garbage=2", "sim:deltas=3,end=2"] {
        at_every_poll(Ending::of(script, Costs::Unknown)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_we_have_waited_for_long_enough_can_be_let_go_of_at_every_poll() {
    for script in ["sim:deltas=3,stall=2", "sim:first=9000000"] {
        at_every_poll(Ending { most: 4_000, ..Ending::of(script, Costs::Unknown) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_first_upstream_cannot_be_reached_can_be_let_go_of_at_every_poll() {
    for (script, costs) in [("sim:deltas=2,delay=1", Costs::TheBill), ("sim:deltas=3,abort=1", Costs::Unknown)] {
        at_every_poll(Ending { falls_back: true, ..Ending::of(script, costs) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_down_by_its_budget_or_refused_can_be_let_go_of_at_every_poll() {
    let clamped = Ending::of("sim:deltas=100", Costs::TheBill);
    at_every_poll(Ending { most: 4_000, limit: "0.004", ..clamped }).await;
    at_every_poll(Ending { limit: "0.0001", ..Ending::of("sim:deltas=3", Costs::Nothing) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_can_be_let_go_of_at_every_poll() {
    for script in ["sim:deltas=3,delay=1", "sim:deltas=3,json", "sim:deltas=3,gzip"] {
        at_every_poll(Ending::of(script, Costs::TheBill)).await;
    }
    at_every_poll(Ending { takes_gzip: true, ..Ending::of("sim:deltas=3,gzip", Costs::TheBill) }).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_on_can_be_let_go_of_at_every_poll() {
    for (script, costs) in [
        ("sim:deltas=3,delay=1", Costs::TheBill),
        ("sim:deltas=3,abort=2", Costs::Unknown),
        // Stalls for longer than the gateway reads on.
        ("sim:deltas=3,stall=2", Costs::Unknown),
    ] {
        at_every_poll(Ending { is_drained: true, ..Ending::of(script, costs) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_from_outside_can_be_let_go_of_at_every_poll() {
    let cut = |script| Ending { cut_after: Some(Duration::from_millis(3)), ..Ending::of(script, Costs::Unknown) };
    at_every_poll(cut("sim:first=9,deltas=3")).await;
    at_every_poll(Ending { of_streams: true, ..cut("sim:deltas=9,delay=1") }).await;
}
