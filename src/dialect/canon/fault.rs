//! An error of the upstream, on its way into the client's dialect.

use std::borrow::Cow;

/// What went wrong upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The upstream's own words: agents recover by matching them.
    pub(crate) message: Cow<'static, str>,
    /// OpenAI's `param`, decoded.
    pub(crate) param: Option<String>,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Fault { kind, message: message.into(), param: None }
    }

    /// What came is not the dialect that the upstream is said to speak.
    pub(crate) fn garbled(message: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(FaultKind::Garbled, message)
    }

    /// More of the answer would have to be kept than memory is for.
    pub(crate) fn too_large() -> Self {
        Fault::garbled("the upstream's answer is larger than is kept")
    }

    /// The stream ended before the answer did.
    pub(crate) fn truncated() -> Self {
        Fault::new(FaultKind::Truncated, "upstream stream ended prematurely")
    }
}

/// The kinds of errors that either dialect tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FaultKind {
    InvalidRequest,
    /// What a server in front of the API refuses, in a status that the API has no error for.
    Refused,
    /// The prompt does not fit.
    ContextLength,
    /// The provider would not have the content; to Anthropic clients that is a refusal and no error.
    ContentPolicy,
    /// The upstream refused the credential.
    Authentication,
    /// The account is out of money, for now or for good.
    Quota,
    /// The account has reached a cap on what it may spend, which its owner may raise.
    SpendCap,
    Permission,
    NotFound,
    ModelNotFound,
    Timeout,
    Conflict,
    TooLarge,
    RateLimit,
    /// The rate that is spent is one of tokens.
    TokenLimit,
    /// 500, and whatever else is the upstream's own.
    Api,
    Overloaded,
    /// What came is not what the upstream is said to speak.
    Garbled,
    Truncated,
}

/// What servers say of a prompt that does not fit, in lower case: Anthropic and those in front of it, Bedrock, OpenAI and vLLM,
/// llama.cpp, SGLang, Kimi, Z.ai, xAI, Gemini, MiniMax, LM Studio, Ollama.
const TOO_LONG: [&str; 16] = [
    "prompt is too long",
    "exceed context",
    "exceeds context",
    "exceed the context",
    "exceeds the context",
    "input is too long",
    "maximum context length",
    "available context size",
    "longer than the model's context length",
    "exceeded model token limit",
    "prompt exceeds max length",
    "maximum prompt length",
    INPUT_COUNT,
    "context window exceeds limit",
    "greater than the context length",
    "prompt too long",
];

/// Gemini's, together with the other half of it: an output may have a maximum number of tokens too.
const INPUT_COUNT: &str = "input token count";
const EXCEEDS: &str = "exceeds the maximum number of tokens";

/// Whether these are words for a prompt that does not fit; few servers have a code for it. Agents make theirs shorter when
/// they are told so in the words that they know.
pub(crate) fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let is_said = |words: &str| message.contains(words) && (words != INPUT_COUNT || message.contains(EXCEEDS));
    TOO_LONG.iter().any(|words| is_said(words))
}
