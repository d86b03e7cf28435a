use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::json;
use tollgate::domain::attribution::Attribution;
use tollgate::domain::budget::Window;
use tollgate::domain::clock::ManualClock;
use tollgate::domain::dialect::{Dialect, Operation};
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{AttemptEnd, End, Quality};
use tollgate::domain::principal::Principal;
use tollgate::domain::rejection::RejectionKind;
use tollgate::telemetry::{Conventions, Spans};
use tollgate::upstream::Provider;
use tollgate::{Body, Call, Gate, GateLayer, Gateway, GatewayLayer, Rejection};
use tower::{Layer as _, ServiceExt, service_fn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::support::log;
use crate::world::{MESSAGES, World, ask, post};

/// The fields of this thread's spans, by their ids, and in the order in which they end.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Of>>);

thread_local! {
    static LISTENS: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Searches the log of this area for secrets, and reports its spans to the listener of each thread.
pub(crate) fn subscribe() {
    static SUBSCRIBE: Once = Once::new();
    SUBSCRIBE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Here).with(log::searched());
        tracing::subscriber::set_global_default(subscriber).expect("nobody else subscribes");
    });
}

impl Seen {
    /// Captures the spans of this thread from now on, instead of an earlier listener. There is one subscriber for the
    /// whole process, for the reason given in `support/log.rs`.
    fn listen() -> Self {
        subscribe();
        let seen = Seen::default();
        LISTENS.set(Some(seen.clone()));
        seen
    }

    fn lock(&self) -> MutexGuard<'_, Of> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports to the listener of the current thread, if there is one.
struct Here;

impl Here {
    fn tell(&self, what: impl FnOnce(&mut Of)) {
        // A span may end after the thread-locals have been destroyed.
        if let Some(seen) = LISTENS.try_with(|listens| listens.borrow().clone()).ok().flatten() {
            what(&mut seen.lock());
        }
    }
}

/// Open spans, and spans that have ended.
type Of = (HashMap<u64, Fields>, Vec<Fields>);
type Fields = HashMap<&'static str, String>;

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Here {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == "tollgate::call" {
            let mut fields = Fields::from([("name", attributes.metadata().name().to_owned())]);
            attributes.record(&mut Into(&mut fields));
            self.tell(|seen| drop(seen.0.insert(id.into_u64(), fields)));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        self.tell(|seen| {
            if let Some(fields) = seen.0.get_mut(&id.into_u64()) {
                record.record(&mut Into(fields));
            }
        });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.tell(|seen| {
            let ended = seen.0.remove(&id.into_u64());
            seen.1.extend(ended);
        });
    }
}

#[tokio::test]
async fn a_call_is_one_span_with_the_names_of_either_generation_and_nothing_of_its_content() {
    let hello = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "stream": true,
        "messages": [{ "role": "user", "content": "canary" }] });
    for (conventions, provider, other) in [
        (Conventions::V1_36, "gen_ai.system", "gen_ai.provider.name"),
        (Conventions::opted_in("http, gen_ai_latest_experimental"), "gen_ai.provider.name", "gen_ai.system"),
    ] {
        let seen = Seen::listen();
        let spans = Spans::new().conventions(conventions);
        let world = World::with(|layer| layer.on_open(move |call| spans.begin(call)));
        let plenty = "5".parse().expect("money");
        let key = world.mint(Principal::new("ada").team("search").budget(Window::Day, plenty)).await;
        let mut request = post(MESSAGES, &key, &hello);
        request.headers_mut().insert("x-claude-code-session-id", "s1".parse().expect("a value"));
        assert_eq!(world.ask(request).await.status, 200);
        world.ask(Request::post(MESSAGES).body(Body::from("{}")).expect("a request")).await;
        world.ask(Request::get("/elsewhere").body(Body::empty()).expect("a request")).await;

        let ended = seen.lock().1.clone();
        assert_eq!(ended.len(), 2, "what is no LLM endpoint is no call: {ended:?}");
        let charged = world.records().await[0].charged.expect("a budget pays");
        assert!(charged > Money::ZERO);
        let field = |n: usize, name: &str| ended[n].get(name).map(String::as_str);
        for (name, value) in [
            ("name", "call"),
            ("otel.name", "chat claude-haiku-5-5"),
            (provider, "anthropic"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "claude-haiku-5-5"),
            ("gen_ai.response.model", "claude-haiku-5-5"),
            ("gen_ai.request.stream", "true"),
            ("gen_ai.request.max_tokens", "64"),
            ("gen_ai.usage.output_tokens", "9"),
            ("http.response.status_code", "200"),
            ("tollgate.key", "ada"),
            ("tollgate.team", "search"),
            ("tollgate.end", "complete"),
            ("tollgate.attempts", "1"),
            ("gen_ai.conversation.id", "s1"),
            ("tollgate.quality", "exact"),
            ("tollgate.charged_usd", &charged.to_string()),
        ] {
            assert_eq!(field(0, name), Some(value), "{name}: {ended:?}");
        }
        assert_eq!((field(0, other), field(0, "error.type")), (None, None));
        assert_eq!(field(0, "gen_ai.usage.cache_read.input_tokens").is_some(), conventions == Conventions::Latest);
        assert_eq!((field(1, "error.type"), field(1, "otel.status_code")), (Some("unauthenticated"), Some("ERROR")));
        assert_eq!((field(1, "otel.name"), field(1, "tollgate.end")), (Some("chat"), Some("refused")));
        assert!(!format!("{ended:?}").contains("canary"), "prompts are nobody's business");
    }
}

