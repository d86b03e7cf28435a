//! Streams that cost more than the estimate that was held for them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::budget::{Estimator, OverBudget};
use tollgate::call::{Call, Drain};
use tollgate::domain::audit::AuditRecord;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{End, Quality};
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::domain::usage::Usage;
use tollgate::ingest::{IngestLayer, TokenCounter};
use tollgate::store::budget::{BudgetStore, Crossing, Reservation, Reserve, Standing, Verdict};
use tollgate::store::memory::MemoryBudgets;
use tollgate::store::{At, Session, StoreError};
use tollgate::testing::{Fault, Script};
use tollgate::{Body, BudgetLayer, GatewayLayer};
use tower::ServiceExt;

use crate::budgets::price;
use crate::world::{Answer, CHAT, MESSAGES, World, ask, post};

/// A million tokens cost one dollar of input or five dollars of output.
const MODEL: &str = "claude-haiku-4-5";
/// The provider counts four bytes as a token, so this is one cent of input.
const BYTES: usize = 40_000;
const MAX_TOKENS: u64 = 1_000;
/// The events between two checks of a stream.
const EVENTS: u64 = 64;

fn usd(text: &str) -> Money {
    text.parse().expect("an amount")
}

fn output(tokens: u64) -> Money {
    let usage = Usage { output: tokens, ..Usage::default() };
    Catalog::builtin().find(MODEL).expect("a price").cost(&usage, Terms::default()).expect("an amount")
}

/// A token counter that counts a hundredth of what the provider counts.
struct Blind;

#[async_trait]
impl TokenCounter for Blind {
    async fn count(&self, _: &Call, body: &Bytes) -> Option<u64> {
        Some(body.len() as u64 / 400)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    AtOnce,
    /// After a moment.
    Late,
    /// Never.
    Silent,
    /// With an error.
    Broken,
    /// It does not implement `extend`.
    Unable,
}

/// A store in memory that counts the calls of `extend`, and answers them as `how` says.
#[derive(Clone)]
struct Grows {
    store: MemoryBudgets,
    how: How,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl BudgetStore for Grows {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.store.reserve(ask, at).await
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.how {
            How::AtOnce => {}
            How::Late => tokio::time::sleep(Duration::from_millis(20)).await,
            How::Silent => std::future::pending().await,
            How::Broken => return Err(StoreError::broken("it is not what it was")),
            How::Unable => {}
        }
        if self.how == How::Unable {
            return Unable.extend(ask, at).await;
        }
        self.store.extend(ask, at).await
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        self.store.settle(reservation, actual, at).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.store.heartbeat(session, at).await
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        self.store.standing(budgets, at).await
    }
}

/// A store with only the required methods of the trait.
struct Unable;

#[async_trait]
impl BudgetStore for Unable {
    async fn reserve(&self, _: &Reserve<'_>, _: At) -> Result<Verdict, StoreError> {
        Err(StoreError::unavailable("not asked"))
    }

    async fn settle(&self, _: &Reservation, _: Money, _: At) -> Result<Vec<Crossing>, StoreError> {
        Err(StoreError::unavailable("not asked"))
    }

    async fn heartbeat(&self, _: Session, _: At) -> Result<(), StoreError> {
        Err(StoreError::unavailable("not asked"))
    }

