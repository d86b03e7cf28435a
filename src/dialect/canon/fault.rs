//! An error of the upstream, on its way into the client's dialect.

use std::borrow::Cow;

/// What went wrong upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The upstream's own message: agents recover by matching it.
    pub(crate) message: Cow<'static, str>,
    /// OpenAI's `param`, decoded.
    pub(crate) param: Option<String>,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Fault { kind, message: message.into(), param: None }
    }

    /// What came is not in the dialect that the upstream should speak.
    pub(crate) fn garbled(message: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(FaultKind::Garbled, message)
    }

    /// More of the answer would have to be kept than is allowed.
    pub(crate) fn too_large() -> Self {
        Fault::garbled("the upstream's answer is too large to translate")
    }

    /// The stream ended before the answer did.
    pub(crate) fn truncated() -> Self {
        Fault::new(FaultKind::Truncated, "upstream stream ended prematurely")
    }
}

/// The kinds of errors that at least one dialect distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FaultKind {
    InvalidRequest,
    /// A refusal by a server in front of the API, with a status that the API does not use.
    Refused,
    /// The prompt does not fit.
    ContextLength,
    /// The provider rejected the content. For Anthropic clients that is a refusal, not an error.
    ContentPolicy,
    /// The upstream refused the credential.
    Authentication,
    /// The account has no money, temporarily or permanently.
    Quota,
    /// The account has reached a spending cap, which its owner may raise.
    SpendCap,
    Permission,
    NotFound,
    ModelNotFound,
    Timeout,
    Conflict,
    TooLarge,
    RateLimit,
    /// The exhausted rate limit is one on tokens.
    TokenLimit,
    /// Status 500, and any other fault of the upstream itself.
    Api,
    Overloaded,
    /// What came is not in the dialect that the upstream should speak.
    Garbled,
    Truncated,
}

/// Phrases in errors for a prompt that is too long, in lower case: Anthropic and servers in front of it, Bedrock,
/// OpenAI and vLLM, llama.cpp, SGLang, Kimi, Z.ai, xAI, Gemini, MiniMax, LM Studio, Ollama.
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

/// Gemini's, which counts only together with its other half: an output may have a maximum number of tokens too.
const INPUT_COUNT: &str = "input token count";
const EXCEEDS: &str = "exceeds the maximum number of tokens";

/// Whether the message means that the prompt is too long; few servers have a code for that. Agents shorten the prompt
/// if they are told so in words that they know.
pub(crate) fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let is_said = |words: &str| message.contains(words) && (words != INPUT_COUNT || message.contains(EXCEEDS));
    TOO_LONG.iter().any(|words| is_said(words))
}
