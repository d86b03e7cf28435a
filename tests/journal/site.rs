//! A gateway with one budget and a journal, in front of a simulated provider.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::call::Settlements;
use tollgate::dialect::head::Head;
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::clock::{Clock, ManualClock, SystemClock};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::domain::target::Target;
use tollgate::domain::usage::Usage;
use tollgate::route::Route;
use tollgate::store::audit::AuditSink;
use tollgate::store::budget::{BudgetStore, Standing};
use tollgate::store::journal::{Journal, export};
use tollgate::store::{At, StoreError};
use tollgate::testing::{Line, Simulated};
use tollgate::upstream::Provider;
use tollgate::{AuditLayer, Body, BudgetLayer, Call, Dialect, Gateway, GatewayLayer, Rejection};
use tower::ServiceExt;

use crate::support::log;

pub(crate) use crate::support::dir::Dir;
pub(crate) use crate::support::until;

impl Dir {
    /// Copies the directory as a new process would find it if this process were killed now.
    pub(crate) fn as_if_killed(&self, name: &str) -> Dir {
        let copy = Dir::new(name);
        for entry in fs::read_dir(&self.0).expect("readable") {
            let path = entry.expect("readable").path();
            // A file that is being made may be renamed in the meantime.
            let _ = fs::copy(&path, copy.0.join(path.file_name().expect("a name")));
        }
        copy
    }
}

pub(crate) struct Site<B> {
    pub(crate) gateway: Gateway,
    pub(crate) audit: AuditLayer,
    pub(crate) budgets: B,
    pub(crate) provider: Simulated,
    pub(crate) settlements: Settlements,
}

impl<B: BudgetStore + Clone> Site<B> {
    pub(crate) fn new(journal: Journal, budgets: B) -> Self {
        log::search();
        let (provider, settlements, audit) = (Simulated::new(), Settlements::new(), AuditLayer::journaled(journal));
        let layer = Self::layer(&settlements, &audit, &budgets);
        let gateway = Self::gateway(&provider, layer, &["anthropic"]);
        Site { gateway, audit, budgets, provider, settlements }
    }

    /// The same, with a clock that is this many days behind.
    pub(crate) fn ago(self, days: u64) -> Self {
        let then = SystemClock.now() - Duration::from_secs(days * 86_400);
        let layer = Self::layer(&self.settlements, &self.audit, &self.budgets).clock(ManualClock::at(then));
        Site { gateway: Self::gateway(&self.provider, layer, &["anthropic"]), ..self }
    }

    /// The same with a second upstream for calls that cannot reach the first.
    pub(crate) fn fallback(&self) -> Gateway {
        let layer = Self::layer(&self.settlements, &self.audit, &self.budgets);
        Self::gateway(&self.provider, layer, &["anthropic", "spare"])
    }

    fn layer(settlements: &Settlements, audit: &AuditLayer, budgets: &B) -> GatewayLayer {
        GatewayLayer::new().settlements(settlements.clone()).audit(audit).budget(BudgetLayer::new(budgets.clone()))
    }

    fn gateway(provider: &Simulated, layer: GatewayLayer, upstreams: &'static [&'static str]) -> Gateway {
        let layer = layer.router(All(upstreams));
        let gateway = upstreams.iter().fold(Gateway::builder().layer(layer), |gateway, name| {
            let upstream = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, provider.clone());
            gateway.upstream(*name, Dialect::Anthropic, upstream.expect("a URL"))
        });
        gateway.build().expect("a gateway")
    }

    pub(crate) async fn ask(&self, prompt: &str) -> Response<Body> {
        self.gateway.clone().oneshot(request(prompt)).await.expect("infallible")
    }

    /// Makes a call, reads the whole answer and returns its status.
    pub(crate) async fn whole(&self, prompt: &str) -> StatusCode {
        let answer = self.ask(prompt).await;
        let status = answer.status();
        let _ = answer.into_body().collect().await.expect("whole");
        status
    }
}

