//! Events for budgets that refuse calls, and for keys that were revoked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tollgate::call::Settlements;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::event::{Event, What};
use tollgate::domain::key::{Environment, KeyDigest, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::StoreError;
use tollgate::store::cached::CachedKeys;
use tollgate::store::journal::{Events, Journal};
use tollgate::store::key::{KeyRegistry, KeyStore, Put};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys};
use tollgate::store::watched::WatchedKeys;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{AuditLayer, Body, BudgetLayer, Dialect, Gateway, GatewayLayer, KeyAuthLayer};
use tower::ServiceExt;
use uuid::Uuid;

use crate::events::Ear;
use crate::site::{Dir, ended, request_of, until};

/// A gateway in front of a simulated provider, and its audit layer.
fn gateway(journal: Journal, settlements: &Settlements, layer: GatewayLayer) -> (Gateway, AuditLayer) {
    let audit = AuditLayer::journaled(journal);
    let upstream = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let layer = layer.settlements(settlements.clone()).audit(&audit);
    let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, upstream.expect("a URL"));
    (gateway.layer(layer).build().expect("a gateway"), audit)
}

async fn status(gateway: &Gateway, request: Request<Body>) -> StatusCode {
    let answer = gateway.clone().oneshot(request).await.expect("infallible");
    let status = answer.status();
    let _ = answer.into_body().collect().await;
    status
}

/// Sends a last event, so that a test knows when all events have arrived.
fn last_word(events: &Events) {
    events.tell(Event::new(SystemClock.now(), What::UpstreamUp { upstream: "last".into() }));
}

#[tokio::test]
async fn a_budget_that_refuses_is_told_once_however_late_and_though_the_process_dies() {
    let (dir, ear, settlements) = (Dir::new("exhausted"), Ear::default(), Settlements::new());
    ear.deaf(true);
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let events = journal.events();
    let budgets = BudgetLayer::new(MemoryBudgets::new()).on_exhausted(move |standing| events.exhausted(standing));
    let (gateway, audit) = gateway(journal, &settlements, GatewayLayer::new().budget(budgets));
    let hard = Budget::new(Scope::team("search"), Window::Day, "0.005".parse().expect("money"));
    let mut refused = 0;
    for _ in 0..100 {
        match status(&gateway, request_of("sim:deltas=300", vec![hard.clone()])).await {
            StatusCode::OK => assert_eq!(refused, 0, "what is spent is spent"),
            answered => {
                assert_eq!(answered, StatusCode::TOO_MANY_REQUESTS);
                refused += 1;
            }
        }
        // Wait until the call is settled, since money that is only held causes no event.
        audit.flush().await;
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3);
    settlements.drain().await;
    audit.flush().await;
    assert_eq!(ear.heard(), [""; 0]);

    let left = dir.as_if_killed("exhausted-after");
    // The process before is not dead, and goes on sending to its own sink.
    let ear = Ear::default();
    let journal =
        Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    last_word(&journal.events());
    let _audit = AuditLayer::journaled(journal);
    until("what was never told", || ear.heard().len() >= 2).await;
    let heard = ear.heard();
    assert!(heard[0].starts_with("calls are refused by the day budget of team search: $0.00"), "{heard:?}");
    assert!(heard[0].contains(" of $0.005 is spent; more becomes available at "), "{heard:?}");
    assert_eq!(heard[1..], ["upstream last answers again"], "once");
}

fn pepper() -> Pepper {
    Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long enough")
}

fn minted(name: &str) -> (VirtualKey, KeyRecord) {
    let key = VirtualKey::mint(Environment::Test).expect("randomness");
    let record = KeyRecord::new(&key, &pepper(), Principal::new(name), SystemClock.now());
    (key, record)
}

/// Writes the record and returns it as it is stored.
async fn put(keys: &impl KeyRegistry, record: &KeyRecord) -> Arc<KeyRecord> {
    assert!(keys.put(record).await.expect("memory").is_written(), "the next version");
    keys.named(&record.principal.name).await.expect("memory").expect("it is there")
}

#[tokio::test]
async fn that_a_key_is_revoked_is_told_once_by_whoever_revokes_it_and_nothing_else_is() {
    let (dir, ear, settlements) = (Dir::new("revoked"), Ear::default(), Settlements::new());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let events = journal.events();
    let keys = CachedKeys::new(WatchedKeys::new(MemoryKeys::new(), events.clone()));
    let (gateway, audit) =
        gateway(journal, &settlements, GatewayLayer::new().auth(KeyAuthLayer::new(keys.clone(), pepper())));
    let (key, record) = minted("ada");
    let ask = || {
        let body = r#"{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}"#;
        Request::post("/v1/messages").header("x-api-key", key.expose()).body(Body::from(body)).expect("a request")
    };
    let record = put(&keys, &record).await;
    assert_eq!(status(&gateway, ask()).await, StatusCode::OK);
    // A new principal, a new secret and a future expiry are not revocations.
    let record = put(&keys, &record.changed(Principal::new("ada").team("search"))).await;
    let other = VirtualKey::mint(Environment::Test).expect("randomness");
    let record = put(&keys, &record.rotated(&other, &pepper(), Principal::new("ada"))).await;
    let record = put(&keys, &record.rotated(&key, &pepper(), Principal::new("ada"))).await;
    let later = record.restored().expires_at(Timestamp::MAX);
    let record = put(&keys, &later).await;
    assert_eq!(status(&gateway, ask()).await, StatusCode::OK);

    let record = put(&keys, &record.revoked()).await;
    assert_eq!(status(&gateway, ask()).await, StatusCode::UNAUTHORIZED);
    // Changes to a revoked key cause no event. If two processes revoke a key at once, one succeeds.
    let record = put(&keys, &record.changed(Principal::new("ada"))).await;
    let record = put(&keys, &record.revoked()).await;
    assert!(!keys.put(&KeyRecord::clone(&record)).await.expect("memory").is_written(), "an old version");
    let (_, stillborn) = minted("never");
    put(&keys, &stillborn.disabled(true)).await;
    // The key is restored, and then expires.
    let record = put(&keys, &record.restored()).await;
    assert_eq!(status(&gateway, ask()).await, StatusCode::OK);
    put(&keys, &record.changed(Principal::new("ada")).expires_at(SystemClock.now())).await;
    assert_eq!(status(&gateway, ask()).await, StatusCode::UNAUTHORIZED);

    last_word(&events);
    audit.flush().await;
    until("the last word", || ear.heard().len() >= 3).await;
    assert_eq!(ear.heard(), ["key ada was revoked", "key ada was revoked", "upstream last answers again"]);
}

