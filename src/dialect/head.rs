//! The head of a request: the few members that decide where a call goes and what it may cost.
//!
//! Use it in a gate, through [`Call::head`](crate::Call::head). The body is scanned once, and nothing else of it is
//! decoded.
//!
//! ```
//! use tollgate::Dialect;
//! use tollgate::dialect::head::Head;
//! let head = Head::read(br#"{"model":"claude-haiku-5-5","max_tokens":64,"messages":[]}"#, Dialect::Anthropic)?;
//! assert_eq!((head.model(), head.max_tokens(), head.is_stream()), ("claude-haiku-5-5", Some(64), false));
//! # Ok::<(), tollgate::Rejection>(())
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::inputs::{self, Reading};
use super::prefix::Prefix;
use crate::domain::dialect::Dialect;
use crate::domain::estimate::Inputs;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::wire::json::{self, Found, Kind, Limits, Path, Plan, ScanError};

/// The longest model name that is accepted, in bytes. Real ones, resource names included, stay below half of it.
const MAX_MODEL: usize = 512;
/// The most messages of one request, as in the Messages API.
pub(super) const MAX_MESSAGES: usize = 100_000;
/// The most tools of one request, as in Anthropic's tool search: its clients send thousands of tools that wait to be
/// found. Source: code.claude.com/docs/en/agent-sdk/tool-search.
const MAX_TOOLS: usize = 10_000;
/// The most answers to one request, as in OpenAI's API (`n` in its OpenAPI description, 1 to 128). Without it, a
/// request that sets no token limit could hold any amount, and be charged that when its client leaves.
const MAX_CHOICES: u64 = 128;

/// The members that are read or edited. Each must appear at most once, without escapes: if two parsers could disagree
/// on which `max_tokens` counts, the budget would hold money for one value, and the other would be spent.
static PLAN: Plan<10, { inputs::PATHS.len() }> = Plan::new(PATHS, inputs::PATHS, inputs::NAMES).lax(inputs::LAX);
const PATHS: [Path; 10] = [
    &["model"],
    &["stream"],
    &["max_tokens"],
    &["max_completion_tokens"],
    &["max_output_tokens"],
    &["n"],
    &["messages"],
    &["tools"],
    &["stream_options"],
    &["stream_options", "include_usage"],
];

/// The indexed head of one request body. Spans point into that body.
#[derive(Debug, Clone)]
pub struct Head {
    dialect: Dialect,
    model: Arc<str>,
    stream: bool,
    max_tokens: Option<u64>,
    choices: u64,
    includes_usage: bool,
    inputs: Inputs,
    prefixes: Vec<Prefix>,
    user: Option<Arc<str>>,
    len: usize,
    pub(crate) spans: Spans,
}

/// The places of possible edits.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    pub(crate) root: Found,
    pub(crate) model: Found,
    /// The token limits of the dialect, with the places of their values. Chat clients may send the old and the new
    /// name.
    pub(crate) max_tokens: [Option<(Option<u64>, Range<usize>)>; 2],
    pub(crate) stream_options: Option<Found>,
    pub(crate) include_usage: Option<Found>,
}

impl Head {
    /// Scans a body once.
    ///
    /// # Errors
    /// An [`InvalidRequest`](RejectionKind::InvalidRequest) that names the member at fault: malformed JSON, invalid
    /// UTF-8, nesting beyond 128, a governed member that is doubled, escaped, in another case or of the wrong type, or
    /// a model name that is too long or has control characters.
    pub fn read(body: &[u8], dialect: Dialect) -> Result<Self, Rejection> {
        let mut reading = Reading::new(body, dialect);
        let mut each = |path: Path, found: &Found| reading.note(path, found);
        let survey = json::survey(body, &PLAN, Limits::default(), &mut each);
        let (index, met) = survey.map_err(|error| malformed(&error))?;
        let [model, stream, old, completion, output, n, messages, tools, stream_options, include_usage] = index.found;

        let model = present(model).ok_or_else(|| invalid("`model` is missing", "model"))?;
        let name = model.as_str(body).ok_or_else(|| invalid("`model` must be a string", "model"))?;
        if name.is_empty() || name.len() > MAX_MODEL {
            return Err(invalid("`model` must have 1 to 512 bytes", "model"));
        }
        // Logged, shown or cut at such a character, the name could pass for another log line or another model.
        if name.chars().any(char::is_control) {
            return Err(invalid("`model` must not contain control characters", "model"));
        }
        let stream = flag(stream.as_ref(), "`stream` must be a boolean", "stream")?.unwrap_or(false);
        let limits = [
            limit(body, old.as_ref(), "`max_tokens` must be a whole number of tokens", "max_tokens")?,
            limit(
                body,
                completion.as_ref(),
                "`max_completion_tokens` must be a whole number of tokens",
                "max_completion_tokens",
            )?,
            limit(body, output.as_ref(), "`max_output_tokens` must be a whole number of tokens", "max_output_tokens")?,
        ];
        let [old, completion, output] = [(limits[0], old), (limits[1], completion), (limits[2], output)]
            .map(|(n, found)| found.map(|f| (n, f.span)));
        // Another dialect's name for the limit has no effect here.
        let max_tokens = match dialect {
            Dialect::Anthropic => [old, None],
            Dialect::OpenAiChat => [old, completion],
            Dialect::OpenAiResponses => [output, None],
        };
        let choices = limit(body, n.as_ref(), "`n` must be a whole number", "n")?.unwrap_or(1);
        if choices == 0 {
            return Err(invalid("`n` must be at least 1", "n"));
        }
        if choices > MAX_CHOICES {
            return Err(invalid("`n` must be at most 128", "n"));
        }
        at_most(messages.as_ref(), MAX_MESSAGES, "more than 100,000 messages", "messages")?;
        at_most(tools.as_ref(), MAX_TOOLS, "more than 10,000 tools", "tools")?;
        let includes_usage =
            flag(include_usage.as_ref(), "`stream_options.include_usage` must be a boolean", "stream_options")?
                .unwrap_or(false);
        let user = reading.user();
        let (inputs, prefixes) = reading.finish(messages.as_ref(), tools.as_ref(), met);

        Ok(Head {
            dialect,
            model: name.into(),
            stream,
            // The most expensive reading: whichever of the two names the upstream obeys, it was counted.
            max_tokens: max_tokens.iter().flatten().filter_map(|(tokens, _)| *tokens).max(),
            choices,
            includes_usage,
            inputs,
            prefixes,
            user,
            len: body.len(),
            spans: Spans { root: index.root, model, max_tokens, stream_options, include_usage },
        })
    }

