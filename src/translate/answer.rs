use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Collected, Limited};

use super::body::TranslatedBody;
use super::request::Passage;
use crate::body::{Body, Gunzip, Secret, forget_reason};
use crate::call::is_event_stream;
use crate::dialect::Rendered;
use crate::dialect::canon::fault::{Fault, FaultKind};
use crate::dialect::translate::{self, StreamTranslator};
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};

/// How long the head of a stream waits for the first event.
const FIRST_EVENT: Duration = Duration::from_secs(10);
/// How long the end of a stream may take to come behind its last event.
const END: Duration = Duration::from_secs(1);
/// The largest complete answer that is read.
const MOST: usize = 64 << 20;
/// The error if a stream cannot be translated.
const UNTRANSLATABLE: &str = "streams of this upstream cannot be translated";
/// The warning if the usage is not known: zeros are not real figures.
const UNKNOWN: &str = "usage=unknown";
/// The largest error that is read.
const MOST_OF_ERROR: usize = 1 << 20;

impl Passage {
    /// Translates the answer into the client's dialect. A rejection of ours has no dialect yet, and passes.
    pub(crate) fn back(
        self: Box<Self>,
        response: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        Box::pin(async move {
            if response.extensions().get::<Rejection>().is_some() {
                return response;
            }
            let (mut parts, mut body) = response.into_parts();
            self.asked_with(&mut parts);
            if Gunzip::is_needed(&parts.headers) {
                body = Gunzip::body(body, MOST);
            }
            for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::ETAG] {
                parts.headers.remove(name);
            }
            let is_stream = is_event_stream(&parts.headers);
            // Some of these headers explain the error.
            let mut said = if parts.status.is_success() { HeaderMap::new() } else { parts.headers.clone() };
            if let Some(mark) = parts.extensions.remove::<translate::OutOfTokens>() {
                mark.tell(&mut said);
            }
            let is_theirs = |name: &str| name.starts_with("anthropic-") || name.starts_with("openai-");
            let theirs: Vec<_> = parts.headers.keys().filter(|name| is_theirs(name.as_str())).cloned().collect();
            theirs.into_iter().for_each(|name| _ = parts.headers.remove(name));
            match is_stream {
                _ if !parts.status.is_success() => self.error(parts, &said, body).await,
                true if self.streams => self.stream(parts, body).await,
                // Some servers stream whatever was asked for, and some never stream.
                _ => match self.at_once(body, is_stream).await {
                    Ok(bytes) => self.good(parts, Body::from(bytes)),
                    Err(fault) => self.failed(&fault),
                },
            }
        })
    }

    /// Counts the wait for an answer's body as the upstream's time, like the wait for its head.
    async fn waited<T>(&self, coming: impl Future<Output = T>) -> T {
        let began = self.call.elapsed();
        let came = coming.await;
        self.call.waited_upstream(self.call.elapsed().saturating_sub(began));
        came
    }

    async fn error(&self, parts: Parts, said: &HeaderMap, body: Body) -> Response<Body> {
        let bytes = match parts.extensions.get::<translate::ByStatus>() {
            Some(_) => Bytes::new(),
            None => self.waited(collected(body, MOST_OF_ERROR)).await.unwrap_or_default(),
        };
        let mut rendered = translate::error(parts.status, said, &bytes, self.upstream, self.client, &self.reply);
        // Shortened or decoded, the message may now contain what it did not when it arrived.
        if let Some(covered) = self.covered(&String::from_utf8_lossy(&rendered.body)) {
            rendered.body = covered.into();
        }
        let fault = translate::fault(parts.status, &bytes, self.upstream);
        match fault.kind {
            _ if self.is_refusal(&fault) => self.refusal(),
            _ if self.is_cut_off(&fault) => self.nothing(),
            _ => with(parts, rendered),
        }
    }

    /// OpenAI's models that reason refuse a request whose limit leaves no room for an answer; Anthropic's answer it with
    /// nothing. Claude Code asks for one token to see whether there is a model.
    fn is_cut_off(&self, fault: &Fault) -> bool {
        const WORDS: &str = "max_tokens or model output limit was reached";
        let is_refused = fault.kind == FaultKind::InvalidRequest && fault.message.contains(WORDS);
        is_refused && self.client == Dialect::Anthropic && !self.is_strict
    }

    /// Anthropic's clients get a refusal as an answer, not as an error.
    fn is_refusal(&self, fault: &Fault) -> bool {
        fault.kind == FaultKind::ContentPolicy && self.client == Dialect::Anthropic && !self.is_strict
    }

    fn refusal(&self) -> Response<Body> {
        const REFUSED: &[u8] =
            br#"{"id":"","choices":[{"index":0,"message":{"content":""},"finish_reason":"content_filter"}]}"#;
        let translate = if self.streams { translate::try_answer_as_stream } else { translate::try_answer };
        match translate(REFUSED, Dialect::OpenAiChat, self.client, &self.reply) {
            Ok(bytes) => self.good(Response::new(()).into_parts().0, Body::from(bytes)),
            Err(fault) => self.failed(&fault),
        }
    }

    /// Reads the whole answer before any of it is sent.
    async fn at_once(&self, mut body: Body, mut is_stream: bool) -> Result<Bytes, Fault> {
        let begin = if self.streams { StreamTranslator::new } else { StreamTranslator::gathering };
        let translator = begin(self.upstream, self.client, &self.reply);
        let translator = translator.ok_or_else(|| Fault::garbled(UNTRANSLATABLE))?;
        let mut translator = translator.resuming(&self.reply).guessing(self.likely_input);
        let mut out = BytesMut::new();
        loop {
            if is_stream {
                self.waited(self.gather(body, &mut translator, &mut out)).await?;
            } else {
                let bytes = self.waited(collected(body, MOST)).await;
                let bytes = bytes.ok_or_else(|| {
                    Fault::new(FaultKind::Truncated, "the upstream's answer was cut off, or is too large to translate")
                });
                translator.try_whole(&bytes?, self.upstream, &mut out)?;
            }
            let Some(next) = translator.going_on(&self.asked) else {
                if !translator.states_usage() {
                    self.usage_is_not_stated();
                }
                return Ok(out.freeze());
            };
            (body, is_stream) = self.go_on(next.into()).await?;
            translator.resume();
        }
    }

    /// Reads a whole stream.
    async fn gather(&self, body: Body, translator: &mut StreamTranslator, out: &mut BytesMut) -> Result<(), Fault> {
        let mut body = Limited::new(body, MOST);
        // Before the rest of the body is dropped.
        let told = |fault: &Fault| {
            if !self.is_refusal(fault) {
                self.call.tells_of_failure();
            }
        };
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => {
                    translator.try_push(&chunk, out).inspect_err(told)?;
                    if translator.is_over() {
                        // As a rule its end comes at once, and only then can the connection serve another call.
                        let end = async { while let Some(Ok(_)) = body.frame().await {} };
                        let _ = tokio::time::timeout(END, end).await;
                        break;
                    }
                }
                // Trailers.
                Ok(Err(_)) => {}
                // Nothing is lost after a complete answer.
                Err(_) if translator.has_all() => break,
                Err(_) => return Err(Fault::truncated()).inspect_err(told),
            }
        }
        translator.try_finish(out)
    }

    /// The stated usage is not the provider's: warns in the header, if it has not been sent yet, and in the record.
    pub(super) fn usage_is_not_stated(&self) {
        self.note(if self.likely_input.is_some() { "usage=estimated" } else { UNKNOWN });
    }

    fn note(&self, usage: &str) {
        if self.reply.needs.is_silent {
            return;
        }
        match &self.warnings {
            Some(lost) => self.call.warn(Some(&format!("{lost}; {usage}"))),
            None => self.call.warn(Some(usage)),
        }
    }

    /// Continues an answer that paused. Returns the next body, and whether it is a stream.
    pub(super) async fn go_on(&self, next: Bytes) -> Result<(Body, bool), Fault> {
        let again = self.again.as_ref().ok_or_else(|| {
            Fault::garbled("the upstream paused its answer, and the gateway cannot ask it to continue")
        })?;
        let response = again(next).await;
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            tracing::info!(%rejection, "a paused answer could not be continued");
            return Err(Fault::truncated());
        }
        let (mut parts, mut body) = response.into_parts();
        self.asked_with(&mut parts);
        if Gunzip::is_needed(&parts.headers) {
            body = Gunzip::body(body, MOST);
        }
        if !parts.status.is_success() {
            let bytes = self.waited(collected(body, MOST_OF_ERROR)).await.unwrap_or_default();
            return Err(translate::fault(parts.status, &bytes, self.upstream));
        }
        Ok((body, is_event_stream(&parts.headers)))
    }

    /// Holds the head back until there is something to send: what fails before that fails with its own status.
    async fn stream(self: Box<Self>, parts: Parts, mut body: Body) -> Response<Body> {
        let Some(translator) = StreamTranslator::new(self.upstream, self.client, &self.reply) else {
            return self.failed(&Fault::garbled(UNTRANSLATABLE));
        };
        let mut translator = translator.resuming(&self.reply).guessing(self.likely_input);
        let mut out = BytesMut::new();
        let first = tokio::time::timeout(FIRST_EVENT, async {
            while out.is_empty() {
                match body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) => translator.try_push(&chunk, &mut out)?,
                        Err(_trailers) => {}
                    },
                    Some(Err(_)) if !translator.has_all() => return Err(Fault::truncated()),
                    Some(Err(_)) | None => return translator.try_finish(&mut out),
                }
            }
            Ok(())
        });
        match self.waited(first).await {
            Ok(Err(fault)) if out.is_empty() => return self.failed(&fault),
            Ok(Err(fault)) => {
                self.call.tells_of_failure();
                translator.fail(&self.shown(&fault), &mut out);
                // After that, the upstream is not read any more.
                body = Body::empty();
            }
            Ok(Ok(())) | Err(_) => {}
        }
        let passage = Arc::<Self>::from(self);
        passage.good(parts, Body::own(TranslatedBody::new(body, translator, out, passage.clone())))
    }

    pub(super) fn good(&self, mut parts: Parts, body: Body) -> Response<Body> {
        let headers = &mut parts.headers;
        // It means nothing on a success, and SDKs that see it wait.
        headers.remove(header::RETRY_AFTER);
        if self.streams {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Response::from_parts(parts, body)
    }

    pub(super) fn failed(&self, fault: &Fault) -> Response<Body> {
        if self.is_refusal(fault) {
            // With status 200 from the upstream, the refusal may have cost an amount that nobody states.
            self.note(UNKNOWN);
            return self.refusal();
        }
        self.call.tells_of_failure();
        if fault.kind == FaultKind::Garbled {
            // In the place of an answer with a good status.
            return Response::from(Rejection::new(RejectionKind::UpstreamGarbled, self.shown(fault).message));
        }
        with(Response::new(()).into_parts().0, translate::of_fault(&self.shown(fault), self.client, &self.reply))
    }

    /// The fault without secrets.
    pub(super) fn shown(&self, fault: &Fault) -> Fault {
        let mut shown = fault.clone();
        shown.message = self.covered(&shown.message).map_or(shown.message, Into::into);
        shown.param = shown.param.map(|param| self.covered(&param).unwrap_or(param));
        shown
    }

    /// Remembers the credential of this request: an answer that is continued later may use another one.
    fn asked_with(&self, parts: &mut Parts) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).extend(parts.extensions.remove::<Secret>());
    }

    /// The text with all secrets masked; `None` if it contains none.
    fn covered(&self, text: &str) -> Option<String> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets
            .iter()
            .fold(None, |left: Option<String>, secret| secret.covered(left.as_deref().unwrap_or(text)).or(left))
    }
}

fn with(mut parts: Parts, rendered: Rendered) -> Response<Body> {
    parts.status = rendered.status;
    forget_reason(&mut parts.extensions);
    parts.headers.remove(header::RETRY_AFTER);
    parts.headers.extend(rendered.headers);
    Response::from_parts(parts, Body::from(rendered.body))
}

/// Reads a whole body; `None` if it breaks off or is too large.
async fn collected(body: Body, most: usize) -> Option<Bytes> {
    Limited::new(body, most).collect().await.ok().map(Collected::to_bytes)
}
