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

/// What an upstream that speaks Chat Completions would say to a request for no output.
const NOTHING: &[u8] = br#"{"id":"","choices":[{"index":0,"message":{"content":""},"finish_reason":"length"}]}"#;

/// Where Claude Code says which session a call belongs to.
const SESSION: &str = "x-claude-code-session-id";

/// What becomes of a request.
pub(crate) enum Outbound {
    /// It goes upstream with this body; the answer goes back through the passage.
    Send(Bytes, Box<Passage>),
    /// It is answered here.
    Answer(Response<Body>),
}

/// The way back for the answer to one request.
pub(crate) struct Passage {
    pub(super) client: Dialect,
    pub(super) upstream: Dialect,
    pub(super) reply: Reply,
    /// The client wants a stream.
    pub(super) streams: bool,
    /// What was asked, where the answer may pause and has to be gone on with; else nobody asks for it.
    pub(super) asked: Bytes,
    pub(super) again: Option<AskAgain>,
    pub(super) call: Call,
    /// What the translation of the request lost.
    pub(super) warnings: Option<String>,
    /// Nothing may become what it is not.
    pub(super) is_strict: bool,
    /// How many tokens went in, where the client must be told and nobody may say.
    pub(super) likely_input: Option<u64>,
    /// What the upstream was asked with, each time, which no error may tell.
    pub(super) secrets: Mutex<Vec<Secret>>,
}

/// Asks the same upstream once more, with this body.
type AskAgain = Box<dyn Fn(Bytes) -> Answering + Send + Sync>;

pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl Translation {
    /// Translates the request of `call` for `target`, and makes its head one of the other dialect.
    ///
    /// # Errors
    /// What cannot be asked there.
    pub(crate) fn outbound(
        &self,
        call: &Call,
        target: &Target,
        parts: &mut Parts,
        body: &Bytes,
    ) -> Result<Outbound, Rejection> {
        let head = call.require_head()?;
        // What an attempt before lost is not lost by this one.
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
        // It may be large, and an answer long.
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
            // Anthropic's SDKs want figures, and its agents go by them.
            likely_input: (call.dialect() == Dialect::Anthropic).then(|| likely_input(head.inputs(), &target.model)),
            secrets: Mutex::default(),
        };
        if translated.wants_nothing {
            // Only a cache is to be filled, and the other API cannot be asked for that.
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
        // Searches, and the passes over the context that they add, are more than was held for the call.
        asked = asked.server_tools(self.server_tools && !call.is_granted());
        asked = asked.drops_stale_thinking(self.drops_stale_thinking);
        asked = asked.abilities(catalog.abilities(&target.model, target.dialect));
        if let Some(card) = catalog.find(&target.model) {
            asked = asked.max_output(card.max_output);
        }
        // Where it is what the client asked for, nobody capped it.
        let most = call.max_tokens();
        asked.limit(most.filter(|_| most != head.max_tokens()))
    }
}

/// Of the client's headers, those of its own dialect and its SDK say nothing to the other.
fn speak(parts: &mut Parts, len: usize) {
    let foreign = |name: &str| {
        // That one is all of a name, and how those of a host may begin.
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

/// OpenAI counts no tokens: an estimate, which says so.
fn counted(call: &Call, head: &Head, target: &Target) -> Response<Body> {
    let tokens = likely_input(head.inputs(), &target.model);
    call.warn(Some("usage=estimated"));
    let mut response = Response::new(Body::from(format!(r#"{{"input_tokens":{tokens}}}"#)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Passage {
    /// Should the answer pause, `ask` sends what goes on with it to the same upstream, with the same `head`.
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

    fn nothing(&self) -> Response<Body> {
        let translate = if self.streams { try_answer_as_stream } else { try_answer };
        match translate(NOTHING, Dialect::OpenAiChat, self.client, &self.reply) {
            Ok(bytes) => self.good(Response::new(()).into_parts().0, Body::from(bytes)),
            Err(fault) => self.failed(&fault),
        }
    }
}