impl<B: BudgetStore + Clone> Site<B> {
    /// Waits until calls are admitted again: segments that are no longer needed make room within a moment.
    pub(crate) async fn serves_again(&self) {
        let began = SystemClock.elapsed();
        loop {
            let status = self.whole("hello").await;
            if status == StatusCode::OK {
                return;
            }
            assert!(SystemClock.elapsed() < began + Duration::from_secs(10), "{status} for ten seconds");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Routes every call to each of these upstreams, in order.
struct All(&'static [&'static str]);

impl Route for All {
    fn route(&self, _: &Call, head: &Head) -> Result<Vec<Arc<Target>>, Rejection> {
        Ok(self.0.iter().map(|name| Arc::new(Target::new(*name, Dialect::Anthropic, head.model()))).collect())
    }
}

pub(crate) fn pot() -> Budget {
    Budget::new(Scope::team("search"), Window::Total, "100".parse().expect("money"))
}

pub(crate) fn request(prompt: &str) -> Request<Body> {
    request_of(prompt, vec![pot()])
}

/// A request that these budgets pay for.
pub(crate) fn request_of(prompt: &str, budgets: Vec<Budget>) -> Request<Body> {
    let body = json!({
        "model": "claude-haiku-5-5", "max_tokens": 20_000, "stream": true,
        "messages": [{ "role": "user", "content": prompt }],
    });
    let mut principal = Principal::new("ada").team("search");
    principal.budgets = budgets;
    let mut request = Request::post("/v1/messages").body(Body::from(body.to_string())).expect("a request");
    request.extensions_mut().insert(Arc::new(principal));
    request
}

pub(crate) async fn standing(budgets: &impl BudgetStore) -> Standing {
    budgets.standing(&[pot()], At::Store).await.expect("it answers").remove(0)
}

/// Returns every line of a journal.
pub(crate) fn lines(dir: &Path) -> Vec<Value> {
    let mut text = Vec::new();
    export(dir, &mut text).expect("readable");
    let text = String::from_utf8(text).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Returns the kinds of lines, without `settled`, which may come at any time.
pub(crate) fn kinds(lines: &[Value]) -> Vec<&str> {
    let kind = |line: &Value| {
        let members = line.as_object().expect("an object").keys();
        ["opened", "intent", "seen", "final", "settled"].into_iter().find(|kind| members.clone().any(|m| m == kind))
    };
    lines.iter().map(|line| kind(line).expect("a kind")).filter(|kind| *kind != "settled").collect()
}

/// Waits until no process has the journal open any more.
pub(crate) async fn ended(dir: &Dir) {
    until("it has ended", || fs::File::open(dir.0.join("lock")).map_or(true, |lock| lock.try_lock().is_ok())).await;
}

/// Opens the journal as soon as the one before has ended.
pub(crate) async fn open_again(dir: &Dir) -> Journal {
    ended(dir).await;
    Journal::at(&dir.0).open().expect("a journal")
}

/// Returns what the provider would charge.
pub(crate) fn bill<B>(site: &Site<B>) -> Money {
    let catalog = Catalog::builtin();
    let cost = |line: &Line| {
        let usage = Usage { input: line.input, output: line.output, ..Usage::default() };
        catalog.find(&line.model).and_then(|card| card.cost(&usage, Terms::default())).expect("a price")
    };
    site.provider.bill().lines().iter().map(cost).fold(Money::ZERO, Money::saturating_add)
}

pub(crate) fn money(text: &Value) -> Money {
    text.as_str().expect("a text").parse().expect("money")
}

/// A sink that keeps records, and can be told to accept none.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    records: Vec<AuditRecord>,
    is_stalled: bool,
    /// Keeps the batch, but reports an error.
    lies: bool,
}

impl Sink {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stall(&self, is_stalled: bool) {
        self.lock().is_stalled = is_stalled;
    }

    pub(crate) fn lie_once(&self) {
        self.lock().lies = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().records.len()
    }

    pub(crate) fn records(&self) -> Vec<AuditRecord> {
        self.lock().records.clone()
    }
}

#[async_trait]
impl AuditSink for Sink {
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let mut kept = self.lock();
        if kept.is_stalled {
            return Err(StoreError::unavailable("stalled"));
        }
        kept.records.extend_from_slice(records);
        match std::mem::take(&mut kept.lies) {
            true => Err(StoreError::uncertain("the answer was lost")),
            false => Ok(()),
        }
    }
}