    async fn standing(&self, _: &[Budget], _: At) -> Result<Vec<Standing>, StoreError> {
        Err(StoreError::unavailable("not asked"))
    }
}

struct Site {
    world: World,
    store: Grows,
    pot: Budget,
    key: tollgate::domain::key::VirtualKey,
}

/// How a stream is cut into chunks.
#[derive(Clone, Copy)]
enum Chunks {
    AsTheyAre,
    Of(usize),
    /// One event at a time, each with the usage so far.
    WithUsage,
}

impl Chunks {
    async fn cut(self, answer: Response<Body>) -> Response<Body> {
        if let Chunks::AsTheyAre = self {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let whole = body.collect().await.expect("a whole answer").to_bytes();
        let cut = match self {
            Chunks::Of(size) => whole.chunks(size).map(|part| whole.slice_ref(part)).collect(),
            _ => with_usage(&String::from_utf8_lossy(&whole)),
        };
        Response::from_parts(parts, Body::new(Parts(cut)))
    }
}

/// Adds the usage so far after each delta, as some servers of other models do that speak Messages.
fn with_usage(stream: &str) -> VecDeque<Bytes> {
    let (mut output, input) = (0, BYTES / 4);
    let mut stated = |event: &str| {
        let mut text = format!("{event}\n\n");
        if event.contains("content_block_delta") {
            output += 1;
            let usage = json!({ "input_tokens": input, "output_tokens": output });
            let delta = json!({ "type": "message_delta", "delta": {}, "usage": usage });
            text.push_str(&format!("event: message_delta\ndata: {delta}\n\n"));
        }
        Bytes::from(text)
    };
    stream.split_terminator("\n\n").map(&mut stated).collect()
}

/// A body of unknown length.
struct Parts(VecDeque<Bytes>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }
}

impl Site {
    async fn new(estimator: Estimator, how: How, pot: Budget) -> Self {
        Self::with(
            Chunks::AsTheyAre,
            how,
            pot,
            |layer| layer.estimator(estimator).over_budget(OverBudget::Reject),
            |l| l,
        )
        .await
    }

    async fn with(
        chunks: Chunks,
        how: How,
        pot: Budget,
        budgets: impl FnOnce(BudgetLayer<Grows>) -> BudgetLayer<Grows>,
        more: impl FnOnce(GatewayLayer) -> GatewayLayer,
    ) -> Self {
        let store = Grows { store: MemoryBudgets::new(), how, asked: Arc::default() };
        let layer = budgets(BudgetLayer::new(store.clone()).estimator(Estimator::Counted));
        let world = World::behind(
            |provider| {
                tower::service_fn(move |request| {
                    let answer = provider.clone().oneshot(request);
                    async move { Ok(chunks.cut(answer.await?).await) }
                })
            },
            |stack| more(stack.budget(layer).ingest(IngestLayer::new().count_by(Blind))),
        );
        let key = world.mint(Principal::new("ada").budget_of(pot.clone())).await;
        Site { world, store, pot, key }
    }

    async fn guessing(how: How, limit: &str) -> Self {
        Self::new(Estimator::Counted, how, Budget::new(Scope::team("search"), Window::Day, usd(limit))).await
    }

    fn request(&self, path: &str, stream: bool) -> http::Request<Body> {
        let text = "x".repeat(BYTES);
        let messages = json!([{ "role": "user", "content": text }]);
        let body = json!({ "model": MODEL, "max_tokens": MAX_TOKENS, "stream": stream, "messages": messages });
        post(path, &self.key, &body)
    }

    async fn ask(&self, path: &str, script: Script) -> (Answer, AuditRecord) {
        self.world.provider.script(script);
        let answer = ask(self.world.gateway.clone(), self.request(path, true)).await;
        self.world.settlements.drain().await;
        (answer, self.world.records().await.remove(0))
    }

    async fn standing(&self) -> Standing {
        self.store.standing(std::slice::from_ref(&self.pot), At::Store).await.expect("memory").remove(0)
    }

    fn asked(&self) -> usize {
        self.store.asked.load(Ordering::SeqCst)
    }

