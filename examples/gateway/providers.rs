//! Reads the providers from the environment.

use std::env::{self, VarError};
use std::error::Error;
use std::net::SocketAddr;

use tollgate::Dialect;
use tollgate::gateway::{GatewayBuilder, Model};
use tollgate::testing::Simulated;
use tollgate::upstream::{HttpClient, Provider, ProviderError};

/// The gateway with the providers that the environment names.
pub(crate) struct Providers {
    pub(crate) gateway: GatewayBuilder,
    pub(crate) answers: Answers,
}

/// Which providers answer, and with which models.
pub(crate) struct Answers {
    /// No provider is configured, so a simulated one answers.
    pub(crate) simulated: bool,
    /// A model that is certainly served. The models of a local server are not known.
    pub(crate) model: Option<&'static str>,
    /// Whether Claude's models are served under their own names, which Claude Code requests by default.
    pub(crate) claude: bool,
    /// The variables for keys and base URLs that are set but empty.
    pub(crate) empty: Vec<&'static str>,
}

/// The names of the variables for a provider's key and its base URL.
type Names = [&'static str; 2];

const ANTHROPIC: Names = ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"];
const OPENAI: Names = ["OPENAI_API_KEY", "OPENAI_BASE_URL"];

const CLAUDE: [&str; 4] = ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5-1"];
/// Every model listed here has a price. A key with a budget cannot call a model without one.
const GPT: [&str; 3] = ["gpt-6-sol", "gpt-5", "gpt-5-mini"];

pub(crate) fn from_environment(mut gateway: GatewayBuilder, listener: SocketAddr) -> Result<Providers, Box<dyn Error>> {
    let anthropic = configured(ANTHROPIC)?;
    let openai = configured(OPENAI)?;
    let simulated = anthropic.is_none() && openai.is_none();
    let claude = simulated || anthropic.is_some();
    // A server that needs no key is the operator's own, and has other models.
    let gpt = simulated || openai.as_ref().is_some_and(|(key, _)| !key.is_empty());

    if let Some((key, base)) = anthropic {
        let provider = at(keyed(Provider::anthropic(&key), ANTHROPIC)?, base.as_deref(), ANTHROPIC, listener)?;
        gateway = gateway.upstream("anthropic", Dialect::Anthropic, provider).models(CLAUDE.map(Model::anthropic));
    }
    if let Some((key, base)) = openai {
        let provider = at(keyed(Provider::openai(&key), OPENAI)?, base.as_deref(), OPENAI, listener)?;
        gateway = gateway.upstream("openai", Dialect::OpenAiChat, provider);
        if gpt {
            gateway = gateway.models(GPT.map(Model::openai));
        }
    }
    if simulated {
        let provider = |dialect| Provider::with_client(dialect, "http://simulated.invalid", None, Simulated::new());
        gateway = gateway
            .upstream("anthropic", Dialect::Anthropic, provider(Dialect::Anthropic)?)
            .upstream("openai", Dialect::OpenAiChat, provider(Dialect::OpenAiChat)?)
            .models(CLAUDE.map(Model::anthropic))
            .models(GPT.map(Model::openai));
    }
    let model = if claude { Some("claude-haiku-5-5") } else { gpt.then_some("gpt-5-mini") };
    let mut empty = Vec::new();
    for name in ANTHROPIC.into_iter().chain(OPENAI) {
        empty.extend(said(name)?.is_some_and(|value| value.is_empty()).then_some(name));
    }
    Ok(Providers { gateway, answers: Answers { simulated, model, claude, empty } })
}

/// The key and the base URL of one provider. Either one configures it, since a local server needs no key.
fn configured([key, base]: Names) -> Result<Option<(String, Option<String>)>, String> {
    let set = |name| said(name).map(|value| value.filter(|value| !value.is_empty()));
    Ok(match (set(key)?, set(base)?) {
        (None, None) => None,
        (key, base) => Some((key.unwrap_or_default(), base)),
    })
}

/// Reads an environment variable. A value that is not UTF-8 is an error, since whoever set it meant something by it.
pub(crate) fn said(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("{name}: the value is not UTF-8 text")),
    }
}

fn keyed(
    provider: Result<Provider<HttpClient>, ProviderError>,
    [key, _]: Names,
) -> Result<Provider<HttpClient>, String> {
    provider.map_err(|error| format!("{key}: {error}"))
}

fn at(
    provider: Provider<HttpClient>,
    base: Option<&str>,
    [_, variable]: Names,
    listener: SocketAddr,
) -> Result<Provider<HttpClient>, Box<dyn Error>> {
    let Some(base) = base else { return Ok(provider) };
    let provider = provider.base_url(base).map_err(|error| format!("{variable}: {error}"))?;
    // A name that does not resolve yet is accepted, since it may resolve later. A loop is refused.
    if provider.points_at(listener).unwrap_or(false) {
        return Err(format!("{variable}: {base} is this gateway itself").into());
    }
    Ok(provider)
}
