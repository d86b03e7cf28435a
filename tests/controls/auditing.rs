use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::Sha256;
use tollgate::audit::{JsonLines, Webhook};
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::Window;
use tollgate::domain::limit::Measure;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{Decision, End};
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::memory::MemoryStore;
use tollgate::upstream::HttpClient;
use tollgate::{AdmissionLayer, AuditLayer, Body, Call, Gate, KeyAuthLayer};
use tower::{ServiceExt, service_fn};

use crate::support::Server;
use crate::support::dir::Dir;
use crate::world::{CHAT, MESSAGES, World, ask, post};

fn hello() -> Value {
    json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

#[tokio::test]
async fn every_call_has_one_record_whatever_its_end() {
    let world = World::new();
    let key =
        world.mint(Principal::new("ada").models(["claude-*"]).budget(Window::Day, "1".parse().expect("money"))).await;
    world.ask(post(MESSAGES, &key, &hello())).await;
    world.ask(Request::post(MESSAGES).body(Body::from("{}")).expect("a request")).await;
    world.ask(post(MESSAGES, &key, &json!({ "model": 7 }))).await;
    world.ask(post(MESSAGES, &key, &json!({ "model": "gpt-5", "messages": [] }))).await;
    let mut stream = hello();
    stream["stream"] = json!(true);
    drop(world.gateway.clone().oneshot(post(MESSAGES, &key, &stream)).await.expect("infallible"));
    let records = world.records().await;
    let ends: Vec<_> = records.iter().map(|record| record.end).collect();
    assert_eq!(ends, [End::Complete, End::Refused, End::Refused, End::Refused, End::Abandoned]);
    let json: Vec<Value> = records.iter().map(|record| serde_json::to_value(record).expect("plain data")).collect();
    for (record, json) in records.iter().zip(&json) {
        assert_eq!(serde_json::from_value::<AuditRecord>(json.clone()).as_ref().ok(), Some(record), "read back");
    }
    assert_eq!((&json[0]["quality"], &json[1]["quality"]), (&json!("exact"), &json!(null)));
    assert_eq!(json[4]["quality"], "forfeit", "a stream that was left at once");
    let decisions = |n: usize| {
        let all = json[n]["decisions"].as_array().expect("a list").iter();
        all.map(|d| format!("{} {}", d["layer"].as_str().unwrap_or(""), d["allowed"] != false)).collect::<Vec<_>>()
    };
    assert_eq!(decisions(0), ["auth true", "route true", "budget true"]);
    assert_eq!(decisions(1), ["auth false"]);
    assert_eq!((&json[0]["schema"], &json[0]["key_name"], &json[0]["status"]), (&json!(1), &json!("ada"), &json!(200)));
    assert_eq!(json[0]["cost_usd"], json[0]["charged_usd"]);
    let attempt = &json[0]["attempts"][0];
    assert_eq!(attempt["price_version"], "litellm-1.109.1");
    assert_eq!(
        (&attempt["dialect"], &attempt["model"], &attempt["answered"]),
        (&json!("anthropic"), &json!("claude-haiku-5-5"), &json!("claude-haiku-5-5"))
    );
    assert_eq!(json[0]["bytes_in"], hello().to_string().len());
    let micros = |name: &str| json[0][name].as_u64().expect("a time");
    assert_eq!(micros("own_us"), micros("head_us") - attempt["head_us"].as_u64().expect("a time"));
    assert_eq!((&json[1]["rejection"], &json[1]["key_name"]), (&json!("unauthenticated"), &json!(null)));
    assert!(json[2]["reason"].as_str().expect("text").contains("`model` must be a string"), "{}", json[2]);
    assert_eq!(json[3]["rejection"], "model_not_allowed");
    assert_eq!(json[4]["charged_usd"], json[4]["granted_usd"]);
    assert!(!json[0].to_string().contains("Hello"), "prompts are nobody's business");
}

#[tokio::test]
async fn every_control_says_in_the_record_what_it_decided_and_why() {
    let world = World::new();
    // The same store, asked in one request by one layer instead of in two by two layers.
    let store = MemoryStore::of(world.keys.get_ref().clone(), world.limits.clone(), world.budgets.clone());
    let (clock, audit, keys, pepper) =
        (world.clock.clone(), world.audit.clone(), world.keys.clone(), world.pepper.clone());
    let whole = World::bare(move |layer| {
        layer.clock(clock).audit(&audit).auth(KeyAuthLayer::new(keys, pepper)).admission(AdmissionLayer::new(store))
    });
    let usd = |text: &str| text.parse::<Money>().expect("an amount");
    for (gateway, counted) in [(&world.gateway, "rate_limit true"), (&whole.gateway, "")] {
        let name = |name| format!("{name} {counted}");
        let hasty = Principal::new(name("eve")).models(["claude-*"]).budget(Window::Day, usd("1"));
        let hasty = world.mint(hasty.limit(Measure::Requests, 1)).await;
        let spent = Principal::new(name("ada")).budget(Window::Day, usd("0.000001"));
        let spent = world.mint(spent.limit(Measure::Requests, 9)).await;
        for (request, status, expected) in [
            (post(MESSAGES, &hasty, &hello()), 200, &["auth true", "route true", "rate_limit true", "budget true"][..]),
            (post(MESSAGES, &hasty, &hello()), 429, &["auth true", "route true", "rate_limit false"]),
            (post(MESSAGES, &spent, &hello()), 429, &["auth true", "route true", counted, "budget false"]),
            (post(CHAT, &hasty, &json!({ "model": "gpt-5", "messages": [] })), 404, &["auth true", "model false"]),
        ] {
            let answer = ask(gateway.clone(), request).await;
            assert_eq!(answer.status, status, "{answer:?}");
            let decisions = world.records().await.pop().expect("a record").decisions;
            let said: Vec<_> = decisions.iter().map(|one| format!("{} {}", one.layer, one.allowed)).collect();
            let expected: Vec<_> = expected.iter().filter(|one| !one.is_empty()).collect();
            assert_eq!(said.iter().collect::<Vec<_>>(), expected);
            // Every layer that admitted the call gives a reason, and the one that refused it gives the client's
            // message.
            for one in &decisions {
                match one.allowed {
                    true => assert!(!one.reason.is_empty(), "{one:?}"),
                    false => assert_eq!(*one.reason, *answer.message()),
                }
            }
        }
    }
}

/// A gate with very long reasons.
struct Talker;

#[async_trait]
impl Gate for Talker {
    async fn admit(&self, _: &mut Parts, call: &Call) -> Result<(), Rejection> {
        call.note(Decision::allow("talker", "é".repeat(500_000)));
        Err(Rejection::new(RejectionKind::InvalidRequest, "é".repeat(500_000)))
    }
}

#[tokio::test]
async fn of_a_reason_as_much_is_recorded_as_a_line_has_room_for() {
    let world = World::with(|layer| layer.gate(Talker));
    let key = world.mint(Principal::new("ada")).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 400);
    let record = world.records().await.remove(0);
    let expected = format!("{}…", "é".repeat(510));
    assert_eq!(record.reason.as_deref(), Some(&*expected));
    let reasons: Vec<_> = record.decisions.iter().map(|d| (&*d.layer, &*d.reason)).collect();
    assert_eq!(
        reasons,
        [
            ("auth", "the key is valid"),
            ("route", "anthropic/claude-haiku-5-5"),
            ("talker", &*expected),
            ("stack", &*expected)
        ]
    );
}