    fn bill(&self) -> Money {
        self.world.provider.bill().lines().iter().map(price).fold(Money::ZERO, Money::saturating_add)
    }
}

#[tokio::test]
async fn a_stream_that_was_guessed_too_small_is_granted_more_while_it_goes_on() {
    for (how, path) in [(How::AtOnce, MESSAGES), (How::AtOnce, CHAT), (How::Late, MESSAGES)] {
        let site = Site::guessing(how, "1").await;
        site.world.provider.script(Script::new().deltas(200).delay(Duration::from_millis(1)));
        let answer = site.world.gateway.clone().oneshot(site.request(path, true)).await.expect("infallible");
        if path == MESSAGES {
            let guessed = site.standing().await.held;
            assert!(guessed < usd("0.01"), "{guessed} is less than what goes in");
        }
        let mut body = answer.into_body();
        let mut held = Vec::new();
        while let Some(frame) = body.frame().await {
            frame.expect("no error");
            held.push(site.standing().await.held);
        }
        let whole = usd("0.01").saturating_add(output(MAX_TOKENS));
        let most = held.iter().copied().max().expect("frames");
        assert!(most >= whole && most < whole.saturating_add(usd("0.0002")), "{how:?}: {most} of {whole}");
        assert_eq!(site.asked(), 1, "{how:?}: as much as the rest can cost");
        site.world.settlements.drain().await;
        let (record, standing) = (site.world.records().await.remove(0), site.standing().await);
        assert_eq!((record.end, record.granted), (End::Complete, Some(most)));
        assert_eq!((standing.spent, standing.held, record.charged), (site.bill(), Money::ZERO, Some(site.bill())));
    }
}

#[tokio::test]
async fn a_stream_that_was_guessed_too_small_ends_where_its_budget_does() {
    for path in [MESSAGES, CHAT] {
        let site = Site::guessing(How::AtOnce, "0.013").await;
        let (answer, record) = site.ask(path, Script::new().deltas(900)).await;
        assert_eq!(answer.status, 200);
        let last: Value = answer
            .text
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
            .expect("an event");
        let kind = if path == MESSAGES { "billing_error" } else { "insufficient_quota" };
        assert_eq!(last["error"]["type"], kind, "{last}");
        assert!(
            last["error"]["message"]
                .as_str()
                .expect("a sentence")
                .contains("the day budget of team search has no more for it")
        );
        let deltas = answer.text.matches(if path == MESSAGES { "text_delta" } else { "\"content\":\"" }).count();
        assert!((600..700).contains(&deltas), "{path}: {deltas} of 900 came, of which 0.013 pays for 600");
        assert_eq!(
            (record.end, record.quality, record.granted),
            (End::Cut, Some(Quality::Estimated), Some(usd("0.013")))
        );
        let reason = &record.decisions.last().expect("one").reason;
        assert!(reason.contains("the day budget of team search has no more for it"), "{reason}");
        let (charged, standing) = (record.charged.expect("held"), site.standing().await);
        assert_eq!((standing.spent, standing.held), (charged, Money::ZERO));
        let beyond = charged.saturating_sub(usd("0.013"));
        assert!(charged >= site.bill() && beyond <= output(EVENTS), "{charged}, and the bill is {}", site.bill());
    }
}

#[tokio::test]
async fn a_stream_that_states_its_usage_all_the_time_ends_where_its_budget_does() {
    let pot = Budget::new(Scope::team("search"), Window::Day, usd("0.013"));
    let guessed = |budgets: BudgetLayer<Grows>| budgets.over_budget(OverBudget::Reject);
    let site = Site::with(Chunks::WithUsage, How::AtOnce, pot, guessed, |layer| layer).await;
    let (answer, record) = site.ask(MESSAGES, Script::new().deltas(900)).await;
    assert!(answer.text.contains("the day budget of team search has no more for it"), "{:.2000}", answer.text);
    let count = |words| answer.text.matches(words).count();
    // Each event counts as at least one token, and each delta comes as two events.
    let (deltas, stated) = (count("text_delta"), count("event: message_delta"));
    assert!((290..350).contains(&deltas) && stated + 1 >= deltas, "{deltas} of 900 came, and {stated} usages");
    assert_eq!(record.end, End::Cut);
}

#[tokio::test]
async fn a_stream_that_ends_for_what_others_hold_is_told_so() {
    let site = Site::guessing(How::AtOnce, "0.0205").await;
    site.world.provider.script(Script::new().fault(Fault::Stall, 1));
    let mut first =
        site.world.gateway.clone().oneshot(site.request(MESSAGES, true)).await.expect("infallible").into_body();
    while site.standing().await.held < usd("0.015") {
        first.frame().await.expect("a frame").expect("no error");
    }
    site.world.provider.script(Script::new().deltas(900));
    let answer = ask(site.world.gateway.clone(), site.request(MESSAGES, true)).await;
    let told = "$0.00 of $0.0205 is spent, and $0.015026 is held by other calls";
    assert!(answer.text.contains("rate_limit_error") && answer.text.contains(told), "{}", answer.text);
    drop(first);
    site.world.settlements.drain().await;
    assert_eq!(site.standing().await.held, Money::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_gives_no_more_ends_a_stream_when_what_is_held_is_used_up() {
    for (how, kind, sentence) in [
        (
            How::Broken,
            "billing_error",
            "this answer was ended because all the money held for it is used up, and no more could be reserved",
        ),
        (How::Silent, "overloaded_error", "cannot check this request now"),
    ] {
        let site = Site::guessing(how, "1").await;
        let script = Script::new().deltas(900).delay(Duration::from_millis(if how == How::Silent { 10 } else { 0 }));
        let (answer, record) = site.ask(MESSAGES, script).await;
        assert!(answer.text.contains(kind) && answer.text.contains(sentence), "{how:?}: {}", answer.text);
        assert!(answer.text.contains("event: error") && !answer.text.contains("message_stop"));
        assert_eq!(record.end, End::Cut);
        assert!(record.charged.expect("held") >= site.bill());
        let standing = site.standing().await;
        assert_eq!((Some(standing.spent), standing.held), (record.charged, Money::ZERO));
        assert_eq!(site.asked(), 1, "{how:?}");
    }
}

#[tokio::test]
async fn a_store_that_has_no_such_verb_is_asked_once_and_the_grant_stays_the_guess_that_it_was() {
    let site = Site::guessing(How::Unable, "1").await;
    let (answer, record) = site.ask(MESSAGES, Script::new().deltas(900)).await;
    assert!(answer.text.contains("message_stop"), "{}", answer.text);
    assert_eq!((record.end, record.charged, site.asked()), (End::Complete, Some(site.bill()), 1));
    assert!(record.charged > record.granted);
}

#[tokio::test]
async fn a_slow_stream_is_not_ended_for_the_time_that_it_takes() {
    // Enough for the input and 240 tokens of output.
    let site = Site::guessing(How::AtOnce, "0.01125").await;
    let (answer, record) = site.ask(MESSAGES, Script::new().deltas(200)).await;
    assert!(answer.text.contains("message_stop"), "{}", answer.text);
    assert_eq!((record.end, record.charged), (End::Complete, Some(site.bill())));
}

#[tokio::test]
async fn nobody_asks_for_more_where_what_is_held_is_enough_or_refuses_nothing() {
    let pot = |limit| Budget::new(Scope::team("search"), Window::Day, usd(limit));
    for (estimator, pot) in [
        (Estimator::Proven, pot("1")),
        (Estimator::Observed, pot("1")),
        // Four bytes are a token, and the guess is 2.6 bytes.
        (Estimator::Likely, pot("1")),
        (Estimator::Counted, pot("0.001").soft()),
    ] {
        let site = Site::new(estimator, How::AtOnce, pot).await;
        let (answer, record) = site.ask(MESSAGES, Script::new().deltas(900)).await;
        assert!(answer.text.contains("message_stop"), "{estimator:?}: {}", answer.text);
        assert_eq!((record.end, site.asked(), record.charged), (End::Complete, 0, Some(site.bill())), "{estimator:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_whole_is_not_ended_for_what_it_cost() {
    let site = Site::guessing(How::AtOnce, "0.008").await;
    site.world.provider.script(Script::new());
    let answer = ask(site.world.gateway.clone(), site.request(MESSAGES, false)).await;
    assert_eq!(answer.status, 200, "one that is no stream says what it took at its end: {}", answer.text);
    let record = site.world.records().await.remove(0);
    assert_eq!((record.end, record.charged, site.asked()), (End::Complete, Some(site.bill()), 0));
    assert!(site.standing().await.spent > usd("0.008"), "it was a guess, and is charged all the same");
}

#[tokio::test]
async fn a_stream_that_says_what_it_took_in_only_at_its_end_is_whole_and_charged_in_full() {
    let site = Site::guessing(How::AtOnce, "0.02").await;
    site.world.provider.script(Script::new());
    let messages = json!([{ "role": "user", "content": "x".repeat(BYTES) }]);
    let body = json!({ "model": "gpt-5", "max_tokens": MAX_TOKENS, "stream": true, "messages": messages });
    let answer = site.world.ask(post(CHAT, &site.key, &body)).await;
    assert!(answer.text.trim_end().ends_with("data: [DONE]"), "{}", answer.text);
    let (record, standing) = (site.world.records().await.remove(0), site.standing().await);
    assert!(record.charged > record.granted, "{:?} of {:?}", record.charged, record.granted);
    assert_eq!((record.end, record.charged, standing.spent), (End::Complete, Some(site.bill()), site.bill()));
}

#[tokio::test]
async fn however_a_stream_is_cut_into_chunks_it_ends_behind_a_whole_event() {
    for size in [1, 7, 100, 1_000, 10_000] {
        let pot = Budget::new(Scope::team("search"), Window::Day, usd("0.013"));
        let site =
            Site::with(Chunks::Of(size), How::AtOnce, pot, |layer| layer.over_budget(OverBudget::Reject), |l| l).await;
        let (answer, record) = site.ask(MESSAGES, Script::new().deltas(900)).await;
        let (events, end) = answer.text.trim_end().rsplit_once("\n\n").expect("events");
        assert!(end.starts_with("event: error\ndata: {") && end.contains("billing_error"), "{size}: {end}");
        for event in events.split("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
            serde_json::from_str::<Value>(data).unwrap_or_else(|error| panic!("{size}: {error} in {event}"));
        }
        assert!((500..800).contains(&events.matches("text_delta").count()), "{size}: {}", events.len());
        assert_eq!(record.end, End::Cut);
    }
}

#[tokio::test]
async fn by_shares_a_stream_is_granted_what_it_needs_next_and_goes_on_to_its_end() {
    let pot = Budget::new(Scope::team("search"), Window::Day, usd("0.03"));
    let site = Site::with(Chunks::AsTheyAre, How::AtOnce, pot, |layer| layer, |l| l).await;
    let (answer, record) = site.ask(MESSAGES, Script::new().deltas(900)).await;
    assert!(answer.text.contains("message_stop"), "{}", answer.text);
    assert!((2..15).contains(&site.asked()), "{} times", site.asked());
    let granted = record.granted.expect("held");
    assert!(granted >= site.bill() && granted < usd("0.0152"), "{granted} for {}", site.bill());
    assert_eq!((record.end, record.charged), (End::Complete, Some(site.bill())));
}

#[tokio::test]
async fn a_stream_that_is_read_on_without_its_client_ends_where_its_budget_does_and_says_why() {
    let pot = Budget::new(Scope::team("search"), Window::Day, usd("0.013"));
    let drain = Drain::new(1, Duration::from_secs(60));
    let reject = |layer: BudgetLayer<Grows>| layer.over_budget(OverBudget::Reject);
    let site = Site::with(Chunks::AsTheyAre, How::AtOnce, pot, reject, |stack| stack.drain(drain)).await;
    site.world.provider.script(Script::new().deltas(900).delay(Duration::from_micros(10)));
    let asked = site.world.gateway.clone().oneshot(site.request(MESSAGES, true));
    let mut stream = asked.await.expect("infallible").into_body();
    stream.frame().await.expect("a frame").expect("no error");
    drop(stream);
    site.world.settlements.drain().await;
    let record = site.world.records().await.remove(0);
    assert_eq!((record.end, record.granted), (End::Abandoned, Some(usd("0.013"))));
    let last = record.decisions.last().expect("one");
    assert!(!last.allowed && last.reason.contains("has no more for it"), "{last:?}");
    assert!(record.charged.expect("held") >= site.bill());
    assert_eq!(site.standing().await.held, Money::ZERO);
}
