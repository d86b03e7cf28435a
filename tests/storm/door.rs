//! Authentication and admission: keys in every header and spelling, keys that are no longer valid, and figures that
//! other parsers read differently.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use tollgate::Body;
use tollgate::budget::BudgetLayer;
use tollgate::domain::budget::Window;
use tollgate::domain::key::{Environment, KeyDigest, KeyRecord, VirtualKey};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::StoreError;
use tollgate::store::key::{KeyRegistry, KeyStore};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tower::ServiceExt;

use crate::in_process::noon;
use crate::site::{Site, mint, mint_as, pepper};
use crate::watched::now;

const BODY: &str = r#"{"model":"claude-storm","max_tokens":9,"messages":[{"role":"user","content":"sim:deltas=1"}]}"#;

async fn ask(site: &Site, headers: &[(&str, &[u8])]) -> (u16, String) {
    let mut request = Request::post("/v1/messages").body(Body::from(BODY)).expect("a request");
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a name");
        request.headers_mut().append(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    if status == 401 {
        assert_eq!(answer.headers()["x-should-retry"], "false");
    }
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A store that counts its lookups.
struct Counted(MemoryKeys, Arc<AtomicU64>);

#[async_trait]
impl KeyStore for Counted {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.find(digest).await
    }
}

#[tokio::test]
async fn a_key_opens_in_every_header_and_spelling_that_clients_have() {
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("ada"));
    let (_, other) = mint(&keys, Principal::new("bob"));
    let site = Site::plain(&keys);
    let bearer = |scheme: &str| format!("{scheme}{key}").into_bytes();
    let (plain, lower, upper, spaces) = (bearer("Bearer "), bearer("bearer "), bearer("BEARER "), bearer("bEaReR    "));
    let trailing = format!("Bearer {key}  ").into_bytes();
    let key = key.as_bytes();
    let mut served = 0;
    for headers in [
        vec![("authorization", &plain[..])],
        vec![("authorization", &lower)],
        vec![("authorization", &upper)],
        vec![("authorization", &spaces)],
        vec![("authorization", &trailing)],
        vec![("Authorization", &plain)],
        vec![("x-api-key", key)],
        vec![("api-key", key)],
        vec![("x-goog-api-key", key)],
        // Claude Code sends two headers, of which one may have its own token.
        vec![("authorization", b"Bearer sk-ant-oat01-theirs"), ("x-api-key", key)],
        vec![("authorization", b"Basic dXNlcjpwdw=="), ("x-api-key", key)],
        vec![("x-api-key", b""), ("authorization", &plain)],
        // The same header twice, with the valid key in the second.
        vec![("authorization", b"Bearer nothing"), ("authorization", &plain)],
        vec![("x-api-key", b"\xff\xfe"), ("x-api-key", key)],
        vec![("x-api-key", key), ("x-api-key", key), ("authorization", &plain)],
        // Of two valid keys, the first in the documented order counts, and never a mixture of both.
        vec![("x-api-key", other.as_bytes()), ("authorization", &plain)],
    ] {
        let (status, body) = ask(&site, &headers).await;
        assert_eq!(status, 200, "{headers:?}: {body}");
        served += 1;
    }
    site.settled().await;
    let names: Vec<_> = site.closed.lock().iter().map(|o| o.principal.as_ref().map(|p| p.name.to_string())).collect();
    assert_eq!(names, vec![Some("ada".to_owned()); served]);
    for received in site.provider.received() {
        for (name, value) in &received.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            assert!(
                !value.contains("tg_live_") && !value.contains("theirs") && !value.contains("dXNlcjpwdw"),
                "{name}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_key_of_ours_opens_nothing_and_asks_no_store() {
    let (keys, asked) = (MemoryKeys::new(), Arc::new(AtomicU64::new(0)));
    let (record, key) = mint(&keys, Principal::new("ada"));
    let layer = BudgetLayer::new(MemoryBudgets::new());
    let site = Site::new(Counted(keys, asked.clone()), MemoryLimits::new(), layer);
    let hex: String = record.digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let key = key.as_bytes();
    let long = vec![b'a'; 64 << 10];
    let longer = [key, &vec![b'a'; 1 << 20][..]].concat();
    let doubled = [key, key].concat();
    let listed = [key, b", ", key].concat();
    let swapped = String::from_utf8_lossy(key).to_uppercase().into_bytes();
    let high: Vec<u8> = key.iter().map(|byte| byte | 0x80).collect();
    let tab = [&key[..20], b"\t", &key[20..]].concat();
    let test = [b"tg_test_", &key[8..]].concat();
    for value in [
        b"".as_slice(),
        b" ",
        b"Bearer",
        b"Bearer ",
        b"bearer bearer",
        b"null",
        b"undefined",
        b"tg_live_",
        b"sk-ant-api03-x",
        &key[..key.len() - 1],
        &key[1..],
        &long,
        &longer,
        &doubled,
        &listed,
        &swapped,
        &high,
        &tab,
        &test,
        record.digest.as_bytes().map(|byte| byte | 0x80).as_slice(),
        hex.as_bytes(),
        b"\xc3\xa9\xe2\x82\xac",
        b"' OR 1=1 --",
    ] {
        let bearer = [b"Bearer ", value].concat();
        for header in [("x-api-key", value), ("authorization", &bearer[..]), ("authorization", value)] {
            let (status, body) = ask(&site, &[header]).await;
            assert_eq!(status, 401, "{:?}: {body}", String::from_utf8_lossy(&value[..value.len().min(99)]));
        }
    }
    for headers in [
        vec![],
        // Keys are not read from any of these.
        vec![("cookie", key)],
        vec![("x-tollgate-key", key)],
        vec![("x-tollgate-principal", b"ada".as_slice())],
        vec![("proxy-authorization", key)],
        vec![("x-api-key-2", key)],
        // A bare key where a scheme is required, and a scheme where a bare key is required.
        vec![("authorization", key)],
        vec![("x-api-key", &[b"Bearer ", key].concat())],
    ] {
        assert_eq!(ask(&site, &headers).await.0, 401, "{headers:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a store was asked");
    let stranger = VirtualKey::mint(Environment::Live).expect("randomness");
    assert_eq!(ask(&site, &[("x-api-key", stranger.expose().as_bytes())]).await.0, 401);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(site.provider.received().is_empty());
}

#[tokio::test]
async fn a_key_is_good_until_the_instant_at_which_it_expires_is_disabled_or_rotated() {
    let (keys, clock) = (MemoryKeys::new(), noon());
    let at = "2026-11-25T12:00:10Z".parse().expect("a time");
    let (_, expiring) = mint_as(&keys, Principal::new("expiring"), |record| record.expires_at(at));
    let (record, rotating) = mint(&keys, Principal::new("rotating"));
    let site = Site::with(
        keys.clone(),
        RateLimitLayer::new(MemoryLimits::new()),
        BudgetLayer::new(MemoryBudgets::new()),
        |layer| layer.clock(clock.clone()),
    );
    let status = async |key: &str| ask(&site, &[("x-api-key", key.as_bytes())]).await.0;
    assert_eq!((status(&expiring).await, status(&rotating).await), (200, 200));
    clock.advance(Duration::from_secs(9));
    assert_eq!(status(&expiring).await, 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(status(&expiring).await, 401);

    let fresh = VirtualKey::mint(Environment::Live).expect("randomness");
    let rotated = record.rotated(&fresh, &pepper(), (*record.principal).clone());
    assert!(now(keys.put(&rotated)).expect("memory").is_written());
    assert_eq!((status(&rotating).await, status(fresh.expose()).await), (401, 200));
    let mut disabled = rotated.disabled(true);
    disabled.version += 1;
    assert!(now(keys.put(&disabled)).expect("memory").is_written());
    assert_eq!(status(fresh.expose()).await, 401);
}

#[tokio::test]
async fn a_principal_that_the_host_names_is_believed_and_pays() {
    let site = Site::plain(&MemoryKeys::new());
    let poor = || Principal::new("host").budget(Window::Day, "0.00000001".parse().expect("an amount"));
    for (principal, expected) in
        [(Principal::new("host"), 200), (poor(), 429), (Principal::new("host").models(["x"]), 400)]
    {
        let mut request = Request::post("/v1/messages").body(Body::from(BODY)).expect("a request");
        request.extensions_mut().insert(Arc::new(principal));
        assert_eq!(site.gateway.clone().oneshot(request).await.expect("infallible").status(), expected);
    }
    // One that is shared between calls comes before one that is not.
    for (shared, expected) in [(None, 200), (Some(poor()), 429)] {
        let mut request = Request::post("/v1/messages").body(Body::from(BODY)).expect("a request");
        request.extensions_mut().insert(Principal::new("host"));
        shared.map(|poor| request.extensions_mut().insert(Arc::new(poor)));
        assert_eq!(site.gateway.clone().oneshot(request).await.expect("infallible").status(), expected);
    }
}

/// Returns what is granted for a body, or `None` if it is refused with a 400.
async fn granted(path: &str, body: &str) -> Option<Money> {
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("ada").budget(Window::Day, "1000000".parse().expect("an amount")));
    let site = Site::plain(&keys);
    let request = Request::post(path).header("x-api-key", &key).body(Body::from(body.to_owned())).expect("a request");
    let answer = site.gateway.clone().oneshot(request).await.expect("infallible");
    let status = answer.status();
    let text = answer.into_body().collect().await.expect("whole").to_bytes();
    let outcome = site.only().await;
    if status == 400 {
        assert!(outcome.granted.is_none() && site.provider.received().is_empty(), "{body}");
        return None;
    }
    assert_eq!(status, 200, "{body}: {}", String::from_utf8_lossy(&text));
    assert!(outcome.charged <= outcome.granted, "{body}: {outcome:?}");
    Some(outcome.granted.expect("granted"))
}

#[tokio::test]
async fn figures_that_decide_what_a_call_may_cost_mean_what_they_say_or_are_refused() {
    const CHAT: &str = "/v1/chat/completions";
    let chat = |more: &str| {
        format!(r#"{{"model":"gpt-storm"{more},"messages":[{{"role":"user","content":"sim:deltas=2"}}]}}"#)
    };
    // The bodies have the same length, so that only the output differs.
    let output =
        async |tokens: &str| granted(CHAT, &chat(&format!(r#","max_tokens":{tokens}"#))).await.map(Money::nanos);
    let nanos = |tokens: i64| tokens * 15_000;
    let hundred = output("100").await.expect("granted");
    assert_eq!(output("900").await.expect("granted") - hundred, nanos(800));
    let open = granted(CHAT, &chat(r#","max_tokenx":100"#)).await.expect("granted").nanos();
    assert!(open - hundred >= nanos(8_192 - 100), "left open, it is all that the model can: {open}");
    let huge = output("18446744073709551615").await.expect("granted");
    assert!((nanos(8_192)..nanos(8_192 + 2_000)).contains(&huge), "no more than the model can: {huge}");
    assert!(output("0").await.is_some_and(|none| none < nanos(1_000)));
    for bad in [
        "-1",
        "1.5",
        "1e3",
        "\"100\"",
        "[]",
        "true",
        "18446744073709551616",
        "0x10",
        "1,\"max_tokens\":2",
        "1,\"Max_Tokens\":2",
    ] {
        assert_eq!(output(bad).await, None, "{bad}");
    }

    let choices =
        async |n: &str| granted(CHAT, &chat(&format!(r#","max_tokens":100,"n":{n}"#))).await.map(Money::nanos);
    let one = choices("1").await.expect("granted");
    assert_eq!(choices("9").await.expect("granted") - one, nanos(800));
    for bad in ["0", "-1", "2.0", "\"3\"", "1,\"n\":9", "18446744073709551616", "18446744073709551615"] {
        assert_eq!(choices(bad).await, None, "{bad}");
    }

    // The larger of the two counts, whichever name the provider obeys.
    let both = chat(r#","max_tokens":5,"max_completion_tokens":900"#);
    let either = chat(r#","max_tokens":900,"max_completion_tokens":5"#);
    for body in [both, either] {
        assert!(granted(CHAT, &body).await.expect("granted").nanos() >= nanos(900), "{body}");
    }
    // The other dialect's member limits nothing here.
    let other = BODY.replace("max_tokens", "max_completion_tokens");
    let open = granted("/v1/messages", &other).await.expect("granted").nanos();
    assert!(open >= nanos(8_192), "{open}");
}

#[tokio::test]
async fn a_model_without_a_price_is_not_paid_from_a_budget() {
    for model in ["claude-unheard-of", "claude-storm-mini", "CLAUDE-STORM", " claude-storm"] {
        let body = BODY.replace("claude-storm", model);
        assert_eq!(granted("/v1/messages", &body).await, None, "{model}");
    }
}

#[tokio::test]
async fn fast_mode_and_a_region_are_granted_and_charged_at_their_own_price() {
    use tollgate::domain::catalog::{Catalog, ModelCard, Prices};
    let prices = Prices::new("3".parse().expect("a price"), "15".parse().expect("a price"));
    let card = ModelCard::new("claude-storm", prices).context_window(200_000).max_output(8_192);
    let catalog = Catalog::empty().with(card.fast(6_000_000).us(1_100_000));
    let mut paid = Vec::new();
    for (more, millionths) in
        [("", 1_000_000), (r#""speed":"fast","#, 6_000_000), (r#""inference_geo":"us","#, 1_100_000)]
    {
        let keys = MemoryKeys::new();
        let (_, key) = mint(&keys, Principal::new("ada").budget(Window::Day, "100".parse().expect("an amount")));
        let (limits, money) = (RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(MemoryBudgets::new()));
        let site = Site::with(keys, limits, money, |layer| layer.catalog(catalog.clone()));
        let body = BODY.replacen('{', &format!("{{{more}"), 1);
        let request = Request::post("/v1/messages").header("x-api-key", &key).body(Body::from(body));
        let answer = site.gateway.clone().oneshot(request.expect("a request")).await.expect("infallible");
        assert_eq!(answer.status(), 200, "{more}");
        answer.into_body().collect().await.expect("whole");
        let outcome = site.only().await;
        let line = &site.provider.bill().lines()[0];
        let tokens = u128::from(line.input) * 3_000_000 + u128::from(line.output) * 15_000_000;
        let due = (tokens * millionths).div_ceil(1_000_000_000);
        assert_eq!(outcome.charged.map(Money::nanos).map(u128::try_from), Some(Ok(due)), "{more}");
        assert!(outcome.charged <= outcome.granted);
        paid.push(outcome.granted);
    }
    assert!(paid[1] > paid[2] && paid[2] > paid[0], "{paid:?}");
}

#[tokio::test]
async fn what_is_clamped_stays_above_the_tokens_that_are_set_aside_for_thinking() {
    let mut clamped = 0;
    for thinking in [1_024_u64, 2_000, 3_000, 4_999] {
        for cents in 1..=9_i64 {
            let keys = MemoryKeys::new();
            let limit = Money::from_nanos(cents * 10_000_000);
            let (_, key) = mint(&keys, Principal::new("ada").budget(Window::Total, limit));
            let site = Site::plain(&keys);
            let body = format!(
                r#"{{"model":"claude-storm","max_tokens":5000,"thinking":{{"type":"enabled","budget_tokens":{thinking}}},"messages":[{{"role":"user","content":"sim:deltas=9"}}]}}"#
            );
            let request = Request::post("/v1/messages").header("x-api-key", &key).body(Body::from(body));
            let answer = site.gateway.clone().oneshot(request.expect("a request")).await.expect("infallible");
            let status = answer.status().as_u16();
            answer.into_body().collect().await.expect("whole");
            let outcome = site.only().await;
            match status {
                200 => {
                    let sent: serde_json::Value =
                        serde_json::from_slice(&site.provider.received()[0].body).expect("JSON");
                    let most = sent["max_tokens"].as_u64().expect("stated");
                    assert!(most > thinking, "{most} tokens, of which {thinking} are for thinking");
                    assert!(outcome.granted <= Some(limit));
                    clamped += usize::from(most < 5_000);
                }
                429 => assert!(site.provider.received().is_empty()),
                other => panic!("{other}"),
            }
        }
    }
    assert!(clamped > 3, "{clamped}");
}
