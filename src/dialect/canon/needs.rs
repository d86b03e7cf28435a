//! What an answer must be made to fit, since its request was not asked as the client asked it.

use crate::domain::catalog::Abilities;

/// Which model a request goes to, and what it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    pub(crate) model: &'a str,
    pub(crate) abilities: Abilities,
    /// The most output tokens that the model takes; `u64::MAX` where that is not known.
    pub(crate) max_output: u64,
    /// The most that the layers let it have.
    pub(crate) limit: Option<u64>,
    /// Thinking that no longer fits what stands before it is left out by the provider, and no error.
    pub(crate) drops_stale_thinking: bool,
    /// The session that it is a part of, if the client names one.
    pub(crate) session: Option<&'a str>,
    /// How long the request is likely to be, in bytes.
    pub(crate) size: usize,
}

/// The name of the tool that stands in for a format where the model has no other way to keep to one.
pub(crate) const JSON_TOOL: &str = "json_tool_call";

/// The signature of thinking that nobody has signed. SDKs want one; nobody may send it to Anthropic.
pub(crate) const PLACEHOLDER_SIGNATURE: &str = "tgsig_v1.";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Names of tools that upstream knows by another: as it knows them, and as the client does, escaped.
    pub(crate) names: Vec<(String, String)>,
    /// Tools whose input is text and went as a JSON object with that text: as upstream knows them.
    pub(crate) custom: Vec<String>,
    /// The answer is the input of [`JSON_TOOL`].
    pub(crate) json_tool: bool,
    /// The client knows no tools, but functions.
    pub(crate) legacy_functions: bool,
    /// The provider runs tools itself, and may pause to be asked to go on.
    pub(crate) may_pause: bool,
    /// What `anthropic-beta` must say, so that the request is understood.
    pub(crate) beta: Option<&'static str>,
    /// The client did not ask for thinking, and its SDK may not know what it is.
    pub(crate) hides_thinking: bool,
    /// The client is told nothing beyond its own dialect.
    pub(crate) is_silent: bool,
}
