use std::fmt;

use bytes::Bytes;

use crate::dialect::canon::needs::{Aim, Needs};
use crate::dialect::canon::warning::{Warnings, unsupported};
use crate::dialect::{anthropic, openai_chat};
use crate::domain::catalog::{Abilities, Sampling};
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::wire::json::{self, Limits, Tape};

/// What becomes of what the other API cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// It is left out, or said otherwise, and the answer's `x-tollgate-warnings` names it.
    #[default]
    Compat,
    /// The request is refused.
    Strict,
    /// It is left out, or said otherwise, and nobody is told.
    Silent,
}

/// The version of Anthropic's API that requests are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AnthropicVersion {
    /// `2023-06-01`.
    #[default]
    V2023_06_01,
    /// `2026-10-21`: no model takes `temperature`, `top_p` or `top_k`.
    V2026_10_21,
}

impl AnthropicVersion {
    /// What `anthropic-version` says.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AnthropicVersion::V2023_06_01 => "2023-06-01",
            AnthropicVersion::V2026_10_21 => "2026-10-21",
        }
    }
}

/// What is asked of the upstream: which model, and what it takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Asked<'a> {
    /// The model, as the upstream names it.
    pub model: &'a str,
    /// What it takes; by its name unless set.
    pub abilities: Option<Abilities>,
    /// The most output tokens that it takes, if that is known.
    pub max_output: Option<u64>,
    /// The most output tokens that the layers allow, if they do.
    pub limit: Option<u64>,
    /// What becomes of what the other API cannot say.
    pub mode: Mode,
    /// The version of an Anthropic upstream.
    pub version: AnthropicVersion,
    /// Whether the provider may run tools of its own (`web_search_options`), for which it takes more than tokens.
    pub server_tools: bool,
    /// Whether Anthropic leaves out thinking that no longer fits the history before it, where it would refuse the request.
    pub drops_stale_thinking: bool,
    /// The session that the request is a part of, if the client names one.
    pub session: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Of this model.
    #[must_use]
    pub fn new(model: &'a str) -> Self {
        Asked {
            model,
            abilities: None,
            max_output: None,
            limit: None,
            mode: Mode::default(),
            version: AnthropicVersion::default(),
            server_tools: false,
            drops_stale_thinking: false,
            session: None,
        }
    }

    /// What the model takes.
    #[must_use]
    pub fn abilities(mut self, abilities: Abilities) -> Self {
        self.abilities = Some(abilities);
        self
    }

    /// The most output tokens that the model takes.
    #[must_use]
    pub fn max_output(mut self, tokens: u64) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// The most output tokens that the request may ask for, whatever the client asked for.
    #[must_use]
    pub fn limit(mut self, tokens: impl Into<Option<u64>>) -> Self {
        self.limit = tokens.into();
        self
    }

    /// What becomes of what the other API cannot say.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The version of an Anthropic upstream.
    #[must_use]
    pub fn version(mut self, version: AnthropicVersion) -> Self {
        self.version = version;
        self
    }

    /// Whether the provider may run tools of its own. A model may pause over them: [`answer`](super::answer()) and
    /// [`StreamTranslator`](super::StreamTranslator) end as if it had run out of tokens then, and the layers ask it to go on.
    #[must_use]
    pub fn server_tools(mut self, allowed: bool) -> Self {
        self.server_tools = allowed;
        self
    }

    /// Whether Anthropic leaves out thinking that no longer fits the history before it, where it would refuse the request.
    /// It takes a [beta](Translated::beta).
    #[must_use]
    pub fn drops_stale_thinking(mut self, drops: bool) -> Self {
        self.drops_stale_thinking = drops;
        self
    }

    /// The session that the request is a part of: OpenAI is told a hash of it, as what its cache goes by (`prompt_cache_key`).
    /// Where there is none, that is the user.
    #[must_use]
    pub fn session(mut self, id: impl Into<Option<&'a str>>) -> Self {
        self.session = id.into();
        self
    }
}

