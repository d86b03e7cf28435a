//! Event endpoints that answer with `retry-after`.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response, header};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::Instant;
use tollgate::audit::{Slack, Webhook};
use tollgate::domain::event::{Event, What};
use tollgate::domain::principal::Principal;
use tollgate::store::event::EventSink;
use tollgate::upstream::HttpClient;
use tollgate::{AuditLayer, Body};
use tower::service_fn;

use crate::support::Server;
use crate::world::{MESSAGES, World, post};

const SECOND: Duration = Duration::from_secs(1);

/// The times at which messages came. The first is answered with this status and a `retry-after` of one second.
type Came = Arc<Mutex<Vec<Instant>>>;

async fn receiver(came: &Came, status: u16) -> Server {
    let came = came.clone();
    Server::start(service_fn(move |_: Request<Incoming>| {
        let mut came = came.lock().expect("no panic");
        came.push(Instant::now());
        let answer = match came.len() {
            1 => Response::builder().status(status).header(header::RETRY_AFTER, "1"),
            _ => Response::builder(),
        };
        std::future::ready(Ok::<_, Infallible>(answer.body(Body::empty()).expect("a response")))
    }))
    .await
}

fn webhook(server: &Server) -> Webhook<HttpClient> {
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    Webhook::new(&server.url(), &secret, HttpClient::new().expect("a client")).expect("a webhook")
}

#[tokio::test]
async fn a_webhook_is_sent_no_record_before_the_time_that_it_names() {
    let came = Came::default();
    let server = receiver(&came, 429).await;
    let audit = AuditLayer::new(webhook(&server));
    let world = World::with(|layer| layer.audit(&audit));
    let key = world.mint(Principal::new("ada")).await;
    let hello = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] });
    world.ask(post(MESSAGES, &key, &hello)).await;
    audit.flush().await;
    let came = came.lock().expect("no panic").clone();
    assert_eq!(came.len(), 2);
    assert!(came[1] - came[0] >= SECOND, "{:?}", came[1] - came[0]);
}

#[tokio::test]
async fn slack_and_a_webhook_are_told_of_no_event_before_the_time_that_they_name() {
    let event = Event::new("2026-11-28T09:00:00Z".parse().expect("a time"), What::AuditRestored);
    let asked = AtomicUsize::new(0);
    let tells = async |sink: &dyn EventSink, came: &Came| {
        let began = Instant::now();
        while let Err(error) = sink.tell(&event).await {
            assert!(error.is_unavailable(), "{error}");
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(SECOND / 20).await;
        }
        assert!(began.elapsed() >= SECOND);
        assert_eq!(came.lock().expect("no panic").len(), 2, "nothing was sent in between");
    };
    let [to_slack, to_webhook] = [Came::default(), Came::default()];
    let (slack, hook) = (receiver(&to_slack, 429).await, receiver(&to_webhook, 503).await);
    let slack = Slack::new(&slack.url(), HttpClient::new().expect("a client")).expect("a URL");
    let webhook = webhook(&hook);
    tokio::join!(tells(&slack, &to_slack), tells(&webhook, &to_webhook));
    assert!(asked.into_inner() > 2, "both were asked while they rested");
}
