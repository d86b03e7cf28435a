use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::Request;
use jiff::Timestamp;
use serde_json::json;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::clock::Clock;
use tollgate::domain::key::{Environment, KeyDigest, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::StoreError;
use tollgate::store::key::{KeyRegistry, KeyStore};
use tollgate::{Body, KeyAuthLayer};

use crate::world::{CHAT, MESSAGES, World, get, post};

fn body(model: &str) -> serde_json::Value {
    json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hello" }] })
}

#[tokio::test]
async fn a_key_is_taken_from_every_header_that_clients_send_it_in() {
    let world = World::new();
    let key = world.mint(Principal::new("ada")).await;
    let secret = key.expose();
    for (name, value) in [
        ("authorization", format!("Bearer {secret}")),
        ("authorization", format!("bearer   {secret}")),
        ("x-api-key", secret.to_owned()),
        ("api-key", secret.to_owned()),
        ("x-goog-api-key", secret.to_owned()),
    ] {
        let request = Request::post(MESSAGES).header(name, &value);
        let answer =
            world.ask(request.body(Body::from(body("claude-haiku-5-5").to_string())).expect("a request")).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    for received in world.provider.received() {
        let all = format!("{:?}", received.headers);
        assert!(!all.contains(secret), "the provider was sent the key: {all}");
        assert_eq!(received.headers["x-api-key"], "sk-canary-upstream");
    }
}

#[tokio::test]
async fn without_a_good_key_nothing_is_read_and_nothing_goes_upstream() {
    let world = World::new();
    world.mint(Principal::new("ada")).await;
    let unknown = VirtualKey::mint(Environment::Live).expect("randomness");
    let long = "a".repeat(64 << 10);
    let mut wrong_sum = unknown.expose().to_owned();
    wrong_sum.replace_range(wrong_sum.len() - 1.., "!");
    for (path, kind, code) in
        [(MESSAGES, "authentication_error", json!(null)), (CHAT, "invalid_request_error", json!("invalid_api_key"))]
    {
        for value in ["", "sk-ant-api03-x", unknown.expose(), &wrong_sum, &long, "tg_live_\u{e9}"] {
            // Not even the JSON of the body is read.
            let request = Request::post(path).header("x-api-key", value.as_bytes()).body(Body::from("{"));
            let answer = world.ask(request.expect("a request")).await;
            assert_eq!(answer.error(), (401, kind.to_owned(), code.clone()), "{value:.80}");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            assert!(!answer.text.contains("tg_live_"), "{}", answer.text);
        }
        let answer = world.ask(Request::post(path).body(Body::from("{")).expect("a request")).await;
        assert_eq!(answer.error(), (401, kind.to_owned(), code));
        assert!(answer.message().contains("no API key"), "{}", answer.text);
    }
    assert_eq!(world.ask(Request::get("/v1/models").body(Body::empty()).expect("a request")).await.status, 401);
    assert!(world.provider.received().is_empty());
}

#[tokio::test]
async fn a_key_opens_nothing_when_it_is_disabled_or_has_expired() {
    let world = World::new();
    let at = "2026-11-24T09:00:30Z".parse().expect("a time");
    let disabled = world.mint_as(Principal::new("off"), |record| record.disabled(true)).await;
    let short = world.mint_as(Principal::new("short"), |record| record.expires_at(at)).await;
    let answer = world.ask(post(MESSAGES, &disabled, &body("claude-haiku-5-5"))).await;
    assert_eq!((answer.status.as_u16(), answer.message().as_str()), (401, "this API key is disabled"));
    assert_eq!(world.ask(post(MESSAGES, &short, &body("claude-haiku-5-5"))).await.status, 200);
    world.clock.advance(Duration::from_secs(30));
    let answer = world.ask(post(MESSAGES, &short, &body("claude-haiku-5-5"))).await;
    assert_eq!((answer.status.as_u16(), answer.message().as_str()), (401, "this API key has expired"));
    // The reason in the record names the key, although the call has no principal.
    let records = world.records().await;
    for (record, why) in records.iter().filter(|record| record.status == Some(401)).zip(["disabled: ", "expired: "]) {
        let refused = record.decisions.iter().find(|decision| !decision.allowed).expect("it was refused");
        let name = if why == "disabled: " { "off" } else { "short" };
        assert!(refused.reason.contains(why) && refused.reason.ends_with(&format!(", {name}")), "{}", refused.reason);
        assert_eq!((record.key_id, record.key_name.as_deref()), (None, None));
    }
    assert_eq!(records.len(), 3);
}

/// A clock that the test sets, even back.
#[derive(Debug)]
struct Set(Mutex<Timestamp>);

impl Set {
    fn to(&self, now: &str) {
        *self.0.lock().expect("no panic") = now.parse().expect("a time");
    }
}

impl Clock for Set {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no panic")
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_key_that_has_expired_does_not_come_back_with_a_clock_that_goes_back_by_up_to_an_hour() {
    let clock = Arc::new(Set(Mutex::new(Timestamp::UNIX_EPOCH)));
    let world = World::with(|layer| layer.clock(clock.clone()));
    let at = "2026-11-24T09:00:30Z".parse().expect("a time");
    let [ada, eve] = ["ada", "eve"].map(|name| world.mint_as(Principal::new(name), |record| record.expires_at(at)));
    let (ada, eve) = (ada.await, eve.await);
    let status =
        async |key: &VirtualKey| world.ask(post(MESSAGES, key, &body("claude-haiku-5-5"))).await.status.as_u16();
    clock.to("2026-11-24T09:00:29Z");
    assert_eq!(status(&ada).await, 200);
    clock.to("2026-11-24T09:00:30Z");
    assert_eq!(status(&ada).await, 401);
    clock.to("2026-11-24T09:00:00Z");
    // This also holds for a key that was not used in the meantime.
    assert_eq!((status(&ada).await, status(&eve).await), (401, 401));
    clock.to("2026-11-24T08:00:30Z");
    assert_eq!((status(&ada).await, status(&eve).await), (401, 401));
}

#[tokio::test]
async fn a_clock_that_was_years_ahead_for_a_moment_keeps_no_key_out_once_it_is_right() {
    let clock = Arc::new(Set(Mutex::new(Timestamp::UNIX_EPOCH)));
    let world = World::with(|layer| layer.clock(clock.clone()));
    let at = "2026-11-25T09:00:00Z".parse().expect("a time");
    let key = world.mint_as(Principal::new("ada"), |record| record.expires_at(at)).await;
    let status = async || world.ask(post(MESSAGES, &key, &body("claude-haiku-5-5"))).await.status.as_u16();
    for (now, told) in [
        ("2026-11-24T09:00:00Z", 200),
        ("2046-11-24T09:00:00Z", 401),
        ("2026-11-24T09:00:01Z", 200),
        // After that error, an expiry still survives a clock that goes back.
        ("2026-11-25T09:00:00Z", 401),
        ("2026-11-25T08:30:00Z", 401),
    ] {
        clock.to(now);
        assert_eq!(status().await, told, "{now}");
    }
}

#[tokio::test]
async fn a_rotated_secret_opens_nothing_from_the_moment_of_its_rotation() {
    let world = World::new();
    let old = world.mint(Principal::new("ada")).await;
    assert_eq!(world.ask(post(MESSAGES, &old, &body("claude-haiku-5-5"))).await.status, 200);
    let record = world.keys.named("ada").await.expect("memory").expect("it was minted");
    let new = VirtualKey::mint(Environment::Live).expect("randomness");
    assert!(
        world.keys.put(&record.rotated(&new, &world.pepper, Principal::new("ada"))).await.expect("memory").is_written()
    );
    assert_eq!(world.ask(post(MESSAGES, &old, &body("claude-haiku-5-5"))).await.status, 401);
    assert_eq!(world.ask(post(MESSAGES, &new, &body("claude-haiku-5-5"))).await.status, 200);
}

#[tokio::test]
async fn a_key_is_changed_and_revoked_by_the_next_version_of_its_record_and_by_no_other() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").models(["claude-*"])).await;
    let ask = async |model| world.ask(post(MESSAGES, &key, &body(model))).await.status.as_u16();
    assert_eq!((ask("claude-haiku-5-5").await, ask("gpt-5").await), (200, 400));
    let stored = async || world.keys.named("ada").await.expect("memory").expect("minted");
    let changed = stored().await.changed(Principal::new("ada"));
    assert!(world.keys.put(&changed).await.expect("memory").is_written());
    assert_eq!(ask("gpt-5").await, 200, "the same secret, and more that it may");
    // A write that is based on an old version is refused.
    assert!(!world.keys.put(&(*stored().await).clone().disabled(true)).await.expect("memory").is_written());
    assert_eq!(ask("gpt-5").await, 200);
    assert!(world.keys.put(&stored().await.revoked()).await.expect("memory").is_written());
    assert_eq!(ask("gpt-5").await, 401);
    assert!(world.keys.put(&stored().await.restored()).await.expect("memory").is_written());
    assert_eq!(ask("gpt-5").await, 200);
}

#[tokio::test]
async fn a_key_that_was_revoked_opens_nothing_with_its_next_secret_until_it_is_restored() {
    let world = World::new();
    world.mint_as(Principal::new("ada"), |record| record.disabled(true)).await;
    let stored = async || world.keys.named("ada").await.expect("memory").expect("minted");
    let next = VirtualKey::mint(Environment::Live).expect("randomness");
    let rotated = stored().await.rotated(&next, &world.pepper, Principal::new("ada"));
    assert!(world.keys.put(&rotated).await.expect("memory").is_written());
    let ask = async || world.ask(post(MESSAGES, &next, &body("claude-haiku-5-5"))).await.status.as_u16();
    assert_eq!(ask().await, 401);
    let restored = stored().await.restored();
    assert!(
        world
            .keys
            .put(&restored.expires_at("2026-11-24T08:59:59Z".parse().expect("a time")))
            .await
            .expect("memory")
            .is_written()
    );
    assert_eq!(ask().await, 401, "it has expired");
    let restored = stored().await.restored();
    assert!(
        world
            .keys
            .put(&restored.expires_at("2026-11-25T09:00:00Z".parse().expect("a time")))
            .await
            .expect("memory")
            .is_written()
    );
    assert_eq!(ask().await, 200);
}

#[tokio::test]
async fn a_pepper_is_changed_while_keys_of_before_open_what_they_did_until_they_are_rotated() {
    let world = World::new();
    let key = world.mint(Principal::new("ada")).await;
    let new = || Pepper::new(b"canary-pepper-another-32-bytes-..").expect("long enough");
    let behind = |pepper: Pepper| {
        let keys = world.keys.clone();
        World::bare(move |layer| layer.auth(KeyAuthLayer::new(keys, pepper)))
    };
    let (both, later) = (behind(new().and_before(world.pepper.clone())), behind(new()));
    let status = async |world: &World, key: &VirtualKey| {
        world.ask(post(MESSAGES, key, &body("claude-haiku-5-5"))).await.status.as_u16()
    };
    assert_eq!((status(&both, &key).await, status(&later, &key).await), (200, 401));
    let stranger = VirtualKey::mint(Environment::Live).expect("randomness");
    assert_eq!(status(&both, &stranger).await, 401);
    let record = world.keys.named("ada").await.expect("memory").expect("minted");
    let next = VirtualKey::mint(Environment::Live).expect("randomness");
    assert!(world.keys.put(&record.rotated(&next, &new(), Principal::new("ada"))).await.expect("memory").is_written());
    assert_eq!((status(&both, &next).await, status(&later, &next).await), (200, 200));
    assert_eq!(status(&both, &key).await, 401, "the secret of before");
}

/// A store that cannot be reached, behind a cache that remembers this key.
struct Remembers(Arc<KeyRecord>);

#[async_trait]
impl KeyStore for Remembers {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        // Pending once, like a store that is asked over a network.
        tokio::task::yield_now().await;
        if *digest == self.0.digest { Ok(Some(self.0.clone())) } else { Err(StoreError::unavailable("away")) }
    }
}

#[tokio::test]
async fn a_key_of_the_pepper_before_is_good_while_its_store_is_away_and_an_unknown_one_is_not() {
    let world = World::new();
    let (key, stranger) = (world.mint(Principal::new("ada")).await, VirtualKey::mint(Environment::Live));
    let record = world.keys.named("ada").await.expect("memory").expect("minted");
    let pepper =
        Pepper::new(b"canary-pepper-another-32-bytes-..").expect("long enough").and_before(world.pepper.clone());
    let behind = World::bare(move |layer| layer.auth(KeyAuthLayer::new(Remembers(record), pepper)));
    let ask = async |key| behind.ask(post(MESSAGES, key, &body("claude-haiku-5-5"))).await.status.as_u16();
    assert_eq!((ask(&key).await, ask(&stranger.expect("randomness")).await), (200, 529));
}

/// A store that finds this record, whichever key is looked up.
struct Confused(Arc<KeyRecord>);

#[async_trait]
impl KeyStore for Confused {
    async fn find(&self, _digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(Some(self.0.clone()))
    }
}

#[tokio::test]
async fn a_store_that_finds_the_wrong_key_makes_nobody_somebody_else() {
    let world = World::new();
    let (ada, eve) = (world.mint(Principal::new("ada")).await, world.mint(Principal::new("eve")).await);
    let record = world.keys.named("ada").await.expect("memory").expect("minted");
    let (keys, pepper) = (Confused(record), world.pepper.clone());
    let confused = World::bare(move |layer| layer.auth(KeyAuthLayer::new(keys, pepper)));
    let ask = async |key| confused.ask(post(MESSAGES, key, &body("claude-haiku-5-5"))).await.status.as_u16();
    assert_eq!((ask(&ada).await, ask(&eve).await), (200, 500));
    assert_eq!(confused.provider.received().len(), 1);
}

#[test]
fn a_misspelt_power_is_an_error_and_not_an_unlimited_caller() {
    let ada =
        serde_json::to_value(Principal::new("ada").budget(Window::Day, "5".parse().expect("money"))).expect("JSON");
    assert!(serde_json::from_value::<Principal>(ada.clone()).is_ok());
    let mut misspelt = ada;
    let budgets = misspelt["budgets"].take();
    misspelt["budget"] = budgets;
    misspelt.as_object_mut().expect("one").remove("budgets");
    assert!(serde_json::from_value::<Principal>(misspelt).expect_err("it has none").to_string().contains("`budget`"));
}

#[tokio::test]
async fn a_model_that_the_key_may_not_use_is_refused_in_the_words_of_the_dialect() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").models(["claude-haiku-*", "gpt-5"])).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &body("claude-haiku-5-5"))).await.status, 200);
    let answer = world.ask(post(MESSAGES, &key, &body("claude-opus-5-5"))).await;
    assert_eq!(answer.error(), (400, "invalid_request_error".to_owned(), json!(null)));
    assert!(answer.message().contains("claude-opus-5-5"), "{}", answer.text);
    let answer = world.ask(post(CHAT, &key, &body("gpt-6"))).await;
    assert_eq!(answer.error(), (404, "invalid_request_error".to_owned(), json!("model_not_found")));
    let counting = world.ask(post("/v1/messages/count_tokens", &key, &body("claude-opus-5-5"))).await;
    assert_eq!(counting.status, 400, "one control on every route");
}

