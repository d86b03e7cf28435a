//! A gateway that keeps content, in front of a provider that answers what the test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Channel};
use jiff::Timestamp;
use serde_json::json;
use tollgate::domain::content::{Content, Side};
use tollgate::domain::principal::Principal;
use tollgate::route::ModelTable;
use tollgate::store::StoreError;
use tollgate::store::content::ContentSink;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Body, ContentLayer, Dialect, Gateway, GatewayLayer};
use tower::{ServiceExt, service_fn};
use uuid::Uuid;

use crate::support::log;

pub(crate) use crate::support::dir::Dir;
pub(crate) use crate::support::until;

/// A sink that keeps everything, and can be told to accept nothing.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    contents: Vec<Content>,
    is_stalled: bool,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stall(&self, is_stalled: bool) {
        self.lock().is_stalled = is_stalled;
    }

    pub(crate) fn all(&self) -> Vec<Content> {
        self.lock().contents.clone()
    }

    pub(crate) fn of(&self, side: Side) -> Vec<Content> {
        self.all().into_iter().filter(|content| content.side == side).collect()
    }

    /// Everything that is kept, as text.
    pub(crate) fn text(&self) -> String {
        self.all().iter().map(text).collect()
    }
}

#[async_trait]
impl ContentSink for Kept {
    async fn write(&self, contents: &[Content]) -> Result<(), StoreError> {
        let mut inside = self.lock();
        if inside.is_stalled {
            return Err(StoreError::unavailable("stalled"));
        }
        inside.contents.extend_from_slice(contents);
        Ok(())
    }

    async fn delete_before(&self, end: Timestamp) -> Result<u64, StoreError> {
        let mut inside = self.lock();
        let before = inside.contents.len();
        inside.contents.retain(|content| content.at >= end);
        Ok((before - inside.contents.len()) as u64)
    }
}

pub(crate) fn text(content: &Content) -> String {
    String::from_utf8_lossy(content.body.as_deref().unwrap_or_default()).into_owned()
}

/// A gateway to Claude at a simulated provider, and to a model `own` that answers with these chunks in turn.
pub(crate) fn gateway(layer: GatewayLayer, chunks: &'static [&'static str]) -> Gateway {
    log::search();
    let provider = Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new());
    let own = service_fn(move |_: Request<Body>| async move {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        tokio::runtime::Handle::current().spawn(async move {
            for chunk in chunks {
                if sender.send_data(Bytes::from_static(chunk.as_bytes())).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream").body(Body::new(body));
        Ok::<_, Infallible>(answer.expect("an answer"))
    });
    let table = ModelTable::new().pattern("claude*", "anthropic", Dialect::Anthropic).pattern(
        "own",
        "own",
        Dialect::OpenAiChat,
    );
    Gateway::builder()
        .layer(layer.router(table))
        .upstream("anthropic", Dialect::Anthropic, provider.expect("a URL"))
        .upstream("own", Dialect::OpenAiChat, own)
        .build()
        .expect("a gateway")
}

pub(crate) fn messages(prompt: &str) -> String {
    json!({
        "model": "claude-haiku-5-5", "max_tokens": 100, "stream": true,
        "messages": [{ "role": "user", "content": prompt }],
    })
    .to_string()
}

pub(crate) fn post(path: &str, body: &str) -> Request<Body> {
    Request::post(path).body(Body::from(body.to_owned())).expect("a request")
}

pub(crate) fn of(principal: Principal, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Arc::new(principal));
    request
}

/// Makes a call. Returns its id and its whole answer.
pub(crate) async fn ask(gateway: &Gateway, request: Request<Body>) -> (Uuid, Bytes) {
    let answer = gateway.clone().oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 200);
    let id = answer.headers()["x-request-id"].to_str().expect("a text").parse().expect("an id");
    (id, answer.into_body().collect().await.expect("whole").to_bytes())
}

/// A layer over a sink that keeps everything, and the sink.
pub(crate) fn layer() -> (ContentLayer, Kept) {
    let kept = Kept::default();
    (ContentLayer::new(kept.clone()), kept)
}