/// A sink that accepts nothing until it is told to.
#[derive(Clone, Default)]
struct Stuck(Arc<(AtomicBool, AtomicUsize)>);

#[async_trait]
impl AuditSink for Stuck {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        if !self.0.0.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the disk is full"));
        }
        self.0.1.fetch_add(records.len(), Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_loses_nothing_and_stops_admission_when_the_queue_is_full() {
    let stuck = Stuck::default();
    let audit = AuditLayer::with_capacity(stuck.clone(), 4);
    let world = World::with(|layer| layer.audit(&audit));
    let key = world.mint(Principal::new("ada")).await;
    let mut let_through = 0;
    let refused = loop {
        let answer = world.ask(post(MESSAGES, &key, &hello())).await;
        match answer.status.as_u16() {
            200 => let_through += 1,
            _ => break answer,
        }
        assert!(let_through < 100, "nothing bounds the queue");
    };
    assert_eq!(refused.error(), (529, "overloaded_error".to_owned(), json!(null)));
    assert_eq!(refused.header("retry-after"), Some("1"));
    stuck.0.0.store(true, Ordering::SeqCst);
    audit.flush().await;
    assert_eq!(stuck.0.1.load(Ordering::SeqCst), let_through);
    assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 200);
}

/// A sink that is unread, is read, or panics when it is asked whether it is read.
#[derive(Clone, Default)]
struct Unread(Arc<(AtomicUsize, AtomicUsize)>);

