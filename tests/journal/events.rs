use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tollgate::audit::{Slack, Webhook};
use tollgate::call::Settlements;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::event::{Event, What};
use tollgate::domain::outcome::Outcome;
use tollgate::domain::scope::Scope;
use tollgate::store::StoreError;
use tollgate::store::event::EventSink;
use tollgate::store::journal::{Events, Journal, UpstreamWatch};
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, Provider};
use tollgate::{AuditLayer, Body, BudgetLayer, Dialect, Gateway, GatewayLayer};
use tower::{Service, ServiceExt, service_fn};

use crate::site::{Dir, Sink, Site, ended, request, until};
use crate::support::Server;

/// An event sink that can be told to accept nothing.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<(Vec<Event>, bool)>>);

impl Ear {
    pub(crate) fn deaf(&self, is_deaf: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = is_deaf;
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.iter().map(ToString::to_string).collect()
    }
}

#[async_trait]
impl EventSink for Ear {
    async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.1 {
            return Err(StoreError::unavailable("deaf"));
        }
        heard.0.push(event.clone());
        Ok(())
    }
}

/// A gateway in front of this provider that sends events.
pub(crate) fn gateway<C>(journal: Journal, provider: C) -> (Gateway, AuditLayer, Settlements)
where
    C: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let (events, settlements) = (journal.events(), Settlements::new());
    let watch = UpstreamWatch::new(events.clone(), 3);
    let audit = AuditLayer::journaled(journal);
    let budgets = BudgetLayer::new(MemoryBudgets::new())
        .for_everyone(Budget::new(Scope::team("search"), Window::Day, "0.00004".parse().expect("money")).soft())
        .on_threshold(move |crossing| events.crossing(crossing));
    let layer = GatewayLayer::new()
        .settlements(settlements.clone())
        .audit(&audit)
        .budget(budgets)
        .on_close(move |outcome: &Arc<Outcome>| watch.see(outcome));
    let upstream = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, provider);
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, upstream.expect("a URL")).layer(layer);
    (gateway.build().expect("a gateway"), audit, settlements)
}

pub(crate) async fn ask(gateway: &Gateway, prompt: &str) -> StatusCode {
    let answer = gateway.clone().oneshot(request(prompt)).await.expect("infallible");
    let status = answer.status();
    let _ = answer.into_body().collect().await;
    status
}

#[tokio::test]
async fn a_budget_that_runs_out_is_told_once_a_threshold_however_late_and_though_the_process_dies() {
    let (dir, ear) = (Dir::new("thresholds"), Ear::default());
    ear.deaf(true);
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let (gateway, audit, settlements) = gateway(journal, Simulated::new());
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "sim:deltas=8").await, StatusCode::OK);
    }
    settlements.drain().await;
    audit.flush().await;
    assert_eq!(ear.heard(), [""; 0]);

    let left = dir.as_if_killed("thresholds-after");
    // The process before is not dead, and goes on sending to its own sink.
    let ear = Ear::default();
    let journal =
        Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let audit = AuditLayer::journaled(journal);
    until("what was never told", || ear.heard().len() >= 4).await;
    audit.flush().await;
    let heard = ear.heard();
    let starts = [
        "50% of the soft day budget of team search is spent: $0.0000",
        "80% of",
        "95% of",
        "the soft day budget of team search is spent",
    ];
    assert_eq!(heard.len(), starts.len(), "each once: {heard:?}");
    for (said, start) in heard.iter().zip(starts) {
        assert!(said.starts_with(start), "{heard:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_goes_down_is_told_once_and_once_when_it_is_up_again() {
    let (dir, ear) = (Dir::new("upstreams"), Ear::default());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let (gateway, audit, settlements) = gateway(journal, Simulated::new());
    // Two failures in a row are not an outage.
    assert_eq!(ask(&gateway, "sim:status=503").await, 503);
    assert_eq!(ask(&gateway, "sim:status=503").await, 503);
    assert_eq!(ask(&gateway, "").await, 200);
    // Nor are the client's own errors.
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "sim:status=400").await, 400);
    }
    // A proxy's error page, a rejected credential of the gateway's, and the provider's own errors are failures. A stream
    // that breaks off is none, and is no good answer either.
    for (script, status) in
        [("html,status=502", 502), ("status=401", 500), ("error=2", 200), ("status=503", 503), ("error=2", 200)]
    {
        assert_eq!(ask(&gateway, &format!("sim:{script}")).await, status);
    }
    assert_eq!(ask(&gateway, "").await, 200);
    // The outages go on, and not every one is reported.
    for script in ["status=503", "status=503", "status=503", "", "status=503", "status=503", "status=503", ""] {
        ask(&gateway, &format!("sim:{script}")).await;
    }
    settlements.drain().await;
    audit.flush().await;
    let heard: Vec<_> = ear.heard().into_iter().filter(|said| said.contains("upstream")).collect();
    assert_eq!(heard, ["upstream anthropic is down: its last 3 attempts failed", "upstream anthropic answers again"]);
}

