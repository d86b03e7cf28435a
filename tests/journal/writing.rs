use std::convert::Infallible;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tollgate::dialect::meter::StreamMeter;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::event::{Event, What};
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::AttemptEnd;
use tollgate::domain::principal::Principal;
use tollgate::gateway::GatewayService;
use tollgate::store::journal::{Journal, export, verify};
use tollgate::store::key::KeyRegistry;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::{Script, Simulated};
use tollgate::upstream::Provider;
use tollgate::wire::sse::Scanner;

use crate::site::{Dir, Site, ended, kinds, lines, money, pot, request, until};
use crate::support::page::missing;
use tollgate::{AuditLayer, Body, BudgetLayer, Call, Dialect, Gateway, GatewayLayer, KeyAuthLayer, RateLimitLayer};
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn every_member_of_a_line_is_on_its_page() {
    let dir = Dir::new("page");
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let events = journal.events();
    let pot = pot().pot;
    for what in [
        What::BudgetThreshold {
            pot: pot.clone(),
            key_name: Some("ada".into()),
            limit_usd: Money::ZERO,
            spent_usd: Money::ZERO,
            percent: 50,
            soft: false,
        },
        What::BudgetExhausted { pot, key_name: None, limit_usd: Money::ZERO, spent_usd: Money::ZERO, resets_at: None },
        What::UpstreamDown { upstream: "anthropic".into(), attempts: 5 },
    ] {
        events.tell(Event::new(SystemClock.now(), what));
    }
    let site = Site::new(journal, MemoryBudgets::new());
    assert_eq!(site.whole("sim:deltas=600").await, StatusCode::OK);
    site.settlements.drain().await;
    site.audit.flush().await;
    drop(site);
    drop(events);
    ended(&dir).await;
    let lines = lines(&dir.0);
    for kind in ["opened", "event", "intent", "seen", "final", "settled"] {
        assert!(lines.iter().any(|line| !line[kind].is_null()), "no {kind} in {lines:?}");
    }
    let found: Vec<_> = lines.iter().flat_map(missing).collect();
    assert!(found.is_empty(), "{found:?} are not in src/docs/records.md");
}

#[tokio::test]
async fn a_call_is_written_before_it_is_sent_and_again_when_it_has_closed() {
    let dir = Dir::new("both");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let answer = site.ask("sim:deltas=5,stall=3").await;
    // The answer stalls for ever, so only its intent is written.
    let before = lines(&dir.0);
    assert_eq!(kinds(&before), ["opened", "intent"]);
    let intent = before.iter().find(|line| !line["intent"].is_null()).expect("it was sent");
    let record = &intent["intent"]["record"];
    assert_eq!(
        (&record["key_name"], &record["team"], &record["end"]),
        (&json!("ada"), &json!("search"), &json!("lost"))
    );
    assert_eq!(record["model"], "claude-haiku-5-5");
    let decisions = [0, 1].map(|at| [&record["decisions"][at]["layer"], &record["decisions"][at]["reason"]]);
    assert_eq!(decisions[0], ["route", "anthropic/claude-haiku-5-5"]);
    assert_eq!(decisions[1][0], "budget");
    let pot = intent["intent"]["pots"][0].as_array().expect("what is held");
    assert_eq!((&pot[..2], pot.len()), (&[json!("team"), json!("search")][..], 5), "{pot:?}");
    assert!(money(&record["charged_usd"]) < money(&record["granted_usd"]), "five seconds do not make 20,000 tokens");

    drop(answer);
    site.settlements.drain().await;
    site.audit.flush().await;
    let after = lines(&dir.0);
    assert_eq!(kinds(&after), ["opened", "intent", "final"]);
    let closed = &after.iter().find(|line| !line["final"].is_null()).expect("it has closed")["final"]["record"];
    assert_eq!(
        (&closed["id"], &closed["end"], &closed["quality"]),
        (&record["id"], &json!("abandoned"), &json!("estimated"))
    );
    let report = verify(&dir.0, &[]).expect("readable");
    assert_eq!((report.broken, report.finals, report.first), (None, 1, Some(1)));
}

