//! How an answer must be adapted, because its request was not sent as the client asked.

use crate::domain::catalog::Abilities;

/// The model that a request goes to, and what it accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    pub(crate) model: &'a str,
    pub(crate) abilities: Abilities,
    /// The most output tokens of the model; `u64::MAX` if unknown.
    pub(crate) max_output: u64,
    /// The most output tokens that the layers allow.
    pub(crate) limit: Option<u64>,
    /// The provider drops thinking that no longer fits what precedes it, instead of refusing the request.
    pub(crate) drops_stale_thinking: bool,
    /// The session that the request belongs to, if the client names one.
    pub(crate) session: Option<&'a str>,
    /// The likely length of the request in bytes.
    pub(crate) size: usize,
}

/// The name of the tool that stands in for a format if the model has no other way to follow one.
pub(crate) const JSON_TOOL: &str = "json_tool_call";

/// The signature of unsigned thinking. SDKs require one, but it must never be sent to Anthropic.
pub(crate) const PLACEHOLDER_SIGNATURE: &str = "tgsig_v1.";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Tools whose name was changed for the upstream: the upstream's name and the client's, escaped.
    pub(crate) names: Vec<(String, String)>,
    /// Tools with text input, which was sent as a JSON object with that text: by the upstream's names.
    pub(crate) custom: Vec<String>,
    /// The answer is the input of [`JSON_TOOL`].
    pub(crate) json_tool: bool,
    /// The client knows functions, but no tools.
    pub(crate) legacy_functions: bool,
    /// The provider runs tools itself, and may pause to be asked to continue.
    pub(crate) may_pause: bool,
    /// The required value of `anthropic-beta`.
    pub(crate) beta: Option<&'static str>,
    /// The client did not ask for thinking, and its SDK may not know it.
    pub(crate) hides_thinking: bool,
    /// The client gets nothing beyond its own dialect.
    pub(crate) is_silent: bool,
}
