//! Whatever goes wrong, no secret shows in a log, an answer or a record.

use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt;
use tollgate::audit::{AuditLayer, JsonLines, TracingSink};
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::BudgetLayer;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::Window;
use tollgate::domain::key::{Environment, KeyDigest, VirtualKey};
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::StoreError;
use tollgate::store::audit::AuditSink;
use tollgate::store::cached::CachedKeys;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::ServiceExt;

use crate::site::{PEPPER, Site, UPSTREAM_KEY, catalog, mint, mint_as, pepper, providers};
use crate::support::dir::Dir;
use crate::support::log::Log;
use crate::watched::Watched;
use crate::weather::{Weather, Weathered};

pub(crate) const PROMPT: &str = "canary-prompt-of-a-patient";

/// Everything that must not show.
pub(crate) struct Canaries(Vec<String>);

impl Canaries {
    /// The keys, whole and in part, and their digests in every encoding.
    pub(crate) fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = vec![String::from_utf8(PEPPER.to_vec()).expect("text"), UPSTREAM_KEY.into(), PROMPT.into()];
        for key in keys {
            all.push(key.to_owned());
            all.extend(key.get(8..40).map(str::to_owned));
            if let Some(digest) = pepper().digest(key.as_bytes()) {
                let bytes = digest.as_bytes();
                all.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
                all.push(bytes.iter().map(|byte| format!("{byte:02X}")).collect());
                all.push(bytes[..8].iter().map(|byte| format!("{byte}, ")).collect());
            }
        }
        Canaries(all)
    }

    /// The keys without their digests, which a store has to keep.
    pub(crate) fn of_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = vec![String::from_utf8(PEPPER.to_vec()).expect("text"), UPSTREAM_KEY.into(), "sim:".into()];
        all.extend(keys.into_iter().flat_map(|key| [key.to_owned(), key[8..40].to_owned()]));
        Canaries(all)
    }

    pub(crate) fn assert_silent(&self, place: &str, heard: &str) {
        for canary in &self.0 {
            assert!(!heard.contains(canary.as_str()), "{place} says {canary}: {heard}");
        }
    }
}

