use tracing::field::Empty;
use tracing::{Level, Span};

use super::semconv::{self, Conventions, call_error, operation, provider};
use crate::call::Call;
use crate::domain::dialect::Operation;
use crate::domain::outcome::Outcome;

/// A `tracing` span for each call, from its opening to its close, with the names of OpenTelemetry's conventions for
/// generative AI. It is a child of the span in which the call was opened.
///
/// The span has the target `tollgate::call`, the level INFO and the name `call`. Through a bridge to OpenTelemetry its
/// name is `chat MODEL`, or `chat` if the catalog does not know the model, and its kind is `client`. If no subscriber
/// is interested, no span is made. It contains nothing of prompts and answers.
///
/// | field | what |
/// |---|---|
/// | `gen_ai.operation.name` | `chat`, `count_tokens`, … |
/// | `gen_ai.system`, or `gen_ai.provider.name` | `anthropic`, `openai`: the provider of the last attempt |
/// | `gen_ai.request.model` | the model that the last attempt asked for |
/// | `gen_ai.response.model` | the model that the last answer names |
/// | `gen_ai.request.stream`, `gen_ai.request.max_tokens` | what the client asked for; `stream` only if it is true |
/// | `gen_ai.response.time_to_first_chunk` | seconds until the client got the first part of a stream; only with the latest names |
/// | `gen_ai.conversation.id` | the session that the client names |
/// | `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens` | over all attempts; input includes cached tokens |
/// | `gen_ai.usage.{cache_read.input_tokens, cache_write.input_tokens, reasoning.output_tokens}` | parts of these; only with the latest names |
/// | `error.type` | why the call was refused, or how it failed: see below |
/// | `http.response.status_code` | the status sent to the client |
/// | `tollgate.{call_id, key, team, end, charged_usd, quality, attempts}` | as in the record |
///
/// `error.type` depends on how the call ended:
///
/// - If it was refused, or answered in the provider's place: the reason (`rate_limited`, `upstream_timeout`).
/// - If it failed: the status of the provider's error (`429`), or else how its last attempt ended (`broken`).
/// - Otherwise: how it ended (`abandoned`, `cut`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Spans {
    conventions: Conventions,
}

impl Spans {
    /// Creates spans with the names that today's dashboards read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the generation of OpenTelemetry's names.
    #[must_use]
    pub fn conventions(mut self, conventions: Conventions) -> Self {
        self.conventions = conventions;
        self
    }

    /// Starts the call's span, which ends when the call closes. Use it with [`on_open`](crate::GatewayLayer::on_open).
    pub fn begin(&self, call: &Call) {
        if call.endpoint().operation == Operation::Other || !tracing::enabled!(target: "tollgate::call", Level::INFO) {
            return;
        }
        let span = tracing::info_span!(
            target: "tollgate::call",
            "call",
            otel.name = Empty,
            otel.kind = "client",
            otel.status_code = Empty,
            { semconv::ERROR_TYPE } = Empty,
            http.response.status_code = Empty,
            { semconv::OPERATION_NAME } = operation(call.endpoint().operation),
            { semconv::SYSTEM } = Empty,
            { semconv::PROVIDER_NAME } = Empty,
            { semconv::REQUEST_MODEL } = Empty,
            { semconv::RESPONSE_MODEL } = Empty,
            { semconv::REQUEST_STREAM } = Empty,
            { semconv::REQUEST_MAX_TOKENS } = Empty,
            { semconv::FIRST_CHUNK } = Empty,
            { semconv::CONVERSATION_ID } = Empty,
            { semconv::USAGE_INPUT } = Empty,
            { semconv::USAGE_OUTPUT } = Empty,
            { semconv::USAGE_CACHE_READ } = Empty,
            { semconv::USAGE_CACHE_WRITE } = Empty,
            { semconv::USAGE_REASONING } = Empty,
            tollgate.call_id = %call.id(),
            tollgate.key = Empty,
            tollgate.team = Empty,
            tollgate.end = Empty,
            tollgate.charged_usd = Empty,
            tollgate.quality = Empty,
            tollgate.attempts = Empty,
        );
        let (conventions, of) = (self.conventions, call.clone());
        call.on_close(move |outcome| end(&span, conventions, &of, outcome));
    }
}

fn end(span: &Span, conventions: Conventions, call: &Call, outcome: &Outcome) {
    let last = outcome.attempts.last().and_then(|attempt| attempt.target.as_ref());
    let system = provider(last.map_or(outcome.endpoint.dialect, |target| target.dialect));
    span.record(conventions.provider_key(), system);
    let operation = operation(outcome.endpoint.operation);
    match last.map(|target| &target.model).or(outcome.model.as_ref()) {
        Some(model) => {
            span.record(semconv::REQUEST_MODEL, &**model);
            // A model name that a client makes up must not become a span name, since tools count spans by name.
            let known = call.catalog().find(model);
            span.record("otel.name", known.map_or(operation.to_owned(), |card| format!("{operation} {}", card.name)));
        }
        None => drop(span.record("otel.name", operation)),
    }
    let answered = outcome.attempts.last().and_then(|attempt| attempt.answered.as_deref());
    answered.map(|model| span.record(semconv::RESPONSE_MODEL, model));
    if let Some(head) = call.head() {
        // Without the field, the call is no stream.
        if head.is_stream() {
            span.record(semconv::REQUEST_STREAM, true);
            let first = outcome.first_chunk_after().filter(|_| conventions == Conventions::Latest);
            first.map(|first| span.record(semconv::FIRST_CHUNK, first.as_secs_f64()));
        }
        head.max_tokens().map(|tokens| span.record(semconv::REQUEST_MAX_TOKENS, tokens));
    }
    outcome.client.session.as_deref().map(|session| span.record(semconv::CONVERSATION_ID, session));
    if let Some(usage) = outcome.usage {
        span.record(semconv::USAGE_INPUT, usage.total_input());
        span.record(semconv::USAGE_OUTPUT, usage.output);
        if conventions == Conventions::Latest {
            let cache_write = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
            span.record(semconv::USAGE_CACHE_READ, usage.cache_read);
            span.record(semconv::USAGE_CACHE_WRITE, cache_write);
            span.record(semconv::USAGE_REASONING, usage.reasoning);
        }
    }
    if let Some(error) = call_error(outcome) {
        span.record(semconv::ERROR_TYPE, &*error);
        span.record("otel.status_code", "ERROR");
    }
    outcome.status.map(|status| span.record("http.response.status_code", status.as_u16()));
    if let Some(principal) = &outcome.principal {
        span.record("tollgate.key", &*principal.name);
        principal.team.as_deref().map(|team| span.record("tollgate.team", team));
    }
    span.record("tollgate.end", outcome.end.as_str());
    outcome.charged.map(|charged| span.record("tollgate.charged_usd", charged.to_string()));
    outcome.quality().map(|quality| span.record("tollgate.quality", quality.as_str()));
    span.record("tollgate.attempts", outcome.attempts.len() as u64);
}
