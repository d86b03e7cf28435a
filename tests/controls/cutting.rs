//! Calls that are cut: after a key was revoked, because the client reads nothing, or at a shutdown.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate::body::{Body, BoxError};
use tollgate::call::{Drain, LiveCalls};
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::key::VirtualKey;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{AttemptEnd, End};
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::ingest::IngestLayer;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::{Fault, Script};
use tollgate::{BudgetLayer, CallLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::budgets::{ada, hello, price, standing};
use crate::support::Server;
use crate::world::{CHAT, MESSAGES, World, post};

fn revoked() -> Rejection {
    Rejection::new(RejectionKind::Unauthenticated, "this key was revoked")
}

fn world(live: &LiveCalls) -> World {
    World::with(|layer| layer.live_calls(live.clone()))
}

/// An endless stream, of which the client has read two frames.
async fn begun(world: &World, path: &str, key: &VirtualKey) -> Body {
    world.provider.script(Script::new().deltas(10_000).delay(Duration::from_secs(1)));
    let mut body = hello(30_000);
    body["stream"] = json!(true);
    let mut stream = world.gateway.clone().oneshot(post(path, key, &body)).await.expect("infallible").into_body();
    for _ in 0..2 {
        assert!(frame(&mut stream).await.expect("a frame").is_ok());
    }
    stream
}

async fn frame(body: &mut Body) -> Option<Result<String, BoxError>> {
    let frame = tokio::time::timeout(Duration::from_secs(3_600), body.frame()).await.expect("no silence")?;
    Some(frame.map(|frame| String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text")))
}

/// Returns the record of the last call, and checks that it was charged at least the provider's bill.
async fn last(world: &World) -> AuditRecord {
    let records = world.records().await;
    let outcome = records.last().expect("a record").clone();
    let bill: Money = world.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add);
    let charged = records.iter().filter_map(|record| record.charged).fold(Money::ZERO, Money::saturating_add);
    assert!(charged >= bill, "{charged} for {bill}");
    outcome
}

#[tokio::test(start_paused = true)]
async fn row_15_a_call_that_is_cut_lets_go_of_its_provider_and_tells_its_client_why() {
    let live = LiveCalls::new();
    let world = world(&live);
    let bob = Principal::new("bob").user("bob").budget_of(ada("10").budgets.remove(0));
    let (key, other) = (world.mint(ada("10")).await, world.mint(bob).await);
    let mut goes_on = begun(&world, MESSAGES, &other).await;
    for (path, told) in [(MESSAGES, "authentication_error"), (CHAT, "invalid_api_key")] {
        let mut stream = begun(&world, path, &key).await;
        assert_eq!(live.len(), 2);
        let is_other = |call: &tollgate::Call| call.principal().is_some_and(|who| who.user.is_some());
        assert_eq!(live.cut(&revoked(), |call| !is_other(call)), 1);
        assert_eq!(live.cut(&revoked(), |call| !is_other(call)), 0, "once");
        // Even before the client polls the body again, the provider's stream is dropped and the call is settled.
        assert_eq!(live.len(), 1);
        let outcome = last(&world).await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Cut, AttemptEnd::Abandoned));
        let decision = outcome.decisions.last().expect("noted");
        assert_eq!((&*decision.layer, decision.allowed, &*decision.reason), ("cut", false, "this key was revoked"));
        let event = frame(&mut stream).await.expect("an event").expect("no error");
        assert!(event.contains(told) && event.contains("this key was revoked") && event.ends_with("\n\n"), "{event}");
        assert!(frame(&mut stream).await.is_none(), "nothing follows");
    }
    assert!(frame(&mut goes_on).await.expect("a frame").is_ok(), "others go on");
    drop(goes_on);
    assert_eq!((standing(&world).await.held, live.len()), (Money::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_while_its_answer_is_awaited_is_answered_with_the_reason() {
    let live = LiveCalls::new();
    let world = world(&live);
    let key = world.mint(ada("10")).await;
    for (path, kind) in [(MESSAGES, "authentication_error"), (CHAT, "invalid_request_error")] {
        world.provider.script(Script::new().head_delay(Duration::from_secs(60)));
        let cut = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(live.cut(&revoked(), |_| true), 1);
        };
        let (answer, ()) = tokio::join!(world.ask(post(path, &key, &hello(30_000))), cut);
        assert_eq!((answer.status.as_u16(), &*answer.error().1), (401, kind));
        let outcome = last(&world).await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Cut, AttemptEnd::Abandoned));
        assert!(outcome.charged.expect("held") > Money::ZERO, "the provider had it all");
    }
    assert_eq!(standing(&world).await.held, Money::ZERO);
}