type Heard = Arc<Mutex<Vec<Attribution>>>;

/// A gate that notes who the clients of its calls say they are.
struct Hears(Heard);

#[async_trait]
impl Gate for Hears {
    async fn admit(&self, _: &mut Parts, call: &Call) -> Result<(), Rejection> {
        let heard = self.0.clone();
        call.on_close(move |outcome| heard.lock().expect("no panic").push(outcome.client.clone()));
        Ok(())
    }
}

#[tokio::test]
async fn whose_session_it_is_is_known_of_a_call_that_nobody_audits() {
    let user = json!({ "device_id": "d1", "account_uuid": "a1", "session_id": "s1" }).to_string();
    let hello =
        json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [], "metadata": { "user_id": user } });
    let request = || {
        let request = Request::post(MESSAGES).header("user-agent", "claude-cli/2.1.330 (external, cli)");
        request.body(Body::from(hello.to_string())).expect("a request")
    };
    let seen = Seen::listen();
    let spans = Spans::new();
    let world = World::bare(|layer| layer.on_open(move |call| spans.begin(call)));
    assert_eq!(world.ask(request()).await.status, 200);
    assert_eq!(seen.lock().1[0].get("gen_ai.conversation.id").map(String::as_str), Some("s1"));

    // Each observer alone: `on_close`, a gate in the stack, and a gate layer by itself.
    let heard = Heard::default();
    let mine = heard.clone();
    let observed =
        World::bare(|layer| layer.on_close(move |outcome| mine.lock().expect("no panic").push(outcome.client.clone())));
    assert_eq!(observed.ask(request()).await.status, 200);
    let gated = World::bare(|layer| layer.gate(Hears(heard.clone())));
    assert_eq!(gated.ask(request()).await.status, 200);
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("hi"))) });
    assert_eq!(ask(GateLayer::new(Hears(heard.clone())).layer(inner), request()).await.status, 200);
    let heard = heard.lock().expect("no panic");
    let said = |one: &Attribution| [&one.agent, &one.session, &one.user].map(|text| text.as_deref().map(str::to_owned));
    let some = |text: &str| Some(text.to_owned());
    let all = [some("claude-cli/2.1.330"), some("s1"), some("a1")];
    // A gate layer by itself does not read the body.
    let of_head = [some("claude-cli/2.1.330"), None, None];
    assert_eq!(heard.iter().map(said).collect::<Vec<_>>(), [all.clone(), all, of_head]);
}

#[tokio::test]
async fn failures_are_told_apart_by_the_status_of_their_provider_or_by_how_they_ended() {
    for conventions in [Conventions::V1_36, Conventions::Latest] {
        let seen = Seen::listen();
        let spans = Spans::new().conventions(conventions);
        let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
        let slow = Slow(clock.clone());
        let world = World::bare(|layer| layer.clock(clock).gate(slow).on_open(move |call| spans.begin(call)));
        for (script, is_stream, error) in [
            ("sim:status=429", false, Some("429")),
            ("sim:status=500", true, Some("500")),
            ("sim:deltas=3,error=1", true, Some("broken")),
            ("sim:deltas=3,end=1", true, Some("broken")),
            ("sim:html", false, Some("upstream_garbled")),
            ("sim:deltas=3,stall=1", true, Some("abandoned")),
            ("sim:deltas=3", true, None),
            ("sim:deltas=3", false, None),
        ] {
            let hello = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "stream": is_stream,
                "messages": [{ "role": "user", "content": script }] });
            let request = Request::post(MESSAGES).body(Body::from(hello.to_string())).expect("a request");
            let answer = world.gateway.clone().oneshot(request).await.expect("infallible");
            let (status, mut body) = (answer.status(), answer.into_body());
            let is_left = error == Some("abandoned");
            while let Some(Ok(_)) = body.frame().await {
                if is_left {
                    break;
                }
            }
            drop(body);
            let ended = seen.lock().1.pop().expect("a span");
            let field = |name: &str| ended.get(name).map(String::as_str);
            assert_eq!(field("error.type"), error, "{script}: {ended:?}");
            assert_eq!(field("otel.status_code"), error.map(|_| "ERROR"), "{script}");
            assert_eq!(field("gen_ai.request.stream"), is_stream.then_some("true"), "{script}");
            let has_first = conventions == Conventions::Latest && is_stream && status == 200;
            let first = field("gen_ai.response.time_to_first_chunk");
            assert_eq!(first, has_first.then_some("0.0015"), "{script}: {ended:?}");
        }
    }
}

/// A gate that is slow to decide.
struct Slow(Arc<ManualClock>);