#[tokio::test]
async fn a_refused_call_has_a_final_and_no_intent() {
    let dir = Dir::new("refused");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    let mut refused = request("");
    *refused.body_mut() = Body::from(r#"{"model":7}"#);
    let answer = site.gateway.clone().oneshot(refused).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    drop(answer);
    site.audit.flush().await;
    let lines = lines(&dir.0);
    assert_eq!(kinds(&lines), ["opened", "final"]);
    let closed = lines.iter().find(|line| !line["final"].is_null()).expect("one");
    assert_eq!(closed["final"]["record"]["rejection"], "invalid_request");
}

#[tokio::test]
async fn how_a_stream_stands_is_written_while_it_goes_on() {
    let dir = Dir::new("seen");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    site.provider.script(Script::new().deltas(700).delay(Duration::from_millis(10)));
    let answer = site.ask("hello").await;
    let reading = answer.into_body().collect();
    let seen = async {
        until("two looks at it", || kinds(&lines(&dir.0)).iter().filter(|kind| **kind == "seen").count() >= 2).await;
        lines(&dir.0)
    };
    let (_, seen) = tokio::join!(reading, seen);
    let seen: Vec<_> = seen.iter().map(|line| &line["seen"]).filter(|seen| !seen.is_null()).collect();
    // Anthropic states the input tokens at the beginning.
    assert!(seen[0]["usage"]["input"].as_u64() > Some(0), "{}", seen[0]);
    assert!(money(&seen[1]["charged_usd"]) > money(&seen[0]["charged_usd"]), "the longer the more: {seen:?}");
    assert_eq!(seen[0]["quality"], "estimated");
}

#[tokio::test]
async fn of_a_stream_of_which_much_comes_it_is_written_every_256_tokens_how_it_stands() {
    let dir = Dir::new("much");
    let site = Site::new(Journal::at(&dir.0).open().expect("a journal"), MemoryBudgets::new());
    site.provider.script(Script::new().deltas(1_200).delay(Duration::from_millis(1)));
    let answer = site.ask("hello").await.into_body().collect().await;
    answer.expect("whole");
    site.audit.flush().await;
    let lines = lines(&dir.0);
    let seen: Vec<_> = lines.iter().map(|line| &line["seen"]).filter(|seen| !seen.is_null()).collect();
    assert!(seen.len() >= 4, "{:?}", kinds(&lines));
    let charged: Vec<_> = seen.iter().map(|seen| money(&seen["charged_usd"])).collect();
    assert!(charged.is_sorted() && charged.first() < charged.last(), "{charged:?}");
}

/// Returns how often the journal writes down how a stream of many events stands.
async fn seen_of(
    name: &str,
    stack: impl FnOnce(GatewayLayer, Provider<Simulated>) -> GatewayService<Infallible>,
) -> usize {
    let (dir, provider) = (Dir::new(name), Simulated::new());
    provider.script(Script::new().deltas(600).delay(Duration::from_millis(1)));
    let audit = AuditLayer::journaled(Journal::at(&dir.0).open().expect("a journal"));
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, provider).expect("a URL");
    let layer = GatewayLayer::new().audit(&audit).budget(BudgetLayer::new(MemoryBudgets::new()));
    let answer = stack(layer, provider).oneshot(request("hello")).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.expect("whole");
    audit.flush().await;
    kinds(&lines(&dir.0)).iter().filter(|kind| **kind == "seen").count()
}

#[tokio::test]
async fn so_it_is_of_a_gateway_behind_a_layer() {
    let seen = seen_of("nested", |layer, provider| {
        layer.layer(Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build().expect("a gateway"))
    });
    assert!(seen.await >= 1);
}

#[tokio::test]
async fn so_it_is_of_a_stream_that_a_service_of_the_hosts_meters_by_itself() {
    let seen = seen_of("by-hand", |layer, provider| {
        layer.layer(service_fn(move |request: Request<Body>| {
            let mut attempt = Call::of(&request).expect("opened further out").begin_attempt();
            let answer = provider.clone().oneshot(request);
            async move {
                let mut body = answer.await?.into_body();
                let (mut scanner, mut meter) = (Scanner::new(), StreamMeter::new(Dialect::Anthropic));
                while let Some(frame) = body.frame().await {
                    let data = frame.expect("whole").into_data().expect("no trailers");
                    scanner.push(&data, |block| meter.block(&block)).expect("small events");
                    attempt.read(meter.reading());
                }
                attempt.end(AttemptEnd::Complete);
                Ok::<_, Infallible>(http::Response::new(Body::empty()))
            }
        }))
    });
    assert!(seen.await >= 1);
}