#[tokio::test]
async fn clients_who_leave_while_a_connection_is_made_are_no_outage() {
    let (dir, ear) = (Dir::new("leaving"), Ear::default());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let (events, begun) = (journal.events(), Arc::new(Notify::new()));
    let connecting = begun.clone();
    let connects = service_fn(move |request: Request<Body>| {
        connecting.notify_one();
        async move {
            let _not_taken = request;
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let (gateway, audit, settlements) = gateway(journal, connects);
    for _ in 0..5 {
        tokio::select! {
            _ = ask(&gateway, "") => panic!("nobody answers"),
            () = begun.notified() => {}
        }
    }
    settlements.drain().await;
    audit.flush().await;
    // The sink hears what comes after them, and nothing before it.
    events.tell(Event::new(SystemClock.now(), What::UpstreamUp { upstream: "another".into() }));
    until("the last word", || !ear.heard().is_empty()).await;
    assert_eq!(ear.heard(), ["upstream another answers again"]);
}

#[tokio::test]
async fn a_threshold_that_a_lost_call_has_reached_is_told_at_the_next_start() {
    let (dir, ear) = (Dir::new("lost-thresholds"), Ear::default());
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let (gateway, _audit, _settlements) = gateway(journal, Simulated::new());
    let _under_way = gateway.clone().oneshot(request("sim:deltas=80,stall=8")).await.expect("infallible");
    let left = dir.as_if_killed("lost-thresholds-after");
    let journal = Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", ear.clone()));
    let mut journal = journal.expect("a journal");
    let corrected = journal.settle_lost(&MemoryBudgets::new()).await.expect("memory");
    assert_eq!(corrected.lost, 1);
    let _audit = AuditLayer::journaled(journal);
    until("it is told", || !ear.heard().is_empty()).await;
    assert!(ear.heard()[0].contains("the day budget of team search is spent"), "{:?}", ear.heard());
}

#[test]
fn whoever_runs_the_gateway_is_told_which_key_has_spent_its_budget() {
    let id = uuid::Uuid::now_v7();
    let told_of = |key_name: Option<&str>, percent, soft| {
        let pot = Budget::new(Scope::key(id.to_string()), Window::Day, "5".parse().expect("money")).pot;
        let (limit_usd, spent_usd) = ("5".parse().expect("money"), "4".parse().expect("money"));
        let key_name = key_name.map(Into::into);
        What::BudgetThreshold { pot, key_name, limit_usd, spent_usd, percent, soft }.to_string()
    };
    let told = |key_name, percent| told_of(key_name, percent, false);
    assert_eq!(told(Some("ada"), 80), format!("80% of the day budget of key ada ({id}) is spent: $4.00 of $5.00"));
    assert_eq!(told(Some("ada"), 100), format!("the day budget of key ada ({id}) is spent: $4.00 of $5.00"));
    assert_eq!(told(None, 100), format!("the day budget of key {id} is spent: $4.00 of $5.00"));
    assert_eq!(told(Some(&id.to_string()), 100), told(None, 100), "of a key that has no other name");
    assert_eq!(told_of(None, 80, true), format!("80% of the soft day budget of key {id} is spent: $4.00 of $5.00"));
    let gone = format!("the soft day budget of key {id} is spent: $4.00 of $5.00; calls go on");
    assert_eq!(told_of(None, 100, true), gone);
}

#[tokio::test]
async fn that_calls_are_refused_because_they_cannot_be_recorded_is_told_while_they_are() {
    let (dir, ear, sink) = (Dir::new("degraded"), Ear::default(), Sink::default());
    sink.stall(true);
    let options = Journal::at(&dir.0).segment_bytes(1 << 20).most_bytes(3 << 20).keep_bytes(0);
    let journal = options.open().and_then(|journal| journal.ship("kept", sink.clone()));
    let journal = journal.and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let site = Site::new(journal, MemoryBudgets::new());
    while site.whole("hello").await == StatusCode::OK {}
    until("it is told", || !ear.heard().is_empty()).await;
    assert!(site.audit.status().is_refusing);
    assert!(
        ear.heard()[0].starts_with("calls are refused because they cannot be recorded: no room"),
        "{:?}",
        ear.heard()
    );
    assert!(sink.records().is_empty(), "nothing has made room meanwhile");
    sink.stall(false);
    until("it is told", || ear.heard().len() == 2).await;
    assert_eq!(ear.heard()[1], "calls are recorded again");
    let status = site.audit.status();
    assert!(!status.is_refusing && status.places_left > 0 && status.head.is_some(), "{status:?}");
    let names: Vec<_> = status.behind.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["ear", "kept"]);
}

/// The requests that came, and the statuses to answer next.
type Received = Arc<Mutex<(Vec<(http::HeaderMap, Value)>, Vec<u16>)>>;

async fn receiver(received: &Received) -> Server {
    let received = received.clone();
    Server::start(service_fn(move |request: Request<Incoming>| {
        let received = received.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("whole").to_bytes();
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            received.0.push((parts.headers, serde_json::from_slice(&body).expect("JSON")));
            let status = received.1.pop().unwrap_or(200);
            Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).expect("a response"))
        }
    }))
    .await
}