#[tokio::test]
async fn that_a_key_is_revoked_is_told_though_the_process_is_killed_as_soon_as_that_is_answered() {
    const KEYS: usize = 8;
    let dir = Dir::new("revoked-killed");
    let journal = Journal::at(&dir.0).segment_bytes(1 << 20).open().expect("a journal");
    let keys = WatchedKeys::new(MemoryKeys::new(), journal.events());
    let mut told = Vec::new();
    for number in 0..KEYS {
        let name = format!("key-{number}");
        let record = put(&keys, &minted(&name).1).await;
        assert!(keys.put(&record.revoked()).await.expect("memory").is_written());
        let (left, ear) = (dir.as_if_killed(&format!("revoked-killed-{number}")), Ear::default());
        told.push(format!("key {name} was revoked"));
        let journal = Journal::at(&left.0).open().and_then(|journal| journal.notify("ear", ear.clone()));
        let _audit = AuditLayer::journaled(journal.expect("a journal"));
        until("what was written", || ear.heard().len() >= told.len()).await;
        assert_eq!(ear.heard(), told);
    }
    // Nobody waits for a journal that is closed.
    let record = put(&keys, &minted("late").1).await;
    drop(journal);
    ended(&dir).await;
    assert!(keys.put(&record.revoked()).await.expect("memory").is_written());
}

/// A registry whose next write fails, whether or not it was made, and that cannot find some names in the meantime.
#[derive(Default)]
struct Lossy {
    keys: MemoryKeys,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    drops: bool,
    loses: bool,
    hides: HashSet<String>,
}

#[async_trait]
impl KeyStore for Lossy {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.find(digest).await
    }
}

#[async_trait]
impl KeyRegistry for Lossy {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let is_hidden = self.faults.lock().unwrap_or_else(PoisonError::into_inner).hides.contains(name);
        if is_hidden { Err(StoreError::unavailable("away")) } else { self.keys.named(name).await }
    }

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.with_id(id).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.keys.is_empty().await
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.keys.list(after, most).await
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        let faults = || self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut faults().drops) {
            return Err(StoreError::uncertain("the question was lost"));
        }
        let written = self.keys.put(record).await?;
        let mut faults = faults();
        if !std::mem::take(&mut faults.loses) {
            return Ok(written);
        }
        if &*record.principal.name == "hidden" {
            faults.hides.insert("hidden".to_owned());
        }
        Err(StoreError::uncertain("the answer was lost"))
    }
}

#[tokio::test]
async fn a_revocation_whose_answer_is_lost_is_told_once_all_the_same() {
    let (dir, ear) = (Dir::new("revoked-lost"), Ear::default());
    let journal = Journal::at(&dir.0).open().and_then(|journal| journal.notify("ear", ear.clone())).expect("a journal");
    let events = journal.events();
    let audit = AuditLayer::journaled(journal);
    let keys = WatchedKeys::new(Lossy::default(), events.clone());
    let faults = || keys.get_ref().faults.lock().unwrap_or_else(PoisonError::into_inner);
    for name in ["seen", "hidden"] {
        let record = put(&keys, &minted(name).1).await;
        faults().loses = true;
        keys.put(&record.revoked()).await.expect_err("its answer is lost");
        faults().hides.clear();
        // The caller that got the error looks again, and writes what it finds.
        let stored = keys.named(name).await.expect("memory").expect("it is there");
        assert!(stored.disabled);
        put(&keys, &stored.revoked()).await;
        put(&keys, &keys.named(name).await.expect("memory").expect("it is there").revoked()).await;
    }
    // A revocation that was not stored is reported once it is.
    let record = put(&keys, &minted("dropped").1).await;
    faults().drops = true;
    keys.put(&record.revoked()).await.expect_err("its answer is lost");
    put(&keys, &record.revoked()).await;
    last_word(&events);
    audit.flush().await;
    until("the last word", || ear.heard().len() >= 4).await;
    let told = ["seen", "hidden", "dropped"].map(|name| format!("key {name} was revoked"));
    assert_eq!((&ear.heard()[..3], ear.heard().len()), (&told[..], 4));
}