#[async_trait]
impl AuditSink for Unread {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.0.1.fetch_add(records.len(), Ordering::SeqCst);
        Ok(())
    }

    fn is_read(&self) -> bool {
        match self.0.0.load(Ordering::SeqCst) {
            0 => false,
            1 => true,
            _ => panic!("a sink that does not know"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_record_is_made_for_a_sink_while_nobody_reads_it() {
    let unread = Unread::default();
    // The sink is shared through an `Arc`, as in real stacks.
    let audit = AuditLayer::with_capacity(Arc::new(unread.clone()), 4);
    let world = World::with(|layer| layer.audit(&audit));
    let key = world.mint(Principal::new("ada")).await;
    for (is_read, written) in [(0, 0), (1, 3), (0, 3), (2, 6)] {
        unread.0.0.store(is_read, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 200);
        }
        audit.flush().await;
        assert_eq!(unread.0.1.load(Ordering::SeqCst), written, "{is_read}");
        assert_eq!(audit.status().places_left, 4, "their places are given back");
    }
}

/// A sink that hangs the first time.
#[derive(Clone, Default)]
struct Hanging(Arc<(AtomicBool, AtomicUsize)>);

#[async_trait]
impl AuditSink for Hanging {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        if !self.0.0.swap(true, Ordering::SeqCst) {
            return std::future::pending().await;
        }
        self.0.1.fetch_add(records.len(), Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_half_a_minute_for_a_sink_that_hangs_and_what_it_has_not_had_it_is_told_still() {
    let hanging = Hanging::default();
    let audit = AuditLayer::with_capacity(hanging.clone(), 4);
    let world = World::with(|layer| layer.audit(&audit));
    let key = world.mint(Principal::new("ada")).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 200);
    let began = tokio::time::Instant::now();
    audit.flush().await;
    assert_eq!((began.elapsed().as_secs(), audit.status().places_left), (30, 3));
    assert_eq!(hanging.0.1.load(Ordering::SeqCst), 0);
    // The next flush waits until the sink is asked again.
    audit.flush().await;
    audit.flush().await;
    assert_eq!((began.elapsed().as_secs(), audit.status().places_left), (61, 4));
    assert_eq!(hanging.0.1.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_strangers_and_a_sink_that_stalls_keep_nobody_out_who_has_a_key() {
    let stuck = Stuck::default();
    let audit = AuditLayer::with_capacity(stuck.clone(), 64);
    let world = World::with(|layer| layer.audit(&audit));
    let key = world.mint(Principal::new("ada")).await;
    let stranger = || Request::post(MESSAGES).body(Body::from(hello().to_string())).expect("a request");
    for _ in 0..500 {
        assert_eq!(world.ask(stranger()).await.status, 401);
    }
    assert!(!audit.status().is_refusing, "{:?}", audit.status());
    let (recorded, left_out) = (64 - audit.status().places_left, audit.status().left_out);
    assert_eq!(recorded as u64 + left_out, 500);
    assert!((40..=48).contains(&recorded), "as long as there is room every refusal is recorded: {recorded}");
    // Calls with a valid key are always recorded, even if they are refused.
    for asked in [hello(), json!({ "model": 7 })].iter().cycle().take(14) {
        assert_ne!(world.ask(post(MESSAGES, &key, asked)).await.status, 529);
        assert_eq!(world.ask(stranger()).await.status, 401);
    }
    stuck.0.0.store(true, Ordering::SeqCst);
    audit.flush().await;
    assert_eq!(stuck.0.1.load(Ordering::SeqCst), recorded + 14);
    assert_eq!(audit.status().left_out, left_out + 14);
    // Once there is room again, strangers are recorded too.
    assert_eq!(world.ask(stranger()).await.status, 401);
    audit.flush().await;
    assert_eq!(stuck.0.1.load(Ordering::SeqCst), recorded + 15);
}

#[tokio::test]
async fn json_lines_are_appended_one_for_each_call() {
    let dir = Dir::new("audit");
    let path = dir.join("audit.jsonl");
    for _ in 0..2 {
        let audit = AuditLayer::new(JsonLines::append(&path).expect("a place for temporary files"));
        let world = World::with(|layer| layer.audit(&audit));
        let key = world.mint(Principal::new("ada")).await;
        for _ in 0..3 {
            let answer = world.gateway.clone().oneshot(post(MESSAGES, &key, &hello())).await.expect("infallible");
            answer.into_body().collect().await.expect("whole");
        }
        audit.flush().await;
    }
    let text = std::fs::read_to_string(&path).expect("it was written");
    let ids: std::collections::HashSet<String> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].to_string()).collect();
    assert_eq!((text.lines().count(), ids.len()), (6, 6));
}

#[tokio::test]
async fn a_record_says_which_agent_session_and_user_a_client_says_it_is() {
    let world = World::new();
    let key = world.mint(Principal::new("ada")).await;
    let mut claude_code = hello();
    let id = json!({ "device_id": "d1", "account_uuid": "a1", "session_id": "s1" }).to_string();
    claude_code["metadata"] = json!({ "user_id": id });
    let mut request = post(MESSAGES, &key, &claude_code);
    request.headers_mut().insert("user-agent", "claude-cli/2.1.330 (external, cli)".parse().expect("a value"));
    assert_eq!(world.ask(request).await.status, 200);

    let chat = json!({ "model": "gpt-5", "messages": [], "user": "old", "safety_identifier": "one\nof\u{1b} many",
        "metadata": { "user_id": "not this", "User_ID": "nor this" } });
    let mut request = post(CHAT, &key, &chat);
    request.headers_mut().insert("user-agent", "OpenAI/Python 2.34.0".parse().expect("a value"));
    request.headers_mut().insert("x-session-affinity", "1".parse().expect("a value"));
    request.headers_mut().insert("x-session-id", "s".repeat(9_000).parse().expect("a value"));
    assert_eq!(world.ask(request).await.status, 200);

    let nobody = json!({ "model": "gpt-5", "messages": [], "user": ["wrong", "type"], "metadata": null });
    assert_eq!(world.ask(post(CHAT, &key, &nobody)).await.status, 200);

    // These members decide nothing, so duplicates are not refused.
    let twice =
        r#"{"model":"gpt-5","messages":[],"user":"one","User":"other","us\u0065r":"third","user":"two","METADATA":{}}"#;
    let request = Request::post(CHAT).header("x-api-key", key.expose()).body(Body::from(twice)).expect("a request");
    assert_eq!(world.ask(request).await.status, 200);

    let said: Vec<_> = world
        .records()
        .await
        .iter()
        .map(|record| {
            let record = serde_json::to_value(record).expect("JSON");
            ["agent", "session", "client_user"].map(|member| record[member].clone())
        })
        .collect();
    assert_eq!(said[0], [json!("claude-cli/2.1.330"), json!("s1"), json!("a1")]);
    assert_eq!(said[1], [json!("OpenAI/Python 2.34.0"), json!("s".repeat(128)), json!("oneof many")]);
    assert_eq!(said[2], [json!(null), json!(null), json!(null)]);
    assert_eq!(said[3], [json!(null), json!(null), json!("two")]);
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_a_webhook_is_sent_in_parts_and_only_what_no_part_holds_is_a_dead_letter() {
    let world = World::new();
    let key = world.mint(Principal::new("ada")).await;
    for _ in 0..9 {
        world.ask(post(MESSAGES, &key, &hello())).await;
    }
    let records = world.records().await;
    let ids: Vec<_> = records.iter().map(|record| record.id.to_string()).collect();
    let longest = ids[4].clone();
    let taken: Arc<Mutex<Vec<Value>>> = Arc::default();
    let heard = taken.clone();
    let client = service_fn(move |request: Request<Body>| {
        let (heard, longest) = (heard.clone(), longest.clone());
        async move {
            let body = request.into_body().collect().await.expect("whole").to_bytes();
            let message: Value = serde_json::from_slice(&body).expect("JSON");
            let data = message["data"].as_array().expect("records").clone();
            let is_too_large = data.len() > 2 || data.iter().any(|record| record["id"] == longest);
            if !is_too_large {
                heard.lock().expect("whole").extend(data);
            }
            let status = if is_too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::OK };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).expect("an answer"))
        }
    });
    let dir = Dir::new("too-large");
    let path = dir.join("dead.jsonl");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let webhook = Webhook::new("http://hooks.invalid/", secret, client).expect("a webhook");
    let webhook = webhook.dead_letters(JsonLines::append(&path).expect("a place for temporary files"));
    webhook.write(&records).await.expect("taken, or a dead letter");
    let id = |record: &Value| record["id"].as_str().expect("an id").to_owned();
    let taken: Vec<_> = taken.lock().expect("whole").iter().map(id).collect();
    let dead = std::fs::read_to_string(&path).expect("it was written");
    let dead: Vec<_> = dead.lines().map(|line| id(&serde_json::from_str(line).expect("JSON"))).collect();
    assert_eq!(dead, [ids[4].clone()]);
    assert_eq!(taken, [&ids[..4], &ids[5..]].concat(), "in their order");
}

/// What a receiver got, and the statuses that it answers next.
type Received = Arc<Mutex<(Vec<(HeaderMap, Bytes)>, Vec<u16>)>>;

#[tokio::test]
async fn a_webhook_is_signed_sent_again_until_it_is_taken_and_a_dead_letter_if_it_is_refused() {
    let received: Received = Arc::default();
    let answers = received.clone();
    let receiver = service_fn(move |request: Request<Incoming>| {
        let answers = answers.clone();
        async move {
            let (parts, body) = request.into_parts();
            assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/calls"));
            let body = body.collect().await.expect("whole").to_bytes();
            let mut answers = answers.lock().expect("no panic");
            answers.0.push((parts.headers, body));
            let status = answers.1.pop().unwrap_or(204);
            let response = Response::builder().status(status).body(Body::empty());
            Ok::<_, Infallible>(response.expect("a response"))
        }
    });
    let server = Server::start(receiver).await;
    let dir = Dir::new("dead");
    let path = dir.join("dead.jsonl");
    let secret = [7; 32];
    let webhook = Webhook::new(
        &format!("{}/calls", server.url()),
        &format!("whsec_{}", STANDARD.encode(secret)),
        HttpClient::new().expect("a client"),
    );
    let dead = JsonLines::append(&path).expect("a place for temporary files");
    let audit = AuditLayer::new(webhook.expect("a webhook").dead_letters(dead));
    let world = World::with(|layer| layer.audit(&audit));
    let key = world.mint(Principal::new("ada")).await;
    for answers in [vec![204, 503, 429], vec![410]] {
        received.lock().expect("no panic").1 = answers;
        assert_eq!(world.ask(post(MESSAGES, &key, &hello())).await.status, 200);
        audit.flush().await;
    }
    let got = received.lock().expect("no panic").0.clone();
    assert_eq!(got.len(), 4);
    let header = |at: usize, name: &str| got[at].0[name].to_str().expect("text").to_owned();
    assert!((0..2).all(|at| header(at, "webhook-id") == header(at + 1, "webhook-id") && got[at].1 == got[at + 1].1));
    assert_ne!(header(2, "webhook-id"), header(3, "webhook-id"));
    for (at, (_, body)) in got.iter().enumerate() {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&secret).expect("any length");
        mac.update(format!("{}.{}.", header(at, "webhook-id"), header(at, "webhook-timestamp")).as_bytes());
        mac.update(body);
        let due = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(header(at, "webhook-signature"), due);
        let message: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!((&message["type"], message["data"].as_array().map(Vec::len)), (&json!("tollgate.calls"), Some(1)));
    }
    let refused: Value = serde_json::from_slice(&got[3].1).expect("JSON");
    let dead = std::fs::read_to_string(&path).expect("it was written");
    assert_eq!(serde_json::from_str::<Value>(&dead).expect("one line"), refused["data"][0]);
}

#[test]
fn what_is_no_webhook_is_refused_at_once_and_says_nothing_of_its_secret() {
    let good = format!("whsec_{}", STANDARD.encode([7; 32]));
    for (url, secret) in [
        ("/calls", good.as_str()),
        ("ftp://example.com/calls", &good),
        ("https://example.com/calls", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("https://example.com/calls", "whsec_c2hvcnQ="),
        ("https://example.com/calls", "whsec_not base64"),
        ("https://example.com/calls", ""),
    ] {
        assert!(Webhook::new(url, secret, ()).is_err(), "{url} {secret}");
    }
    let webhook = Webhook::new("https://example.com/canary-path", &good, ()).expect("a webhook");
    let shown = format!("{webhook:?}");
    assert!(!shown.contains("canary") && !shown.contains("BwcH") && shown.contains("example.com"), "{shown}");
}