pub(crate) fn tell(events: &Events, key_name: &str) {
    let what = What::KeyRevoked { key_id: uuid::Uuid::nil(), key_name: key_name.into() };
    events.tell(Event::new("2026-11-28T09:00:00Z".parse().expect("a time"), what));
}

#[tokio::test]
async fn slack_and_a_webhook_are_told_in_their_own_words_again_until_they_take_it() {
    let (dir, to_slack, to_webhook) = (Dir::new("slack"), Received::default(), Received::default());
    let (slack, webhook) = (receiver(&to_slack).await, receiver(&to_webhook).await);
    to_slack.lock().unwrap_or_else(PoisonError::into_inner).1 = vec![404, 200, 503];
    let client = HttpClient::new().expect("a client");
    let channel = Slack::new(&format!("{}/services/secret", slack.url()), client.clone()).expect("a URL");
    assert!(!format!("{channel:?}").contains("secret"));
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    let hook = Webhook::new(&format!("{}/events", webhook.url()), &secret, client).expect("a webhook");
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let journal = journal.notify("slack", channel).and_then(|journal| journal.notify("hook", hook)).expect("two names");
    let events = journal.events();
    let audit = AuditLayer::journaled(journal);
    for name in ["a <b> & c", "refused", "last"] {
        tell(&events, name);
    }
    audit.flush().await;

    let texts: Vec<_> =
        to_slack.lock().unwrap_or_else(PoisonError::into_inner).0.iter().map(|(_, body)| body.clone()).collect();
    let first = json!({ "text": "tollgate: key a &lt;b&gt; &amp; c was revoked" });
    // The first event is accepted at the second attempt, the next is refused for good, and the last is accepted.
    let [refused, last] =
        ["refused", "last"].map(|name| json!({ "text": format!("tollgate: key {name} was revoked") }));
    assert_eq!(texts, [first.clone(), first, refused, last]);
    let received = to_webhook.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    assert_eq!(received.len(), 3);
    let (headers, body) = &received[0];
    assert_eq!((&body["type"], &body["data"]["type"]), (&json!("tollgate.key_revoked"), &json!("key_revoked")));
    assert_eq!((&body["timestamp"], &body["data"]["key_name"]), (&json!("2026-11-28T09:00:00Z"), &json!("a <b> & c")));
    assert!(headers.contains_key("webhook-signature") && headers.contains_key("webhook-id"));
    assert!(Slack::new("not a url", HttpClient::new().expect("a client")).is_err());
    drop((audit, events));
    ended(&dir).await;
}

#[test]
fn an_event_is_read_back_as_it_was_written() {
    let pot = Budget::new(Scope::team("search"), Window::Day, "5".parse().expect("money")).pot;
    let (limit_usd, spent_usd) = ("5".parse().expect("money"), "4.02".parse().expect("money"));
    let resets_at = "2026-11-29T00:00:00Z".parse().expect("a time");
    for what in [
        What::BudgetThreshold { pot: pot.clone(), key_name: None, limit_usd, spent_usd, percent: 80, soft: true },
        What::BudgetThreshold {
            pot: pot.clone(),
            key_name: Some("ada".into()),
            limit_usd,
            spent_usd,
            percent: 100,
            soft: false,
        },
        What::BudgetExhausted { pot: pot.clone(), key_name: None, limit_usd, spent_usd, resets_at: Some(resets_at) },
        What::BudgetExhausted { pot, key_name: Some("ada".into()), limit_usd, spent_usd, resets_at: None },
        What::KeyRevoked { key_id: uuid::Uuid::nil(), key_name: "ada".into() },
        What::UpstreamDown { upstream: "anthropic".into(), attempts: 5 },
        What::UpstreamUp { upstream: "anthropic".into() },
        What::AuditDegraded { reason: "the disk is full".into() },
        What::AuditRestored,
    ] {
        let event = Event::new("2026-11-28T09:00:00Z".parse().expect("a time"), what);
        let json = serde_json::to_value(&event).expect("plain data");
        assert_eq!(json["type"], event.what.as_str());
        assert_eq!(serde_json::from_value::<Event>(json).expect("as it was written"), event);
    }
}