#[tokio::test]
async fn a_stack_with_two_journals_is_told_so() {
    let (one, other) = (Dir::new("one"), Dir::new("other"));
    let journaled = |dir: &Dir| AuditLayer::journaled(Journal::at(&dir.0).open().expect("a journal"));
    let layer = GatewayLayer::new().audit(&journaled(&one)).audit(&journaled(&other));
    let service =
        layer.layer(service_fn(async |_: Request<Body>| Ok::<_, Infallible>(http::Response::new(Body::empty()))));
    let answer = service.oneshot(request("")).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_record_of_a_call_with_every_control_takes_little_more_than_a_kilobyte() {
    let (dir, keys) = (Dir::new("size"), MemoryKeys::new());
    let (key, pepper) = (
        VirtualKey::mint(Environment::Live).expect("randomness"),
        Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long"),
    );
    let principal = Principal::new("alice").user("alice@example.com").team("search").models(["claude-*"]);
    let principal = principal.limit(Measure::Requests, 100).limit(Measure::Tokens, 100_000).limit(Measure::Parallel, 4);
    let principal = principal.budget(Window::Day, "5".parse().expect("money"));
    assert!(keys.put(&KeyRecord::new(&key, &pepper, principal, SystemClock.now())).await.expect("memory").is_written());
    let audit = AuditLayer::journaled(Journal::at(&dir.0).open().expect("a journal"));
    let layer = GatewayLayer::new()
        .audit(&audit)
        .auth(KeyAuthLayer::new(keys, pepper))
        .rate_limit(RateLimitLayer::new(MemoryLimits::new()))
        .budget(BudgetLayer::new(MemoryBudgets::new()));
    let upstream = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, upstream.expect("a URL"))
        .layer(layer)
        .build()
        .expect("a gateway");
    let body =
        json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{ "role": "user", "content": "hi" }] });
    let request = Request::post("/v1/messages").header("x-api-key", key.expose());
    let request = request.header("user-agent", "claude-cli/2.1.330 (external, cli)").body(Body::from(body.to_string()));
    let answer = gateway.oneshot(request.expect("a request")).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::OK);
    let _ = answer.into_body().collect().await.expect("whole");
    audit.flush().await;
    let mut text = Vec::new();
    export(&dir.0, &mut text).expect("readable");
    let lines = text.split(|byte| *byte == b'\n');
    let is_record = |line: &&[u8]| {
        let line = String::from_utf8_lossy(line);
        line.contains("\"intent\":{") || line.contains("\"final\":{")
    };
    let sizes: Vec<_> = lines.filter(is_record).map(<[u8]>::len).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().sum::<usize>() < 2 * 1_100, "{sizes:?}");
}

#[tokio::test]
async fn every_refusal_of_a_stranger_is_a_line_of_less_than_two_kilobytes_whatever_it_says_of_itself() {
    let dir = Dir::new("strangers");
    let audit = AuditLayer::journaled(Journal::at(&dir.0).open().expect("a journal"));
    let auth =
        KeyAuthLayer::new(MemoryKeys::new(), Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long enough"));
    let nobody = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(http::Response::new(Body::empty())) });
    let stack = GatewayLayer::new().audit(&audit).auth(auth).layer(nobody);
    // JSON escapes each quote, so it takes two bytes.
    let long = "\"".repeat(4_000);
    for said in ["curl/8.5", &long] {
        let mut request = Request::post("/v1/messages").header("x-api-key", "tg_test_of_nobody");
        for name in ["user-agent", "x-claude-code-session-id", "x-team"] {
            request = request.header(name, said);
        }
        let request = request.body(Body::from(r#"{"model":"claude-haiku-5-5"}"#)).expect("a request");
        assert_eq!(stack.clone().oneshot(request).await.expect("infallible").status(), StatusCode::UNAUTHORIZED);
    }
    audit.flush().await;
    let lines = lines(&dir.0);
    let sizes: Vec<_> =
        lines.iter().filter(|line| !line["final"].is_null()).map(|line| line.to_string().len()).collect();
    assert!(matches!(sizes[..], [short, long] if short < 900 && long < 1_800), "{sizes:?}");
}