#[tokio::test]
async fn an_alias_of_the_key_is_the_model_that_goes_upstream() {
    let world = World::new();
    let principal = Principal::new("ada").alias("fast", "claude-haiku-5-5").models(["claude-haiku-5-5"]);
    let key = world.mint(principal).await;
    assert_eq!(world.ask(post(MESSAGES, &key, &body("fast"))).await.status, 200);
    assert!(world.provider.received()[0].body.starts_with(b"{\"max_tokens\":64,\"messages\""));
    assert_eq!(world.provider.bill().lines()[0].model, "claude-haiku-5-5");
}

#[tokio::test]
async fn models_are_listed_as_far_as_the_key_may_use_them() {
    let world = World::new();
    let key = world.mint(Principal::new("ada").models(["claude-*"])).await;
    let list = world.ask(get("/v1/models", &key)).await.json();
    let ids: Vec<_> = list["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["claude-haiku-5-5", "claude-opus-5-5"]);
    assert_eq!(world.ask(get("/v1/models/gpt-5", &key)).await.status, 404);
    assert_eq!(world.ask(get("/v1/models/claude-opus-5-5", &key)).await.status, 200);
}

#[tokio::test]
async fn a_host_that_knows_its_users_hands_in_a_principal() {
    let world = World::new();
    let mut request =
        Request::post(MESSAGES).body(Body::from(body("claude-haiku-5-5").to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new(Principal::new("ada").models(["claude-haiku-5-5"])));
    assert_eq!(world.ask(request).await.status, 200);
    let mut request = Request::post(MESSAGES).body(Body::from(body("claude-opus-5-5").to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new(Principal::new("ada").models(["claude-haiku-5-5"])));
    assert_eq!(world.ask(request).await.status, 400);
    let records = world.records().await;
    let names: Vec<_> = records.iter().map(|r| r.key_name.as_ref().map(|name| name.to_string())).collect();
    assert_eq!(names, [Some("ada".to_owned()), Some("ada".to_owned())]);
}

#[tokio::test]
async fn probes_and_unknown_paths_need_no_key_and_give_nothing() {
    let world = World::new();
    for (path, status) in [("/", 200), ("/api/hello", 200), ("/v1/embeddings", 404), ("/v1/messages/batches", 404)] {
        let answer = world.ask(Request::get(path).body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, status, "{path}");
    }
    let key = world.mint(Principal::new("ada")).await;
    for path in ["/v1/", "/v1/models/"] {
        let answer = world.ask(get(&format!("{path}{}", "x".repeat(10_000)), &key)).await;
        assert_eq!((answer.status.as_u16(), answer.message().len() < 128), (404, true), "{path}");
    }
}

#[tokio::test]
async fn a_governed_service_of_the_hosts_own_is_reached_through_llm_endpoints_alone() {
    let world = World::new();
    let key = world.mint(Principal::new("ada")).await;
    let reached = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = reached.clone();
    let service = tower::service_fn(move |_request: Request<Body>| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("{}"))) }
    });
    let layer = tollgate::GatewayLayer::new().auth(KeyAuthLayer::new(world.keys.clone(), world.pepper.clone()));
    let governed = tower::Layer::layer(&layer, service);
    for (method, path, status) in [
        ("POST", "/v1/models/gemini-pro:generateContent", 404),
        ("GET", "/v1/models/gemini-pro:generateContent", 404),
        ("DELETE", "/v1/models/ft-1", 404),
        ("GET", "/v1/models/ft-1/permissions", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/ft-1", 200),
    ] {
        let request = Request::builder().method(method).uri(path).header("x-api-key", key.expose());
        let answer = crate::world::ask(governed.clone(), request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    assert_eq!(reached.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_control_outside_of_a_mount_that_hides_the_path_from_it_is_an_error_and_no_way_in() {
    let world = World::new();
    let key = world.mint(Principal::new("ada")).await;
    let inner = world.gateway.clone();
    // Strips the prefix, as `nest_service` does.
    let mounted = tower::service_fn(move |mut request: Request<Body>| {
        let path = request.uri().path().strip_prefix("/llm").expect("the mount").to_owned();
        *request.uri_mut() = path.parse().expect("a path");
        tower::ServiceExt::oneshot(inner.clone(), request)
    });
    let outer = tollgate::RateLimitLayer::new(world.limits.clone());
    let answer = crate::world::ask(
        tower::Layer::layer(&outer, mounted),
        post("/llm/v1/messages", &key, &body("claude-haiku-5-5")),
    )
    .await;
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert!(world.provider.received().is_empty());
}

#[tokio::test]
async fn a_key_of_some_models_reaches_no_other_by_a_side_door_and_its_budget_of_that_model_pays_for_it() {
    let world = World::new();
    let some = world.mint(Principal::new("some").models(["claude-haiku-*"])).await;
    let all = world.mint(Principal::new("all")).await;
    let doors = [
        json!({ "tools": [{ "type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5" }] }),
        json!({ "fallbacks": [{ "model": "claude-opus-5-5" }] }),
        json!({ "models": ["claude-opus-5-5"] }),
    ];
    let dear = Budget::new(Scope::model("claude-opus-*"), Window::Day, "1".parse().expect("an amount"));
    let paid = world.mint(Principal::new("paid").budget_of(dear)).await;
    for door in doors {
        let mut body =
            json!({ "model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
        let field = door.as_object().expect("members").keys().next().expect("one").clone();
        body[&field] = door[&field].clone();
        for (key, status) in [(&some, 400), (&paid, 400), (&all, 200)] {
            let answer = world.ask(post(MESSAGES, key, &body)).await;
            assert_eq!(answer.status, status, "{field}: {}", answer.text);
            assert!(status == 200 || answer.message().contains(&*format!("`{field}`")), "{}", answer.text);
        }
    }
    assert_eq!(world.provider.received().len(), 3);
}