/// A request in the upstream's dialect.
#[derive(Clone)]
#[non_exhaustive]
pub struct Translated {
    /// The JSON.
    pub body: Bytes,
    /// What was lost: the value of `x-tollgate-warnings`, if there is anything to say.
    pub warnings: Option<String>,
    /// What `anthropic-beta` must say for the request to be understood, if it must say anything.
    pub beta: Option<&'static str>,
    /// What the answer must be made to fit: goes into the [`Reply`](super::Reply).
    pub(crate) needs: Needs,
    /// The client wants the usage chunk of a Chat Completions stream.
    include_usage: bool,
    /// The client only wants its prompt to be cached, and no output.
    pub(crate) wants_nothing: bool,
}

/// Not the prompt.
impl fmt::Debug for Translated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translated")
            .field("bytes", &self.body.len())
            .field("warnings", &self.warnings)
            .field("beta", &self.beta)
            .finish_non_exhaustive()
    }
}

impl Translated {
    /// The answer to this request, as `reply` has it, made to fit what the client asked for.
    #[must_use]
    pub fn reply(&self, mut reply: super::Reply) -> super::Reply {
        reply.needs = self.needs.clone();
        reply.include_usage |= self.include_usage;
        reply
    }
}

/// Translates a request. The same request is translated alike each time, and a conversation that goes on begins as it did.
///
/// # Errors
/// What is wrong with the request, or what the upstream's API has no way to say; it names the path of the field.
pub fn request(body: &[u8], client: Dialect, upstream: Dialect, asked: &Asked<'_>) -> Result<Translated, Rejection> {
    let mut tape = Tape::default();
    let root = std::str::from_utf8(body).ok().and_then(|text| tape.read(text, Limits::default().depth));
    let Some(root) = root.filter(|root| root.is_object()) else {
        // Read once more for what is wrong with it.
        let why = json::index(body, &[], Limits::default()).map_or_else(|error| error.to_string(), |_| String::new());
        return Err(Rejection::new(RejectionKind::InvalidRequest, format!("request body: {why}")));
    };
    let mut warnings = Warnings::new(asked.mode);
    let conversation = match client {
        Dialect::Anthropic => anthropic::request::read(root, &mut warnings)?,
        Dialect::OpenAiChat => openai_chat::request::read(root, &mut warnings)?,
        Dialect::OpenAiResponses => return Err(impossible(client, upstream)),
    };
    if conversation.search.is_some() && !asked.server_tools {
        return Err(unsupported("web_search_options"));
    }
    let mut abilities = asked.abilities.unwrap_or_else(|| Abilities::of(asked.model, upstream));
    if upstream == Dialect::Anthropic && asked.version == AnthropicVersion::V2026_10_21 {
        abilities.sampling = Sampling::None;
    }
    let aim = Aim {
        model: asked.model,
        abilities,
        max_output: asked.max_output.unwrap_or(u64::MAX),
        limit: asked.limit,
        drops_stale_thinking: asked.drops_stale_thinking,
        session: asked.session,
        size: body.len() + body.len() / 8 + 256,
    };
    let (wants_nothing, include_usage) = (conversation.max_tokens == Some(0), conversation.include_usage);
    let mut needs = Needs { is_silent: asked.mode == Mode::Silent, ..Needs::default() };
    let body = match upstream {
        Dialect::Anthropic => anthropic::request::write(conversation, &aim, &mut needs, &mut warnings)?,
        Dialect::OpenAiChat => openai_chat::request::write(conversation, &aim, &mut needs, &mut warnings)?,
        Dialect::OpenAiResponses => return Err(impossible(client, upstream)),
    };
    let (warnings, beta) = (warnings.header(), needs.beta);
    Ok(Translated { body: body.into(), warnings, beta, needs, include_usage, wants_nothing })
}

fn impossible(client: Dialect, upstream: Dialect) -> Rejection {
    Rejection::new(RejectionKind::Unsupported, format!("{client} cannot be translated to {upstream} yet"))
}
