use std::fmt;

use bytes::Bytes;

use crate::dialect::canon::needs::{Aim, Needs};
use crate::dialect::canon::warning::{Warnings, unsupported};
use crate::dialect::{anthropic, openai_chat};
use crate::domain::catalog::{Abilities, Sampling};
use crate::domain::dialect::Dialect;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::wire::json::{self, Limits, Tape};

/// What happens to parts of a request that the other API cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// They are left out or adapted, and the answer's `x-tollgate-warnings` header names them.
    #[default]
    Compat,
    /// The request is refused.
    Strict,
    /// They are left out or adapted, without notice.
    Silent,
}

/// The version of Anthropic's API for which requests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AnthropicVersion {
    /// `2023-06-01`.
    #[default]
    V2023_06_01,
    /// `2026-10-21`: no model accepts `temperature`, `top_p` or `top_k`.
    V2026_10_21,
}

impl AnthropicVersion {
    /// The value of the `anthropic-version` header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AnthropicVersion::V2023_06_01 => "2023-06-01",
            AnthropicVersion::V2026_10_21 => "2026-10-21",
        }
    }
}

/// The target of a translated request: the model, and what it accepts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Asked<'a> {
    /// The upstream's name for the model.
    pub model: &'a str,
    /// What the model accepts; derived from its name unless set.
    pub abilities: Option<Abilities>,
    /// The most output tokens of the model, if known.
    pub max_output: Option<u64>,
    /// The most output tokens that the layers allow, if they set a limit.
    pub limit: Option<u64>,
    /// What happens to parts that the other API cannot express.
    pub mode: Mode,
    /// The version of an Anthropic upstream.
    pub version: AnthropicVersion,
    /// Whether the provider may run its own tools (`web_search_options`), which cost more than tokens.
    pub server_tools: bool,
    /// Whether Anthropic leaves out thinking that no longer fits the history before it, instead of refusing the
    /// request.
    pub drops_stale_thinking: bool,
    /// The session that the request belongs to, if the client names one.
    pub session: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// A request for this model.
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

    /// Sets what the model accepts.
    #[must_use]
    pub fn abilities(mut self, abilities: Abilities) -> Self {
        self.abilities = Some(abilities);
        self
    }

    /// Sets the most output tokens of the model.
    #[must_use]
    pub fn max_output(mut self, tokens: u64) -> Self {
        self.max_output = Some(tokens);
        self
    }

    /// Sets the most output tokens that the request may ask for, whatever the client asked for.
    #[must_use]
    pub fn limit(mut self, tokens: impl Into<Option<u64>>) -> Self {
        self.limit = tokens.into();
        self
    }

    /// Sets what happens to parts that the other API cannot express.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the version of an Anthropic upstream.
    #[must_use]
    pub fn version(mut self, version: AnthropicVersion) -> Self {
        self.version = version;
        self
    }

    /// Sets whether the provider may run its own tools. A model may pause during them. Then [`answer`](super::answer())
    /// and [`StreamTranslator`](super::StreamTranslator) end as if it had run out of tokens; the layers ask it to
    /// continue.
    #[must_use]
    pub fn server_tools(mut self, allowed: bool) -> Self {
        self.server_tools = allowed;
        self
    }

    /// Sets whether Anthropic leaves out thinking that no longer fits the history before it, instead of refusing the
    /// request. It requires a [beta](Translated::beta).
    #[must_use]
    pub fn drops_stale_thinking(mut self, drops: bool) -> Self {
        self.drops_stale_thinking = drops;
        self
    }

    /// Sets the session that the request belongs to. A hash of it is sent to OpenAI as the key of its cache
    /// (`prompt_cache_key`). Without a session, the user serves as the key.
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
    /// The JSON body.
    pub body: Bytes,
    /// What was lost: the value of the `x-tollgate-warnings` header, if anything was.
    pub warnings: Option<String>,
    /// The required value of the `anthropic-beta` header, if any.
    pub beta: Option<&'static str>,
    /// How the answer must be adapted; it goes into the [`Reply`](super::Reply).
    pub(crate) needs: Needs,
    /// The client wants the usage chunk of a Chat Completions stream.
    include_usage: bool,
    /// The client only wants its prompt to be cached, and no output.
    pub(crate) wants_nothing: bool,
}

/// Without the prompt.
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
    /// The [`Reply`](super::Reply) for the answer to this request, adapted to what the client asked for.
    #[must_use]
    pub fn reply(&self, mut reply: super::Reply) -> super::Reply {
        reply.needs = self.needs.clone();
        reply.include_usage |= self.include_usage;
        reply
    }
}

/// Translates a request. The same request always gives the same translation, and the translation of a continued
/// conversation begins like the earlier one.
///
/// # Errors
/// When the request is invalid, or the upstream's API cannot express a part of it. The error names the path of the
/// field.
pub fn request(body: &[u8], client: Dialect, upstream: Dialect, asked: &Asked<'_>) -> Result<Translated, Rejection> {
    let mut tape = Tape::default();
    let root = std::str::from_utf8(body).ok().and_then(|text| tape.read(text, Limits::default().depth));
    let Some(root) = root.filter(|root| root.is_object()) else {
        // Scanned once more to find what is wrong with it.
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
