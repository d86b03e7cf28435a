//! `{:?}` of every public type that may hold a secret shows none.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tollgate::audit::{AuditLayer, JsonLines, Slack, TracingSink, Webhook};
use tollgate::auth::KeyAuthLayer;
use tollgate::budget::BudgetLayer;
use tollgate::call::{LiveCalls, Settlements};
use tollgate::content::Patterns;
use tollgate::dialect::head::Head;
use tollgate::dialect::render;
use tollgate::dialect::translate::{self, Asked, Reply, StreamTranslator};
use tollgate::domain::budget::Window;
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::ledger::Wish;
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::gateway::{Dispatch, Upstreams};
use tollgate::rate_limit::RateLimitLayer;
use tollgate::rewrite::WithholdUsage;
use tollgate::route::ModelTable;
use tollgate::store::admission::{Admit, PresentedKey};
use tollgate::store::budget::{self, BudgetStore, Reserve};
use tollgate::store::cached::CachedKeys;
use tollgate::store::journal::{Journal, UpstreamWatch};
use tollgate::store::key::{KeyRegistry, KeyStore};
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::{self, Acquire, RateLimitStore};
use tollgate::store::sqlite::Sqlite;
use tollgate::store::watched::WatchedKeys;
use tollgate::store::{At, Session};
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, HttpClient, Provider};
use tollgate::{
    AdmissionLayer, Body, Call, CallLayer, ContentLayer, Dialect, Gateway, GatewayLayer, IngestLayer, MeterLayer,
    Rejection, RewriteLayer, RouteLayer, TranslateLayer,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use uuid::Uuid;

use crate::canaries::{Canaries, PROMPT};
use crate::site::{PEPPER, Site, UPSTREAM_KEY, mint, pepper, providers};
use crate::support::dir::Dir;
use crate::watched::now;

/// Looks for secrets in the `Debug` output of values, plain and pretty, and collects its words.
struct Shown(Canaries, BTreeSet<String>);

impl Shown {
    fn look(&mut self, thing: &dyn Debug) {
        for shown in [format!("{thing:?}"), format!("{thing:#?}")] {
            self.hear(&shown);
        }
    }

    fn hear(&mut self, shown: &str) {
        assert!(!shown.is_empty());
        self.0.assert_silent("Debug", shown);
        let words = shown.split(|c: char| !c.is_alphanumeric() && c != '_');
        self.1.extend(words.map(str::to_owned));
    }
}

/// Finds the names of all public structs and enums in the sources.
fn public_types() -> BTreeSet<String> {
    let (mut waiting, mut found) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")], BTreeSet::new());
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let lines = text.lines().map(str::trim_start);
            let named = lines.filter_map(|line| line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")));
            found.extend(named.filter_map(|name| name.split(|c: char| !c.is_alphanumeric()).next()).map(str::to_owned));
        }
    }
    found
}

