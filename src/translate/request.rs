use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Uri, header};

use super::Translation;
use crate::body::{Body, Secret};
use crate::call::Call;
use crate::dialect::head::Head;
use crate::dialect::translate::{self, Asked, Mode, Reply, try_answer, try_answer_as_stream};
use crate::domain::dialect::{Dialect, Endpoint, Operation};
use crate::domain::estimate::likely_input;
use crate::domain::rejection::Rejection;
use crate::domain::target::Target;

/// The answer of a Chat Completions upstream that has no room for any output.
const NOTHING: &[u8] = br#"{"id":"","choices":[{"index":0,"message":{"content":""},"finish_reason":"length"}]}"#;

/// The header in which Claude Code names the session of a call.
const SESSION: &str = "x-claude-code-session-id";

/// What happens to a request.
pub(crate) enum Outbound {
    /// It is sent with this body; its answer returns through the passage.
    Send(Bytes, Box<Passage>),
    /// It is answered here.
    Answer(Response<Body>),
}

/// Translates the answer to one request.
pub(crate) struct Passage {
    pub(super) client: Dialect,
    pub(super) upstream: Dialect,
    pub(super) reply: Reply,
    /// Whether the client asked for a stream.
    pub(super) streams: bool,
    /// The translated request, if the answer may pause and need to be continued; otherwise empty.
    pub(super) asked: Bytes,
    pub(super) again: Option<AskAgain>,
    pub(super) call: Call,
    /// What the translation of the request lost.
    pub(super) warnings: Option<String>,
    /// Strict mode: nothing may be replaced by something else.
    pub(super) is_strict: bool,
    /// An estimate of the input tokens, if the client needs a figure that the upstream may not state.
    pub(super) likely_input: Option<u64>,
    /// The credentials of all requests so far, which must not appear in any error.
    pub(super) secrets: Mutex<Vec<Secret>>,
}

/// Sends this body to the same upstream again.
type AskAgain = Box<dyn Fn(Bytes) -> Answering + Send + Sync>;

pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Translation {
    /// Translates the request of `call` for `target`, and its headers into the other dialect.
    ///
    /// # Errors
    /// If the other dialect cannot express the request.
    pub(crate) fn outbound(
        &self,
        call: &Call,
        target: &Target,
        parts: &mut Parts,
        body: &Bytes,
    ) -> Result<Outbound, Rejection> {
        let head = call.require_head()?;
        // Clear the warning of an earlier attempt.
        call.warn(None);
        if call.endpoint().operation == Operation::CountTokens {
            return Ok(Outbound::Answer(counted(call, head, target)));
        }
        let session = parts.headers.get(SESSION).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        let asked = self.asked(call, head, target).session(session);
        let translated = translate::request(body, call.dialect(), target.dialect, &asked)?;
        if let Some(warnings) = &translated.warnings {
            call.warn(Some(warnings));
        }
        let reply = Reply::new(head.model(), call.id().to_string()).created(call.opened_at().as_second());
        let reply = translated.reply(reply);
        // Kept only if needed: the request may be large, and the answer long.
        let asked = if reply.needs.may_pause { translated.body.clone() } else { Bytes::new() };
        let passage = Passage {
            client: call.dialect(),
            upstream: target.dialect,
            reply,
            streams: head.is_stream(),
            asked,
            again: None,
            call: call.clone(),
            warnings: translated.warnings,
            is_strict: self.mode == Mode::Strict,
            // Anthropic's SDKs require usage figures, and its agents use them.
            likely_input: (call.dialect() == Dialect::Anthropic).then(|| likely_input(head.inputs(), &target.model)),
            secrets: Mutex::default(),
        };
        if translated.wants_nothing {
            // The request only fills a cache, for which the other API has no request.
            return Ok(Outbound::Answer(passage.nothing()));
        }
        let endpoint = Endpoint { dialect: target.dialect, operation: Operation::Generate };
        parts.uri = Uri::from_static(endpoint.upstream_path().unwrap_or("/"));
        speak(parts, translated.body.len());
        if target.dialect == Dialect::Anthropic {
            parts.headers.insert("anthropic-version", HeaderValue::from_static(self.version.as_str()));
            translated.beta.map(|beta| parts.headers.insert("anthropic-beta", HeaderValue::from_static(beta)));
        }
        Ok(Outbound::Send(translated.body, Box::new(passage)))
    }

    fn asked<'a>(&self, call: &Call, head: &Head, target: &'a Target) -> Asked<'a> {
        let catalog = call.catalog();
        let mut asked = Asked::new(&target.model).mode(self.mode).version(self.version);
        // Searches, and the further passes over the context that they cause, exceed what is held for the call.
        asked = asked.server_tools(self.server_tools && !call.is_granted());
        asked = asked.drops_stale_thinking(self.drops_stale_thinking);
        asked = asked.abilities(catalog.abilities(&target.model, target.dialect));
        if let Some(card) = catalog.find(&target.model) {
            asked = asked.max_output(card.max_output);
        }
        // If it equals the client's own limit, no layer has capped it.
        let most = call.max_tokens();
        asked.limit(most.filter(|_| most != head.max_tokens()))
    }
}

/// Removes the client's headers that belong to its dialect and its SDK, and mean nothing to the other.
fn speak(parts: &mut Parts, len: usize) {
    let foreign = |name: &str| {
        // `x-app` is a complete name; a host's own headers may start with it.
        let starts = ["anthropic-", "openai-", "x-stainless-", "x-claude-", "x-anthropic-", "x-codex-"];
        name == "x-app" || starts.iter().any(|start| name.starts_with(start))
    };
    let names: Vec<_> = parts.headers.keys().filter(|name| foreign(name.as_str())).cloned().collect();
    names.into_iter().for_each(|name| _ = parts.headers.remove(name));
    // The answer is read here.
    parts.headers.remove(header::ACCEPT_ENCODING);
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.insert(header::CONTENT_LENGTH, len.into());
}

/// OpenAI has no API to count tokens: answers with an estimate that is marked as one.
fn counted(call: &Call, head: &Head, target: &Target) -> Response<Body> {
    let tokens = likely_input(head.inputs(), &target.model);
    call.warn(Some("usage=estimated"));
    let mut response = Response::new(Body::from(format!(r#"{{"input_tokens":{tokens}}}"#)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Passage {
    /// Lets an answer that pauses be continued: `ask` sends the next request to the same upstream, with the same
    /// `head`.
    pub(crate) fn ask_again(&mut self, head: &Parts, ask: impl Fn(Request<Body>) -> Answering + Send + Sync + 'static) {
        if self.reply.needs.may_pause {
            let head = head.clone();
            self.again = Some(Box::new(move |body| {
                let mut head = head.clone();
                head.headers.insert(header::CONTENT_LENGTH, body.len().into());
                ask(Request::from_parts(head, Body::from(body)))
            }));
        }
    }

    pub(super) fn nothing(&self) -> Response<Body> {
        let translate = if self.streams { try_answer_as_stream } else { try_answer };
        match translate(NOTHING, Dialect::OpenAiChat, self.client, &self.reply) {
            Ok(bytes) => self.good(Response::new(()).into_parts().0, Body::from(bytes)),
            Err(fault) => self.failed(&fault),
        }
    }
}