#[async_trait]
impl Gate for Slow {
    async fn admit(&self, _: &mut Parts, _: &Call) -> Result<(), Rejection> {
        self.0.advance(Duration::from_micros(1_500));
        Ok(())
    }
}

/// A stream whose first event comes three seconds after its head.
struct Late(Arc<ManualClock>, bool);

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const SAID: &[u8] =
            br#"data: {"id":"1","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}

data: [DONE]

"#;
        if std::mem::replace(&mut self.1, true) {
            return Poll::Ready(None);
        }
        self.0.advance(Duration::from_secs(3));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(SAID)))))
    }
}

#[tokio::test]
async fn a_client_is_told_what_of_its_wait_was_the_gateways_own_where_that_is_asked_for() {
    let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
    let hello = json!({ "model": "claude-haiku-5-5", "max_tokens": 64, "messages": [] });
    let slow = Slow(clock.clone());
    let world = World::with(|layer| layer.clock(clock).gate(slow).server_timing());
    let key = world.mint(Principal::new("ada")).await;
    let answer = world.ask(post(MESSAGES, &key, &hello)).await;
    assert_eq!((answer.status.as_u16(), answer.header("server-timing")), (200, Some("gateway;dur=1.500")));
    // Waiting for a provider counts as the provider's time, whether or not it ever answers.
    let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
    let dead = clock.clone();
    let client = service_fn(move |_: Request<Body>| {
        dead.advance(Duration::from_millis(30));
        std::future::ready(Err::<Response<Body>, _>(std::io::Error::other("hung up")))
    });
    let provider = Provider::with_client(Dialect::Anthropic, "http://dead.invalid", None, client).expect("a URL");
    let layer = GatewayLayer::new().clock(clock).server_timing();
    let gateway =
        Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).layer(layer).build().expect("a gateway");
    let request = Request::post(MESSAGES).body(Body::from(hello.to_string())).expect("a request");
    let answer = ask(gateway, request).await;
    let told = answer.header("server-timing");
    assert_eq!((answer.status.as_u16(), told), (502, Some("gateway;dur=0.000, upstream;dur=30.000")));
    // So does waiting for the first event, if the answer is translated and its head waits for that event.
    let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time")));
    let late = clock.clone();
    let client = service_fn(move |_: Request<Body>| {
        let answer =
            Response::builder().header("content-type", "text/event-stream").body(Body::new(Late(late.clone(), false)));
        std::future::ready(answer)
    });
    let provider = Provider::with_client(Dialect::OpenAiChat, "http://late.invalid", None, client).expect("a URL");
    let layer = GatewayLayer::new().clock(clock).server_timing();
    let gateway =
        Gateway::builder().upstream("openai", Dialect::OpenAiChat, provider).layer(layer).build().expect("a gateway");
    let hello = json!({ "model": "gpt-5", "max_tokens": 64, "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let request = Request::post(MESSAGES).body(Body::from(hello.to_string())).expect("a request");
    let answer = ask(gateway, request).await;
    let told = answer.header("server-timing");
    assert_eq!((answer.status.as_u16(), told), (200, Some("gateway;dur=0.000, upstream;dur=3000.000")), "{answer:?}");
    let silent = World::new();
    let key = silent.mint(Principal::new("ada")).await;
    assert_eq!(silent.ask(post(MESSAGES, &key, &hello)).await.header("server-timing"), None);
}

#[test]
fn a_word_is_the_same_in_records_and_in_metrics() {
    fn same<T: Serialize + Copy>(all: &[T], word: impl Fn(T) -> &'static str) {
        for one in all {
            assert_eq!(json!(one), json!(word(*one)));
        }
    }
    use {AttemptEnd as A, Dialect as D, End as E, Operation as O, RejectionKind as R};
    same(&[E::Complete, E::Abandoned, E::Failed, E::Refused, E::Cut, E::Lost], E::as_str);
    same(&[A::Complete, A::Abandoned, A::Unsent, A::NoAnswer, A::ErrorStatus, A::Broken], A::as_str);
    same(&[Quality::Exact, Quality::Estimated, Quality::Forfeit], Quality::as_str);
    same(&[D::Anthropic, D::OpenAiChat, D::OpenAiResponses], D::as_str);
    same(&[O::Generate, O::CountTokens, O::ListModels, O::KeyInfo, O::Usage, O::Other], O::as_str);
    same(
        &[
            R::BudgetHeld,
            R::BudgetSpent,
            R::BudgetUnreadable,
            R::Busy,
            R::ClientTooSlow,
            R::InvalidRequest,
            R::MethodNotAllowed,
        ],
        R::as_str,
    );
    same(&[R::Misconfigured, R::ModelNotAllowed, R::ModelNotFound, R::NotFound, R::RateLimited], R::as_str);
    same(&[R::ShuttingDown, R::StoreUnavailable, R::PriceUnknown, R::TooLarge, R::Unsupported], R::as_str);
    same(&[R::Unauthenticated, R::UpstreamCredential, R::UpstreamGarbled], R::as_str);
    same(&[R::UpstreamTimeout, R::UpstreamUnreachable], R::as_str);
}