#[tokio::test(start_paused = true)]
async fn row_14_a_client_that_takes_nothing_is_cut_and_one_that_is_slow_or_waits_is_not() {
    for drains in [false, true] {
        let live = LiveCalls::with_client_timeout(Duration::from_secs(60));
        let world = World::with(|layer| {
            let layer = layer.live_calls(live.clone());
            if drains { layer.drain(Drain::new(1, Duration::from_secs(1_000))) } else { layer }
        });
        let key = world.mint(ada("10")).await;
        // A provider that is silent for longer than the client timeout is not the client's fault.
        world.provider.script(Script::new().deltas(3).delay(Duration::from_secs(200)));
        let mut body = hello(64);
        body["stream"] = json!(true);
        let silent = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
        assert!(silent.into_body().collect().await.is_ok());
        assert_eq!(last(&world).await.end, End::Complete);

        world.provider.script(Script::new().deltas(40));
        let slow = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
        let (mut slow, mut frames) = (slow.into_body(), 0);
        while let Some(frame) = frame(&mut slow).await {
            assert!(frame.is_ok());
            frames += 1;
            tokio::time::sleep(Duration::from_secs(58)).await;
        }
        assert!(frames > 10, "{frames}");
        assert_eq!(last(&world).await.end, End::Complete);

        // A client that has not even begun to read.
        world.provider.script(Script::new().deltas(10_000).delay(Duration::from_secs(1)));
        let never = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible");
        tokio::time::sleep(Duration::from_secs(1_100)).await;
        assert_eq!(last(&world).await.end, End::Cut);
        drop(never);

        let stream = begun(&world, MESSAGES, &key).await;
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(live.len(), 1, "not yet");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(live.len(), 0);
        // With `drain`, the gateway reads the stream on by itself.
        assert_eq!(world.settlements.len(), usize::from(drains) * 2, "the call, and the task that reads on");
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        let outcome = last(&world).await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Cut, AttemptEnd::Abandoned));
        drop(stream);
        assert_eq!(standing(&world).await.held, Money::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn row_16_a_shutdown_waits_for_calls_as_long_as_it_is_told_to_and_cuts_what_is_left() {
    let live = LiveCalls::new();
    let world = world(&live);
    let key = world.mint(ada("10")).await;
    assert_eq!(live.finish(Duration::from_secs(60)).await, 0);
    world.provider.script(Script::new().deltas(10).delay(Duration::from_secs(1)));
    let mut body = hello(64);
    body["stream"] = json!(true);
    let ends = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible").into_body();
    let mut goes_on = begun(&world, CHAT, &key).await;
    let began = tokio::time::Instant::now();
    let (whole, cut) = tokio::join!(ends.collect(), live.finish(Duration::from_secs(60)));
    assert!(String::from_utf8_lossy(&whole.expect("whole").to_bytes()).contains("message_stop"));
    assert_eq!((cut, began.elapsed().as_secs()), (1, 60));
    world.settlements.drain().await;
    let outcome = last(&world).await;
    assert_eq!(outcome.end, End::Cut);
    let event = frame(&mut goes_on).await.expect("an event").expect("no error");
    assert!(event.contains("overloaded") && event.contains("shutting down"), "{event}");
    assert_eq!(standing(&world).await.held, Money::ZERO);

    // All open calls end in time.
    let stream = begun(&world, CHAT, &key).await;
    let leaves = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(stream);
    };
    let began = tokio::time::Instant::now();
    let ((), cut) = tokio::join!(leaves, live.finish(Duration::from_secs(60)));
    assert_eq!((cut, began.elapsed().as_secs()), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn whoever_a_shutdown_keeps_out_is_told_to_come_again_and_not_all_at_once() {
    let live = LiveCalls::new();
    let world = world(&live);
    let key = world.mint(ada("100")).await;
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        world.provider.script(Script::new().head_delay(Duration::from_secs(60)));
        calls.spawn(world.gateway.clone().oneshot(post(MESSAGES, &key, &hello(64))));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(live.finish(Duration::from_secs(5)).await, 60);
    let mut told = BTreeMap::<u64, usize>::new();
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic").expect("infallible");
        assert_eq!(answer.status(), 529);
        let after = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
        *told.entry(after).or_default() += 1;
    }
    assert!(told.keys().all(|after| (1..=5).contains(after)), "{told:?}");
    assert!(told.values().all(|calls| *calls <= 40), "{told:?}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_from_its_socket_holds_neither_money_nor_a_provider() {
    let live = LiveCalls::with_client_timeout(Duration::from_millis(200));
    let world = world(&live);
    let key = world.mint(ada("100")).await;
    let server = Server::start(world.gateway.clone()).await;
    for (before, version) in ["HTTP/1.1", "HTTP/1.0"].into_iter().enumerate() {
        // Far more than the buffers between the gateway and the client hold.
        world.provider.script(Script::new().deltas(400_000));
        let mut socket = TcpStream::connect(server.addr).await.expect("loopback");
        let body = json!({ "model": "claude-opus-5-5", "max_tokens": 120_000, "stream": true,
            "messages": [{ "role": "user", "content": "Hello" }] });
        let (body, key) = (body.to_string(), key.expose());
        let request = format!(
            "POST {MESSAGES} {version}\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.expect("written");
        let cut = async {
            while world.records().await.iter().filter(|record| record.end == End::Cut).count() == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), cut).await.expect("it is cut");
        assert_eq!((standing(&world).await.held, live.len()), (Money::ZERO, 0));
        drop(socket);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_more_hears_at_once_that_its_call_was_cut() {
    let live = LiveCalls::new();
    let world = world(&live);
    let key = world.mint(ada("10")).await;
    world.provider.script(Script::new().deltas(3).fault(Fault::Stall, 1));
    let mut body = hello(64);
    body["stream"] = json!(true);
    let stream = world.gateway.clone().oneshot(post(MESSAGES, &key, &body)).await.expect("infallible").into_body();
    // In a separate task, so that only the cut can wake it.
    let mut waits = JoinSet::new();
    waits.spawn(stream.collect());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(live.cut(&revoked(), |_| true), 1);
    let heard = tokio::time::timeout(Duration::from_secs(60), waits.join_next()).await.expect("it hears of it");
    let whole = heard.expect("one waits").expect("no panic").expect("an event").to_bytes();
    assert!(String::from_utf8_lossy(&whole).contains("this key was revoked"));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_ends_is_not_read_on() {
    let (live, drain) = (LiveCalls::new(), Drain::new(1, Duration::from_secs(1_000)));
    let world = World::with(|layer| layer.live_calls(live.clone()).drain(drain.clone()));
    let key = world.mint(ada("10")).await;
    let _stream = begun(&world, MESSAGES, &key).await;
    assert_eq!(live.cut(&revoked(), |_| true), 1);
    assert_eq!((drain.places_left(), world.settlements.len()), (1, 0), "nobody reads");
    assert_eq!(last(&world).await.end, End::Cut);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_is_paid_as_one_that_was_left_though_nobody_meters_what_is_behind() {
    let live = LiveCalls::new();
    let budgets = MemoryBudgets::new();
    let behind = service_fn(|_request: Request<Body>| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let (ingest, budget) = (IngestLayer::new(), BudgetLayer::new(budgets.clone()));
    let service = CallLayer::new().live_calls(live.clone()).layer(ingest.layer(budget.layer(behind)));
    let mut request = Request::post(MESSAGES).body(Body::from(hello(1_000).to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new(ada("10")));
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(live.cut(&revoked(), |_| true), 1);
    };
    let (answer, ()) = tokio::join!(service.oneshot(request), cut);
    let answer = answer.expect("infallible");
    assert_eq!(answer.status(), 401);
    answer.into_body().collect().await.expect("an error");
    let standing = budgets.standing(&ada("10").budgets, At::Store).await.expect("memory").remove(0);
    assert!(standing.held == Money::ZERO && standing.spent > Money::ZERO, "{standing:?}");
}
