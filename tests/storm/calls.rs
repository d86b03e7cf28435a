//! The calls of a storm: what the clients ask for, and how they leave.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::sync::Barrier;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::At;
use tollgate::store::memory::{MemoryKeys, MemoryLimits};
use tollgate::store::rate_limit::RateLimitStore;
use tollgate::{Body, Gateway};
use tower::ServiceExt;

use crate::seeded::Seeded;
use crate::site::mint;
use crate::watched::now;

const MESSAGES: &str = "/v1/messages";
const COMPLETIONS: &str = "/v1/chat/completions";

/// Each API with each family of models: in its own dialect, and translated both ways.
pub(crate) const DOORS: [(&str, &str); 4] =
    [(MESSAGES, "claude"), (COMPLETIONS, "gpt"), (COMPLETIONS, "claude"), (MESSAGES, "gpt")];

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) key: String,
    pub(crate) is_stream: bool,
    pub(crate) max_tokens: u64,
    pub(crate) script: String,
    /// When the client asks, in milliseconds.
    pub(crate) begins: u64,
    pub(crate) leaves: Leaves,
}

/// When the client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    Never,
    /// After this many frames of the answer.
    AfterFrames(u64),
    /// This long after it asked.
    After(Duration),
    /// After this many polls of the request's future, which is while one of the stores is asked.
    AtPoll(u64),
}

impl Ask {
    /// As [`random`](Self::random), without a pause before it.
    pub(crate) fn at_once(number: u64, keys: &[String], random: &mut Seeded) -> Self {
        Ask { begins: 0, ..Self::random(number, keys, random) }
    }

    /// A small call, made at once, by a client that stays.
    pub(crate) fn of(model: String, key: &str, is_stream: bool, script: &str) -> Self {
        let (key, script) = (key.to_owned(), script.to_owned());
        Ask { model, key, is_stream, max_tokens: 50, script, begins: 0, leaves: Leaves::Never }
    }

    /// A random call. Half are streams, half are of either family, and a quarter of the clients hang up.
    pub(crate) fn random(number: u64, keys: &[String], random: &mut Seeded) -> Self {
        let family = if random.one_in(2) { "claude" } else { "gpt" };
        let is_stream = random.one_in(2);
        let deltas = 1 + random.below(40);
        let script = match is_stream {
            true => format!("sim:first={},deltas={deltas},delay={}", random.below(4), random.below(2)),
            false => format!("sim:first={},deltas={deltas}", random.below(8)),
        };
        let leaves = match random.below(12) {
            0 => Leaves::AfterFrames(random.below(deltas)),
            1 => Leaves::After(Duration::from_millis(random.below(12))),
            2 => Leaves::AtPoll(1 + random.below(5)),
            _ => Leaves::Never,
        };
        Ask {
            model: format!("{family}-{}-{number:08}", if number.is_multiple_of(2) { "storm" } else { "swift" }),
            key: keys[usize::try_from(random.next() % keys.len() as u64).expect("small")].clone(),
            is_stream,
            max_tokens: 20 + random.below(180),
            script,
            begins: random.below(150),
            leaves,
        }
    }