/// A request with the key in every header that could hold one.
fn everywhere(key: &str, path: &str, body: &str) -> Request<Body> {
    Request::post(path)
        .header("authorization", format!("Bearer {key}"))
        .header("x-api-key", key)
        .header("api-key", key)
        .header("x-goog-api-key", key)
        .header("proxy-authorization", format!("Bearer {key}"))
        .header("cookie", format!("key={key}"))
        .header("x-forwarded-authorization", key)
        .header("x-tollgate-tags", key)
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

fn prompt(path: &str, model: &str, more: &str, script: &str) -> String {
    let max = if path.contains("chat") { "max_completion_tokens" } else { "max_tokens" };
    format!(
        r#"{{"model":"{model}","{max}":50{more},"messages":[{{"role":"user","content":"{PROMPT} {script}"}}],"metadata":{{"other":"{PROMPT}"}}}}"#
    )
}

/// Asks, and returns status, headers and body as a client sees them.
async fn ask(gateway: &Gateway, request: Request<Body>) -> String {
    let whole = async {
        let answer: Response<Body> = gateway.clone().oneshot(request).await.expect("infallible");
        let head = format!("{} {:?}", answer.status(), answer.headers());
        let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        format!("{head} {}", String::from_utf8_lossy(&body))
    };
    // Hang up on an answer that stalls.
    tokio::time::timeout(Duration::from_millis(500), whole).await.unwrap_or_default()
}

const PATHS: [(&str, &str); 2] = [("/v1/messages", "claude-storm"), ("/v1/chat/completions", "gpt-storm")];

/// Everything that a provider may do, good and bad.
const SCRIPTS: [&str; 14] = [
    "sim:deltas=2",
    "sim:status=400",
    "sim:status=401",
    "sim:status=404",
    "sim:status=429",
    "sim:status=500",
    "sim:status=529",
    "sim:status=302",
    "sim:html",
    "sim:nousage",
    "sim:abort=1",
    "sim:garbage=1",
    "sim:stall=1",
    "sim:error=1",
];

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_no_secret_is_in_a_log_an_answer_or_a_record() {
    let (log, _guard) = Log::listen();
    let keys = MemoryKeys::new();
    let budget = |name: &str, limit: &str| {
        Principal::new(name).user("ada").budget(Window::Day, limit.parse().expect("an amount"))
    };
    let (_, good) =
        mint(&keys, budget("good", "100").limit(Measure::Requests, 1_000).limit(Measure::Tokens, 1_000_000));
    let (_, poor) = mint(&keys, budget("poor", "0.0000001").tag("poor"));
    let (_, slow) = mint(&keys, Principal::new("slow").limit(Measure::Requests, 0));
    let (_, narrow) = mint(&keys, Principal::new("narrow").models(["nothing"]));
    let (_, disabled) = mint_as(&keys, Principal::new("disabled"), |record| record.disabled(true));
    let (_, expired) = mint_as(&keys, Principal::new("expired"), |record| {
        let at = record.created_at;
        record.expires_at(at)
    });
    let stranger = VirtualKey::mint(Environment::Live).expect("randomness").expose().to_owned();
    let misspelt = format!("{}x", &good[..good.len() - 1]);
    let all = [&good, &poor, &slow, &narrow, &disabled, &expired, &stranger, &misspelt].map(String::as_str);
    let canaries = Canaries::new(all);

    let site = Site::plain(&keys);
    let mut heard = Vec::new();
    for (path, model) in PATHS {
        for key in all {
            heard.push(ask(&site.gateway, everywhere(key, path, &prompt(path, model, "", "sim:deltas=1"))).await);
        }
        for script in SCRIPTS {
            for more in ["", r#","stream":true"#] {
                heard.push(ask(&site.gateway, everywhere(&good, path, &prompt(path, model, more, script))).await);
            }
        }
        let whole = prompt(path, model, "", "");
        for bad in [
            &whole[..whole.len() - 9],
            &format!("{whole}{PROMPT}"),
            &format!(r#"{{"model":"{model}","stream":"{PROMPT}"}}"#),
            &format!(r#"{{"model":{{"a":"{PROMPT}"}}}}"#),
            &format!(r#"{{"model":"{model}","n":"{PROMPT}"}}"#),
            &format!(r#"{{"model":"{model}","max_tokens":1,"max_tokens":2,"{PROMPT}":1}}"#),
            PROMPT,
            "",
        ] {
            heard.push(ask(&site.gateway, everywhere(&good, path, bad)).await);
        }
        heard.push(ask(&site.gateway, everywhere(&good, path, &prompt(path, "unheard-of", "", ""))).await);
        heard.push(ask(&site.gateway, everywhere(&good, path, &"x".repeat(33 << 20))).await);
    }
    for path in ["/v1/key", "/v1/models", "/v1/models/claude-storm", "/v1/unknown", "/", "/v1/messages"] {
        for method in ["GET", "HEAD", "DELETE"] {
            let mut request = everywhere(&good, path, "");
            *request.method_mut() = method.parse().expect("a method");
            heard.push(ask(&site.gateway, request).await);
        }
    }
    site.settled().await;

    assert!(heard.iter().filter(|answer| answer.starts_with("200")).count() > 10, "some were answered: {heard:#?}");
    for answer in &heard {
        canaries.assert_silent("an answer", answer);
    }
    let records = site.records.lock().clone();
    assert!(records.len() >= heard.len() / 2, "{} records of {} calls", records.len(), heard.len());
    for record in &records {
        let json = serde_json::to_string(record).expect("a record");
        canaries.assert_silent("a record", &format!("{json} {record:?} {record:#?}"));
    }
    let log = log.text();
    assert!(log.contains("call closed") && log.contains("ERROR"), "the log was listened to: {log}");
    canaries.assert_silent("the log", &log);

    let received = site.provider.received();
    assert!(received.len() > 30);
    for received in received {
        let whole = format!("{:?} {:?}", received.uri, received.headers);
        let body = String::from_utf8_lossy(&received.body).into_owned();
        for secret in all {
            assert!(!whole.contains(&secret[8..40]) && !body.contains(&secret[8..40]), "the provider was sent a key");
        }
        // `Debug` hides values that are marked sensitive, so look at the bytes.
        for (name, value) in &received.headers {
            let bytes = String::from_utf8_lossy(value.as_bytes());
            assert!(all.iter().all(|secret| !bytes.contains(&secret[8..40])), "{name}: {bytes}");
        }
        let ours = received.headers.get_all("x-api-key").iter().chain(received.headers.get_all("authorization"));
        let ours: Vec<_> = ours.filter_map(|value| value.to_str().ok()).collect();
        assert!(ours == [UPSTREAM_KEY] || ours == [format!("Bearer {UPSTREAM_KEY}")], "{ours:?}");
    }
}

/// A sink that fails every write.
struct Broken;

#[async_trait]
impl AuditSink for Broken {
    async fn write(&self, _records: &[AuditRecord]) -> Result<(), StoreError> {
        Err(StoreError::broken("no table of that name"))
    }
}

#[tokio::test(start_paused = true)]
async fn stores_that_fail_in_every_way_give_no_secret_away() {
    let (log, _guard) = Log::listen();
    let keys = MemoryKeys::new();
    let amount = "100".parse().expect("an amount");
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Day, amount).limit(Measure::Requests, 9_999));
    let canaries = Canaries::new([key.as_str()]);
    let weather = Weather::gusts(41);
    let provider = Simulated::new();
    let (anthropic, openai) = providers(&provider);
    let budgets = Watched::new(MemoryBudgets::new(), record.principal.budgets.clone(), weather.clone());
    let audit = AuditLayer::new(Broken);
    let also = AuditLayer::new(TracingSink::new());
    let settlements = tollgate::call::Settlements::new();
    let layer = GatewayLayer::new()
        .audit(&audit)
        .audit(&also)
        .auth(KeyAuthLayer::new(CachedKeys::new(Weathered { store: keys, weather: weather.clone() }), pepper()))
        .rate_limit(RateLimitLayer::new(Weathered { store: MemoryLimits::new(), weather: weather.clone() }))
        .budget(BudgetLayer::new(budgets.clone()))
        .catalog(catalog())
        .settlements(settlements.clone());
    let nowhere = Provider::with_client(
        Dialect::OpenAiChat,
        "http://127.0.0.1:1",
        Credential::bearer(UPSTREAM_KEY).expect("letters"),
        HttpClient::new().expect("a TLS configuration"),
    );
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, anthropic)
        .upstream("openai", Dialect::OpenAiChat, openai)
        .layer(layer.clone())
        .build()
        .expect("a gateway");
    let unreachable = Gateway::builder()
        .upstream("openai", Dialect::OpenAiChat, nowhere.expect("a URL"))
        .layer(layer)
        .build()
        .expect("a gateway");

    weather.storm(true);
    for _ in 0..60 {
        for (path, model) in PATHS {
            let body = prompt(path, model, "", "sim:deltas=1");
            canaries.assert_silent("an answer", &ask(&gateway, everywhere(&key, path, &body)).await);
        }
    }
    weather.storm(false);
    let (path, model) = PATHS[1];
    let lost = ask(&unreachable, everywhere(&key, path, &prompt(path, model, "", ""))).await;
    assert!(lost.starts_with("502"), "{lost}");
    canaries.assert_silent("an answer", &lost);
    settlements.drain().await;
    audit.flush().await;
    also.flush().await;
    budgets.ledger().assert_right();
    let log = log.text();
    for said in [
        "lost on the way",
        "could not be settled",
        "the sink refused an audit record for good; it is kept only in this log line",
    ] {
        assert!(log.contains(said), "{said}");
    }
    canaries.assert_silent("the log", &log);
}

#[tokio::test]
async fn a_line_of_json_holds_no_secret_and_one_line_a_call() {
    let dir = Dir::new("canaries");
    let file = dir.join("records.jsonl");
    let keys = MemoryKeys::new();
    let (_, key) = mint(&keys, Principal::new("line\nend \u{2028} \"quoted\"").user("ada"));
    let audit = AuditLayer::new(JsonLines::append(&file).expect("a file"));
    let (anthropic, _) = providers(&Simulated::new());
    let layer = GatewayLayer::new().audit(&audit).auth(KeyAuthLayer::new(keys, pepper()));
    let gateway = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, anthropic)
        .layer(layer)
        .build()
        .expect("a gateway");
    for key in [key.as_str(), "tg_live_nothing"] {
        let body = prompt("/v1/messages", "claude-storm", "", "sim:deltas=1");
        ask(&gateway, everywhere(key, "/v1/messages", &body)).await;
    }
    audit.flush().await;
    let lines = std::fs::read_to_string(&file).expect("written");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for line in lines.lines() {
        let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(json["schema"], 1);
    }
    Canaries::new([key.as_str()]).assert_silent("the file", &lines);
}

#[test]
fn a_digest_opens_nothing_when_it_is_presented_as_a_key() {
    let key = VirtualKey::mint(Environment::Test).expect("randomness");
    let digest: KeyDigest = pepper().digest(key.expose().as_bytes()).expect("well formed");
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    for presented in [digest.as_bytes().as_slice(), hex.as_bytes(), format!("tg_test_{hex}").as_bytes()] {
        assert!(pepper().digest(presented).is_none());
    }
}