    /// The dialect of the body.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The length of the body in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The model that the client asked for, decoded.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the client wants a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// The most output tokens that the client asked for; `None` if it set no limit.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    /// How many answers the client asked for (`n` of Chat Completions); 1 unless set.
    #[must_use]
    pub fn choices(&self) -> u64 {
        self.choices
    }

    /// Whether the client itself asked for the usage chunk of a Chat Completions stream.
    #[must_use]
    pub fn includes_usage(&self) -> bool {
        self.includes_usage
    }

    /// What the request contains that costs tokens: for [`estimate`](crate::domain::estimate).
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Fingerprints of the request up to each of its last messages; empty for a short request.
    #[must_use]
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// The end user that the request names: `metadata.user_id` of Messages, `safety_identifier` or `user` of Chat
    /// Completions. Nobody has checked or cleaned it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// How many output tokens thinking may take (`thinking.budget_tokens` of Messages); `max_tokens` must stay above.
    #[must_use]
    pub fn thinking_budget(&self) -> Option<u64> {
        self.inputs.thinking_budget
    }

    /// # Errors
    /// When this is not the head of `body`, judging by its length and its model: its values and spans would be wrong.
    pub(crate) fn require_of(&self, body: &[u8]) -> Result<(), Rejection> {
        if body.len() == self.len && self.spans.model.as_str(body).is_some_and(|name| *name == *self.model) {
            return Ok(());
        }
        Err(Rejection::misconfigured(
            "the request body is not the one that the call's head was read from: put layers that change bodies outside of `IngestLayer`",
        ))
    }

    pub(crate) fn shared_model(&self) -> &Arc<str> {
        &self.model
    }
}

fn malformed(error: &ScanError) -> Rejection {
    Rejection::new(RejectionKind::InvalidRequest, format!("request body: {error}"))
}

fn invalid(message: &'static str, param: &'static str) -> Rejection {
    Rejection::new(RejectionKind::InvalidRequest, message).param(param)
}

/// SDKs send `null` for members that were left out.
fn present(found: Option<Found>) -> Option<Found> {
    found.filter(|f| f.kind != Kind::Null)
}

fn flag(found: Option<&Found>, message: &'static str, param: &'static str) -> Result<Option<bool>, Rejection> {
    match found.map(|f| f.kind) {
        None | Some(Kind::Null) => Ok(None),
        Some(Kind::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(invalid(message, param)),
    }
}

fn limit(
    body: &[u8],
    found: Option<&Found>,
    message: &'static str,
    param: &'static str,
) -> Result<Option<u64>, Rejection> {
    match found {
        None => Ok(None),
        Some(f) if f.kind == Kind::Null => Ok(None),
        Some(f) => f.as_u64(body).map(Some).ok_or_else(|| invalid(message, param)),
    }
}

fn at_most(found: Option<&Found>, most: usize, message: &'static str, param: &'static str) -> Result<(), Rejection> {
    match found.map(|f| f.kind) {
        Some(Kind::Array { len }) if len > most => Err(invalid(message, param)),
        _ => Ok(()),
    }
}

/// Whether this many tools, wherever they are, are too many.
pub(super) fn has_too_many(tools: usize) -> bool {
    tools > MAX_TOOLS
}
