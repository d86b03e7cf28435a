//! What clients get of a refusal of each kind.

use std::collections::BTreeSet;

use async_trait::async_trait;
use http::Request;
use http::request::Parts;
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::domain::rejection::RejectionKind::{self, *};
use tollgate::testing::Simulated;
use tollgate::{Body, Call, Gate, GatewayLayer, Rejection};
use tower::{Layer, ServiceExt};

const KINDS: [RejectionKind; 23] = [
    BudgetHeld,
    BudgetSpent,
    BudgetUnreadable,
    Busy,
    ClientTooSlow,
    InvalidRequest,
    MethodNotAllowed,
    Misconfigured,
    ModelNotAllowed,
    ModelNotFound,
    NotFound,
    NotPermitted,
    PriceUnknown,
    RateLimited,
    ShuttingDown,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    Unsupported,
    UpstreamCredential,
    UpstreamGarbled,
    UpstreamTimeout,
    UpstreamUnreachable,
];

struct Refuses(RejectionKind);

#[async_trait]
impl Gate for Refuses {
    async fn admit(&self, _: &mut Parts, _: &Call) -> Result<(), Rejection> {
        Err(Rejection::new(self.0, "no"))
    }
}

/// The status, and the word that a program reads, as the table writes them.
async fn told(kind: RejectionKind, path: &str) -> String {
    let stack = GatewayLayer::new().gate(Refuses(kind)).layer(Simulated::new());
    let body = r#"{"model":"claude-haiku-5-5","max_tokens":9,"messages":[]}"#;
    let answer =
        stack.oneshot(Request::post(path).body(Body::from(body)).expect("a request")).await.expect("infallible");
    let status = answer.status().as_u16();
    let error: Value =
        serde_json::from_slice(&answer.into_body().collect().await.expect("whole").to_bytes()).expect("JSON");
    let word = [&error["error"]["code"], &error["error"]["type"]].into_iter().find_map(Value::as_str).expect("a word");
    format!("{status} `{word}`")
}

#[tokio::test]
async fn the_table_of_refusals_has_every_kind_with_the_status_and_the_word_that_clients_get() {
    let source = include_str!("../../src/domain/rejection.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `")?.strip_suffix(" |"));
    let mut seen = BTreeSet::new();
    for row in rows {
        let [kinds, anthropic, openai] = row.split(" | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
        for name in kinds.split(", ").map(|name| name.trim_matches('`')) {
            let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(told(kind, "/v1/messages").await, anthropic, "{name}");
            assert_eq!(told(kind, "/v1/chat/completions").await, openai, "{name}");
            assert!(seen.insert(name), "{name} is there twice");
        }
    }
    let variants = source.split("pub enum RejectionKind {").nth(1).and_then(|rest| rest.split('}').next()).expect("it");
    let variants = variants.lines().filter(|line| line.trim_end().ends_with(',')).count();
    assert_eq!((seen.len(), variants), (KINDS.len(), KINDS.len()), "{seen:?}");
}