#[tokio::test]
async fn no_debug_of_anything_public_shows_a_secret() {
    let (keys, limits, budgets) = (MemoryKeys::new(), MemoryLimits::new(), MemoryBudgets::new());
    let amount = "9".parse().expect("an amount");
    let (record, key) = mint(&keys, Principal::new("ada").budget(Window::Day, amount).limit(Measure::Requests, 9));
    let fresh = VirtualKey::mint(Environment::Test).expect("randomness");
    let mut shown = Shown(Canaries::new([key.as_str(), fresh.expose()]), BTreeSet::new());
    let cached = CachedKeys::new(keys.clone());
    cached.find(&record.digest).await.expect("memory");

    // Keys and credentials.
    shown.look(&fresh);
    shown.look(&Pepper::new(PEPPER));
    shown.look(&record);
    shown.look(&record.digest);
    shown.look(&pepper().digest(key.as_bytes()));
    shown.look(&record.rotated(&fresh, &pepper(), Principal::new("ada")));
    shown.look(&record.principal);
    for credential in [
        Credential::bearer(UPSTREAM_KEY),
        Credential::x_api_key(UPSTREAM_KEY),
        Credential::header(http::header::COOKIE, UPSTREAM_KEY),
        Credential::bearer(&format!("{UPSTREAM_KEY}\n{PROMPT}")),
    ] {
        shown.look(&credential);
    }

    // Stores, their requests and their answers.
    for store in [&keys as &dyn Debug, &cached, &limits, &budgets] {
        shown.look(store);
    }
    let session = Session::new(Duration::from_secs(9));
    let wish = Wish { min: amount, want: amount, share: 1 };
    let reserve = Reserve::new(Uuid::now_v7(), session, &record.principal.budgets, wish);
    let acquire = Acquire::new(Uuid::now_v7(), session, &record.principal.limits);
    let granted = now(budgets.reserve(&reserve, At::Store)).expect("memory");
    let again = Reserve::new(Uuid::now_v7(), session, &record.principal.budgets, wish);
    let denied = now(budgets.reserve(&again, At::Store)).expect("memory");
    assert!(matches!((&granted, &denied), (budget::Verdict::Allow(_), budget::Verdict::Deny(_))));
    let allowed = now(limits.acquire(&acquire, At::Store)).expect("memory");
    assert!(matches!(allowed, rate_limit::Verdict::Allow(_)));
    let standing = now(budgets.standing(&record.principal.budgets, At::Store));
    let presented = PresentedKey::new(record.id, record.digest);
    let admit = Admit::new().key(presented).limits(acquire).budgets(reserve);
    for asked in [&reserve as &dyn Debug, &acquire, &granted, &denied, &allowed, &standing, &session, &wish, &admit] {
        shown.look(asked);
    }

    // Layers, their services, and the futures that hold a request.
    let mine = service_fn(|_: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
    let client = HttpClient::new().expect("a TLS configuration");
    let real =
        Provider::with_client(Dialect::Anthropic, "https://a.example", Credential::bearer(UPSTREAM_KEY).ok(), client);
    let (anthropic, openai) = providers(&Simulated::new());
    let upstreams = Upstreams::new().add("anthropic", anthropic.clone()).add("openai", openai.clone());
    let (auth, audit) = (KeyAuthLayer::new(keys.clone(), pepper()), AuditLayer::new(TracingSink::new()));
    let (rate, money) = (RateLimitLayer::new(limits), BudgetLayer::new(budgets));
    let layer = GatewayLayer::new().auth(auth.clone()).audit(&audit).rate_limit(rate.clone()).budget(money.clone());
    let builder =
        || Gateway::builder().upstream("anthropic", Dialect::Anthropic, anthropic.clone()).layer(layer.clone());
    let sink = JsonLines::new(std::io::sink());
    for layer in [
        &auth as &dyn Debug,
        &audit,
        &rate,
        &money,
        &layer,
        &builder(),
        &builder().build().expect("a gateway"),
        &upstreams,
        &real,
        &anthropic,
        &Dispatch::new(upstreams.clone()),
        &CallLayer::new(),
        &IngestLayer::new(),
        &Settlements::new(),
        &sink,
        &layer.layer(mine),
    ] {
        shown.look(layer);
    }
    for service in [
        &auth.layer(BoxedMine::new(mine)) as &dyn Debug,
        &IngestLayer::new().layer(BoxedMine::new(mine)),
        &RouteLayer::new(ModelTable::new()).layer(BoxedMine::new(mine)),
        &RewriteLayer::new(WithholdUsage::new()),
        &RewriteLayer::new(WithholdUsage::new()).layer(BoxedMine::new(mine)),
        &MeterLayer::new().layer(BoxedMine::new(mine)),
        &TranslateLayer::new(Dialect::OpenAiChat).layer(BoxedMine::new(mine)),
        &HttpClient::new(),
    ] {
        shown.look(service);
    }
    let request = || {
        let body =
            format!(r#"{{"model":"claude-storm","max_tokens":9,"messages":[{{"role":"user","content":"{PROMPT}"}}]}}"#);
        Request::post("/v1/messages").header("x-api-key", &key).body(Body::from(body)).expect("a request")
    };
    shown.look(&auth.layer(BoxedMine::new(mine)).call(request()));
    shown.look(&IngestLayer::new().layer(BoxedMine::new(mine)).call(request()));
    shown.look(&anthropic.clone().call(request()));

    // A request, its body and its head.
    let json = request().into_body().try_into_bytes().expect("in memory");
    shown.look(&Head::read(&json, Dialect::Anthropic));
    shown.look(&Head::read(&json[..json.len() - 1], Dialect::Anthropic));
    shown.look(&request().into_body());
    let asked = Asked::new("gpt-storm");
    shown.look(&translate::request(&json, Dialect::Anthropic, Dialect::OpenAiChat, &asked));
    shown.look(&asked);
    let reply = Reply::new("claude-storm", "an id");
    shown.look(&reply);
    shown.look(&StreamTranslator::new(Dialect::OpenAiChat, Dialect::Anthropic, &reply));
    let refused = Rejection::new(RejectionKind::NotFound, "it is not there");
    shown.look(&render(&refused, Dialect::Anthropic, "an id"));

    // A call as a gate sees it, and its outcome.
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = seen.clone();
    let site =
        Site::with(keys, RateLimitLayer::new(MemoryLimits::new()), BudgetLayer::new(MemoryBudgets::new()), |layer| {
            layer.gate(Looks(keep))
        });
    drop(site.gateway.clone().oneshot(request()).await.expect("infallible"));
    shown.look(&site.only().await);
    shown.look(&*site.records.lock());
    shown.look(&site.audit);
    show_stores_on_disks(&mut shown, &record, &reserve).await;
    let seen = std::mem::take(&mut *seen.lock().expect("whole"));
    assert_eq!(seen.len(), 3);
    seen.iter().for_each(|seen| shown.hear(seen));
    show_what_tells_others(&mut shown);
    let (public, bare) = (public_types(), BARE.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>());
    let missing: Vec<_> = public.iter().filter(|name| !shown.1.contains(*name) && !bare.contains(*name)).collect();
    assert!(missing.is_empty(), "nobody has looked at {missing:?}: show one that has a secret within, or call it bare");
    let gone: Vec<_> = bare.iter().filter(|name| !public.contains(*name) || shown.1.contains(*name)).collect();
    assert!(gone.is_empty(), "looked at, or no longer there: {gone:?}");
}

/// Looks at a SQLite file with keys, money and content, and at a journal. The file has seen the key.
async fn show_stores_on_disks(shown: &mut Shown, record: &KeyRecord, reserve: &Reserve<'_>) {
    let dir = Dir::new("shown");
    let sqlite = Sqlite::options().without_fsync().open(dir.join("shown.db")).await.expect("a new file");
    sqlite.migrate().await.expect("tables");
    assert!(sqlite.keys().put(record).await.expect("written").is_written());
    sqlite.budgets().reserve(reserve, At::Store).await.expect("it answers");
    let (keys, budgets, limits) = (sqlite.keys(), sqlite.budgets(), sqlite.limits());
    for store in [&sqlite as &dyn Debug, &keys, &budgets, &limits, &sqlite.admission(), &sqlite.audit()] {
        shown.look(store);
    }
    shown.look(&sqlite.contents());
    shown.look(&ContentLayer::new(sqlite.contents()));
    shown.look(&AdmissionLayer::new(sqlite.admission()));
    shown.look(&sqlite.keys().find(&record.digest).await);
    let journal_dir = Dir::new("shown-journal");
    let journal = Journal::at(&journal_dir.0).open().expect("a journal");
    shown.look(&journal);
    shown.look(&WatchedKeys::new(sqlite.keys(), journal.events()));
    shown.look(&UpstreamWatch::new(journal.events(), 3));
    shown.look(&AuditLayer::journaled(journal));
    sqlite.close().await.expect("closed");
    // The errors of opening a file that is neither. They must not quote what is in it.
    let odd = dir.join("odd.db");
    fs::write(&odd, format!("{PROMPT} {UPSTREAM_KEY}")).expect("writable");
    shown.look(&Sqlite::options());
    shown.look(&Sqlite::open(&odd).await.map(drop));
    shown.look(&Journal::at(&odd));
    shown.look(&Journal::at(&odd).open().map(drop));
    fs::remove_file(&odd).expect("one of ours");
}

/// Looks at types with secrets of their own, such as webhooks that sign.
fn show_what_tells_others(shown: &mut Shown) {
    let client = || HttpClient::new().expect("a TLS configuration");
    let (signs, path) = ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "T000/B000/canaryofslack");
    shown.0 = Canaries::new([signs, path, "canaryofslack"]);
    let webhook = |secret: &str| Webhook::new("https://hooks.example/calls?token=canaryofslack", secret, client());
    shown.look(&webhook(&format!("whsec_{signs}")).expect("a webhook"));
    shown.look(&webhook(&format!("{signs}!")).map(drop));
    shown.look(&Slack::new(&format!("https://hooks.slack.example/services/{path}"), client()).expect("a webhook"));
    shown.look(&Slack::new(path, client()).map(drop));

    let words = Patterns::common().words("patients", [PROMPT]).expect("words");
    shown.look(&words);
    shown.look(&TranslateLayer::new(Dialect::Anthropic).model("claude-storm"));
    shown.look(&LiveCalls::new());
}

/// Types that need not be looked at by name:
///
/// - They hold only numbers, names, settings, or errors about those.
/// - They show nothing, like the futures within a `CallFuture`, or show no name of their own.
/// - Their purpose is to show what they hold, like a block of a stream or what a simulated provider received.
const BARE: &str = "\
    Abilities Account AdmissionGate Admitted Anchor AnchorState AnthropicVersion At AttemptEnd AttemptGuard AuditGate \
    AuditStatus Bill Block Break Bucket BuildError CacheWrites CachedKeysOptions Calendar Catalog Content ContentFuture \
    ContentService Conventions Corrected Cost CostInUsage CostWriter Crossing Dialect Drain Effort Efforts End Environment Estimator \
    Event EventTooLarge Fault GateFuture GateLayer HttpBody HttpFuture Index Keep KeyError \
    Kind Lack LeftOut Length Limits Line LineHash LongContext ManualClock Measure Memory MemoryStore Met MeterFuture \
    MeterLayer Metrics Mode Model ModelCard ModelName MoneyError Multiplied Names NotAHead NotAKeep NotAPattern NotAWindow NotSent \
    Observation Operation OverBudget Patterns Plan Prefix Price Prices Proof Put Quality Reading Received RejectionKind Report \
    RewriteFuture Room RouteLayer Sampling ScanError ScanErrorKind Scanner ScopeKind Script Seal Sealer Seals Seen Served \
    ServerTool Side Simulated Splice SpliceError SqliteErrorKind StoreError StreamMeter \
    ThinkingModes TracingSink Unbounded Unfinished Upstreams Usage Used Verdict What Window Zone";

type BoxedMine = tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, std::convert::Infallible>;

/// Records the `Debug` output of what a host's gate sees.
struct Looks(Arc<std::sync::Mutex<Vec<String>>>);

#[async_trait::async_trait]
impl tollgate::Gate for Looks {
    async fn admit(&self, parts: &mut http::request::Parts, call: &Call) -> Result<(), Rejection> {
        let mut seen = self.0.lock().expect("whole");
        seen.extend([format!("{call:#?}"), format!("{parts:#?}"), format!("{:#?}", call.head())]);
        Ok(())
    }
}
