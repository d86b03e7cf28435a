//! The names of [OpenTelemetry's conventions for generative AI](https://opentelemetry.io/docs/specs/semconv/gen-ai/),
//! in one place, since all of them are still in development.

use std::borrow::Cow;

use http::StatusCode;

use crate::domain::dialect::{Dialect, Operation};
use crate::domain::outcome::{Attempt, AttemptEnd, End, Outcome};

/// The generation of the conventions to use. Never both at once: a sum over both would count twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Conventions {
    /// Up to version 1.36: `gen_ai.system`, `gen_ai.client.token.usage`. Today's dashboards read these.
    #[default]
    V1_36,
    /// The conventions in development: `gen_ai.provider.name`, `gen_ai.client.inference.usage.input_tokens`.
    Latest,
}

impl Conventions {
    /// Reads a value of `OTEL_SEMCONV_STABILITY_OPT_IN`: the latest, if its list contains `gen_ai_latest_experimental`.
    #[must_use]
    pub fn opted_in(list: &str) -> Self {
        match list.split(',').any(|word| word.trim() == "gen_ai_latest_experimental") {
            true => Conventions::Latest,
            false => Conventions::V1_36,
        }
    }

    /// The key of the provider's name.
    pub(super) fn provider_key(self) -> &'static str {
        match self {
            Conventions::V1_36 => SYSTEM,
            Conventions::Latest => PROVIDER_NAME,
        }
    }
}

/// The provider's name, derived from its dialect.
pub(super) fn provider(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "anthropic",
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "openai",
    }
}

/// The operation's name; the conventions' own, if they have one.
pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Generate => "chat",
        other => other.as_str(),
    }
}

/// The error label of an attempt that did not complete: the status of the provider's error, or else how the attempt
/// ended. There are about two hundred statuses and six ends.
pub(super) fn attempt_error(attempt: &Attempt) -> Option<Cow<'static, str>> {
    match attempt.end {
        AttemptEnd::Complete => None,
        end => Some(attempt.status.and_then(by_status).unwrap_or(end.as_str().into())),
    }
}

/// The error label of a call, which we may have refused, and whose client may have left.
pub(super) fn call_error(outcome: &Outcome) -> Option<Cow<'static, str>> {
    let of_failed = || {
        let last = outcome.attempts.last().filter(|last| last.end != AttemptEnd::Abandoned);
        last.and_then(attempt_error).or_else(|| by_status(outcome.status?))
    };
    match (outcome.rejection, outcome.end) {
        (_, End::Complete) => None,
        (Some(kind), _) => Some(kind.as_str().into()),
        (None, End::Failed) => Some(of_failed().unwrap_or(End::Failed.as_str().into())),
        (None, end) => Some(end.as_str().into()),
    }
}

fn by_status(status: StatusCode) -> Option<Cow<'static, str>> {
    (status.is_client_error() || status.is_server_error()).then(|| status.as_str().to_owned().into())
}

#[cfg(feature = "metrics")]
pub(super) use self::metrics::*;

pub(super) const OPERATION_NAME: &str = "gen_ai.operation.name";
pub(super) const SYSTEM: &str = "gen_ai.system";
pub(super) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub(super) const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Only in the latest conventions.
pub(super) const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(super) const CONVERSATION_ID: &str = "gen_ai.conversation.id";
pub(super) const ERROR_TYPE: &str = "error.type";

/// For spans; both generations have the first two.
pub(super) const USAGE_INPUT: &str = "gen_ai.usage.input_tokens";
pub(super) const USAGE_OUTPUT: &str = "gen_ai.usage.output_tokens";
pub(super) const USAGE_CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const USAGE_CACHE_WRITE: &str = "gen_ai.usage.cache_write.input_tokens";
pub(super) const USAGE_REASONING: &str = "gen_ai.usage.reasoning.output_tokens";

#[cfg(feature = "metrics")]
mod metrics {
    pub(crate) const TOKEN_TYPE: &str = "gen_ai.token.type";

    /// Up to version 1.36.
    pub(crate) const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
    pub(crate) const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";

    /// The latest: usage has counters, and its distribution over operations has two histograms.
    pub(crate) const TOKEN_MODALITY: &str = "gen_ai.token.modality";
    pub(crate) const INPUT_TOKENS_EACH: &str = "gen_ai.client.inference.operation.input_tokens";
    pub(crate) const OUTPUT_TOKENS_EACH: &str = "gen_ai.client.inference.operation.output_tokens";
    pub(crate) const DURATION: &str = "gen_ai.client.inference.duration";
    pub(crate) const TIME_TO_FIRST_CHUNK: &str = "gen_ai.client.inference.time_to_first_chunk";
    pub(crate) const INPUT_TOKENS: &str = "gen_ai.client.inference.usage.input_tokens";
    pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.client.inference.usage.output_tokens";
    pub(crate) const CACHE_READ_TOKENS: &str = "gen_ai.client.inference.usage.cache_read.input_tokens";
    pub(crate) const CACHE_WRITE_TOKENS: &str = "gen_ai.client.inference.usage.cache_write.input_tokens";
    pub(crate) const REASONING_TOKENS: &str = "gen_ai.client.inference.usage.reasoning.output_tokens";
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_name_of_the_conventions_is_spelt_here_and_in_what_explains_it() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry");
        let mut looked_at = 0;
        for entry in fs::read_dir(here).expect("readable") {
            let path = entry.expect("readable").path();
            let text = fs::read_to_string(&path).expect("UTF-8");
            if path.ends_with("semconv.rs") {
                continue;
            }
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let spelt: Vec<_> = code.filter(|line| line.contains("gen_ai") || line.contains("error.type")).collect();
            assert!(spelt.is_empty(), "{}: {spelt:?}", path.display());
            looked_at += 1;
        }
        assert!(looked_at > 2, "{looked_at} files");
    }
}