    pub(crate) fn path(&self) -> &'static str {
        if self.model.starts_with("claude") { MESSAGES } else { COMPLETIONS }
    }

    pub(crate) fn json(&self) -> String {
        let Ask { model, is_stream, max_tokens, script, .. } = self;
        format!(
            r#"{{"model":"{model}","max_tokens":{max_tokens},"stream":{is_stream},"messages":[{{"role":"user","content":"{script}"}}]}}"#
        )
    }

    pub(crate) fn request(&self) -> Request<Body> {
        self.request_at(self.path())
    }

    /// The request at this path. At another path than the model's own, the call is translated.
    pub(crate) fn request_at(&self, path: &str) -> Request<Body> {
        let request = Request::post(path).header("content-type", "application/json");
        // Each API has its own header for the key.
        let request = match path == MESSAGES {
            true => request.header("x-api-key", &self.key),
            false => request.header("authorization", format!("Bearer {}", self.key)),
        };
        request.body(Body::from(self.json())).expect("a request")
    }

    /// Asks, reads as much as the client wants, and leaves.
    pub(crate) async fn run(self, gateway: Gateway) {
        tokio::time::sleep(Duration::from_millis(self.begins)).await;
        let answer = gateway.oneshot(self.request());
        let answer = match self.leaves {
            Leaves::AtPoll(most) => polls(pin!(answer), most).await,
            Leaves::After(time) => {
                let whole = async { drain(answer.await.expect("infallible").into_body(), u64::MAX).await };
                let _ = tokio::time::timeout(time, whole).await;
                return;
            }
            _ => Some(answer.await),
        };
        let Some(answer) = answer else { return };
        let most = if let Leaves::AfterFrames(frames) = self.leaves { frames } else { u64::MAX };
        drain(answer.expect("infallible").into_body(), most).await;
    }
}

/// Lets clients ask at the same moment, and counts how many are waiting or being answered at once.
pub(crate) struct Together {
    start: Barrier,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Together {
    pub(crate) fn of(calls: u64) -> Arc<Self> {
        let calls = usize::try_from(calls).expect("small");
        Arc::new(Together { start: Barrier::new(calls), under_way: AtomicUsize::new(0), most: AtomicUsize::new(0) })
    }

    /// Asks when all the others ask.
    pub(crate) async fn ask<T>(self: Arc<Self>, asked: impl Future<Output = T>) -> T {
        self.start.wait().await;
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let answer = asked.await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// The largest number that were under way at one moment.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Reads this many frames, or to the end.
pub(crate) async fn drain(mut body: Body, most: u64) {
    for _ in 0..most {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Polls `future` whenever it is woken, until it ends or has been polled `most` times. Does not wait after that.
pub(crate) async fn polls<F: Future>(mut future: Pin<&mut F>, most: u64) -> Option<F::Output> {
    let mut polled = 0;
    poll_fn(|cx| {
        polled += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polled == most => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Eight keys of four users in two teams. Each key, user and team has a pot.
pub(crate) struct Crowd {
    pub(crate) secrets: Vec<String>,
    pub(crate) pots: Vec<Budget>,
    limits: Vec<Limit>,
}

impl Crowd {
    pub(crate) fn new(keys: &MemoryKeys, limits: [&str; 3]) -> Self {
        let [own, user, team] = limits.map(|limit| limit.parse().expect("an amount"));
        let mut crowd = Crowd { secrets: Vec::new(), pots: Vec::new(), limits: Vec::new() };
        for number in 0..8 {
            let (whose, whole) = (format!("user-{}", number / 2), format!("team-{}", number / 4));
            let principal = Principal::new(format!("key-{number}"))
                .user(whose.clone())
                .team(whole.clone())
                .budget(Window::Total, own)
                .budget_of(Budget::new(Scope::user(whose.clone()), Window::Month, user))
                .budget_of(Budget::new(Scope::team(whole.clone()), Window::Day, team))
                .limit(Measure::Parallel, 10_000)
                .limit_of(Limit::new(Scope::user(whose), Measure::Requests, 1_000_000))
                .limit_of(Limit::new(Scope::team(whole), Measure::Tokens, 1_000_000_000));
            let (record, secret) = mint(keys, principal);
            crowd.pots.extend(record.principal.budgets.iter().cloned());
            crowd.limits.extend(record.principal.limits.iter().cloned());
            crowd.secrets.push(secret);
        }
        crowd
    }

    /// Panics if a call that has ended still has its slot.
    pub(crate) fn assert_no_slot_is_held(&self, limits: &MemoryLimits) {
        for standing in now(limits.standing(&self.limits, At::Store)).expect("memory") {
            if standing.limit.measure == Measure::Parallel {
                assert_eq!(standing.left, standing.limit.most, "{}", standing.limit);
            }
        }
    }
}
