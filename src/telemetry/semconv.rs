//! The names of [OpenTelemetry's conventions for generative AI](https://opentelemetry.io/docs/specs/semconv/gen-ai/), which
//! are all still in development: kept in this one place.

use crate::domain::dialect::{Dialect, Operation};

/// Which generation of the conventions is spoken. Never two at once: a sum over both would count twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Conventions {
    /// Up to 1.36: `gen_ai.system`, `gen_ai.client.token.usage`. What dashboards of today read.
    #[default]
    V1_36,
    /// As they are being written now: `gen_ai.provider.name`, `gen_ai.client.inference.usage.input_tokens`.
    Latest,
}

impl Conventions {
    /// What a value of `OTEL_SEMCONV_STABILITY_OPT_IN` asks for: the latest, if `gen_ai_latest_experimental` is in its list.
    #[must_use]
    pub fn opted_in(list: &str) -> Self {
        match list.split(',').any(|word| word.trim() == "gen_ai_latest_experimental") {
            true => Conventions::Latest,
            false => Conventions::V1_36,
        }
    }

    /// What the provider is called by.
    pub(super) fn provider_key(self) -> &'static str {
        match self {
            Conventions::V1_36 => SYSTEM,
            Conventions::Latest => PROVIDER_NAME,
        }
    }
}

/// The provider, by what it speaks.
pub(super) fn provider(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "anthropic",
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "openai",
    }
}

/// The operation, where the conventions have a word for it.
pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Generate => "chat",
        other => other.as_str(),
    }
}

#[cfg(feature = "metrics")]
pub(super) use self::metrics::*;

const SYSTEM: &str = "gen_ai.system";
const PROVIDER_NAME: &str = "gen_ai.provider.name";

#[cfg(feature = "metrics")]
mod metrics {
    pub(crate) const OPERATION_NAME: &str = "gen_ai.operation.name";
    pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
    pub(crate) const TOKEN_TYPE: &str = "gen_ai.token.type";
    pub(crate) const ERROR_TYPE: &str = "error.type";

    /// Up to 1.36.
    pub(crate) const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
    pub(crate) const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";

    /// The latest: usage is counted, and how it is spread over operations is another two.
    pub(crate) const TOKEN_MODALITY: &str = "gen_ai.token.modality";
    pub(crate) const INPUT_TOKENS_EACH: &str = "gen_ai.client.inference.operation.input_tokens";
    pub(crate) const OUTPUT_TOKENS_EACH: &str = "gen_ai.client.inference.operation.output_tokens";
    pub(crate) const DURATION: &str = "gen_ai.client.inference.duration";
    pub(crate) const INPUT_TOKENS: &str = "gen_ai.client.inference.usage.input_tokens";
    pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.client.inference.usage.output_tokens";
    pub(crate) const CACHE_READ_TOKENS: &str = "gen_ai.client.inference.usage.cache_read.input_tokens";
    pub(crate) const CACHE_WRITE_TOKENS: &str = "gen_ai.client.inference.usage.cache_write.input_tokens";
    pub(crate) const REASONING_TOKENS: &str = "gen_ai.client.inference.usage.reasoning.output_tokens";
}
