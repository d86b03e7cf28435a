//! Which API a peer speaks, and which of its operations a path names.
//!
//! Use it if a service of yours must answer in the client's own format. The path decides the dialect: since 2026-10
//! both SDK families send `Authorization: Bearer`, so the credential does not tell them apart. For paths that both
//! families have, such as `/v1/models`, the layers also look for an `anthropic-version` header.
//!
//! ```
//! use tollgate::domain::dialect::{Dialect, Endpoint, Operation};
//! let endpoint = Endpoint::of("/v1/messages");
//! assert_eq!((endpoint.dialect, endpoint.operation), (Dialect::Anthropic, Operation::Generate));
//! ```

mod spelling;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The API that a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dialect {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions.
    #[serde(rename = "openai_chat", alias = "open_ai_chat")]
    OpenAiChat,
    /// OpenAI Responses.
    #[serde(rename = "openai_responses", alias = "open_ai_responses")]
    OpenAiResponses,
}

impl Dialect {
    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Anthropic => "anthropic",
            Dialect::OpenAiChat => "openai_chat",
            Dialect::OpenAiResponses => "openai_responses",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Anthropic => "Anthropic Messages",
            Dialect::OpenAiChat => "OpenAI Chat Completions",
            Dialect::OpenAiResponses => "OpenAI Responses",
        })
    }
}

/// The operation that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// A generation: `POST /v1/messages`, `/v1/chat/completions`, `/v1/responses`.
    Generate,
    /// `POST /v1/messages/count_tokens`: counts tokens, and produces none.
    CountTokens,
    /// `GET /v1/models`, and `GET /v1/models/{id}`.
    ListModels,
    /// `GET /v1/key`: what the caller's own key may do, and how it stands.
    KeyInfo,
    /// `GET /api/oauth/usage`: how the caller's budgets stand, in the form that Claude Code shows.
    Usage,
    /// Anything else. Its dialect only decides the format of errors.
    Other,
}

impl Operation {
    /// The name in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Generate => "generate",
            Operation::CountTokens => "count_tokens",
            Operation::ListModels => "list_models",
            Operation::KeyInfo => "key_info",
            Operation::Usage => "usage",
            Operation::Other => "other",
        }
    }
}

/// A dialect and an operation of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The API that the client speaks.
    pub dialect: Dialect,
    /// The operation that it asks for.
    pub operation: Operation,
}

impl Endpoint {
    /// Reads a path (without a query). It may have `/v1` or not, and may be below `/anthropic` or `/openai`, as clients
    /// build it. It may have `/v1` twice: some clients add it to a base URL that has it already.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let (named, rest) = (Endpoint::family(path), Endpoint::below_family(path));
        let rest = Endpoint::below_version(rest);
        // For paths that both families have, if no prefix decides.
        let family = named.unwrap_or(Dialect::OpenAiChat);
        let is_anthropics = |rest| named.map_or_else(|| anthropic_only(rest), |named| named == Dialect::Anthropic);
        let (dialect, operation) = match rest.strip_suffix('/').unwrap_or(rest) {
            "/messages" => (Dialect::Anthropic, Operation::Generate),
            "/messages/count_tokens" => (Dialect::Anthropic, Operation::CountTokens),
            "/chat/completions" => (Dialect::OpenAiChat, Operation::Generate),
            "/responses" => (Dialect::OpenAiResponses, Operation::Generate),
            "/key" => (family, Operation::KeyInfo),
            "/api/oauth/usage" => (Dialect::Anthropic, Operation::Usage),
            other if prefix(other, "/models").is_some() => (family, Operation::ListModels),
            other if is_anthropics(other) => (Dialect::Anthropic, Operation::Other),
            other if prefix(other, "/responses").is_some() => (Dialect::OpenAiResponses, Operation::Other),
            _ => (Dialect::OpenAiChat, Operation::Other),
        };
        Endpoint { dialect, operation }
    }

    /// The path without the prefix of a family, if it has one.
    pub(crate) fn below_family(path: &str) -> &str {
        prefix(path, "/anthropic").or_else(|| prefix(path, "/openai")).unwrap_or(path)
    }

    /// The path without its version, which may be there twice.
    pub(crate) fn below_version(path: &str) -> &str {
        let once = prefix(path, "/v1").unwrap_or(path);
        prefix(once, "/v1").unwrap_or(once)
    }

    /// The family whose prefix the path has, if any. It decides the format of a 404.
    pub(crate) fn family(path: &str) -> Option<Dialect> {
        let of = |name, dialect| prefix(path, name).map(|_| dialect);
        of("/anthropic", Dialect::Anthropic).or_else(|| of("/openai", Dialect::OpenAiChat))
    }

    /// Whether an unknown path ends like a known one, so that it is probably a known path behind a mount prefix.
    pub(crate) fn is_behind_a_prefix(path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        ["/v1/messages", "/v1/messages/count_tokens", "/chat/completions", "/v1/responses"]
            .iter()
            .any(|end| path.ends_with(end))
            && Endpoint::of(path).operation == Operation::Other
    }

    /// Whether requests carry a JSON body that names a model.
    #[must_use]
    pub fn has_head(self) -> bool {
        matches!(self.operation, Operation::Generate | Operation::CountTokens)
    }

    /// The path of this endpoint at the provider, below its base URL; `None` if tollgate calls no such endpoint.
    #[must_use]
    pub fn upstream_path(self) -> Option<&'static str> {
        Some(match (self.dialect, self.operation) {
            (Dialect::Anthropic, Operation::Generate) => "/v1/messages",
            (Dialect::Anthropic, Operation::CountTokens) => "/v1/messages/count_tokens",
            (Dialect::OpenAiChat, Operation::Generate) => "/v1/chat/completions",
            (Dialect::OpenAiResponses, Operation::Generate) => "/v1/responses",
            _ => return None,
        })
    }
}

/// Paths that only Anthropic clients ask for, so that they get a 404 in Anthropic's format even without a prefix. Those
/// below `/api` are Claude Code's.
fn anthropic_only(path: &str) -> bool {
    ["/messages", "/complete", "/api/hello", "/api/oauth", "/api/event_logging"]
        .iter()
        .any(|p| prefix(path, p).is_some())
        || path.starts_with("/api/claude_")
}

/// What follows `prefix`, if `prefix` ends at a path segment.
fn prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Dialect::*, Endpoint, Operation::*};

    #[test]
    fn a_dialect_is_read_by_its_name_and_by_the_one_that_records_had_before() {
        for (names, dialect) in [
            (&["anthropic"][..], Anthropic),
            (&["openai_chat", "open_ai_chat"], OpenAiChat),
            (&["openai_responses", "open_ai_responses"], OpenAiResponses),
        ] {
            for name in names {
                let read: Dialect = serde_json::from_value((*name).into()).expect(name);
                assert_eq!(read, dialect);
            }
            assert_eq!(serde_json::to_value(dialect).expect("a word"), dialect.as_str());
        }
    }

    #[test]
    fn a_path_behind_a_prefix_that_is_not_ours_is_told_from_one_of_something_else() {
        for (path, is_behind) in [
            ("/llm/v1/messages", true),
            ("/llm/v1/messages/", true),
            ("/llm/v1/messages/count_tokens", true),
            ("/a/b/chat/completions", true),
            ("/llm/v1/responses", true),
            ("/v1/messages", false),
            ("/openai/v1/chat/completions", false),
            ("/rooms/7/messages", false),
            ("/surveys/responses", false),
            ("/healthz", false),
            ("/", false),
        ] {
            assert_eq!(Endpoint::is_behind_a_prefix(path), is_behind, "{path}");
        }
    }

    #[test]
    fn a_path_names_the_dialect_with_or_without_its_prefixes() {
        for (path, dialect, operation) in [
            ("/v1/messages", Anthropic, Generate),
            ("/messages/", Anthropic, Generate),
            ("/v1/v1/messages", Anthropic, Generate),
            ("/v1/v1/models", OpenAiChat, ListModels),
            ("/v1/v1/v1/messages", OpenAiChat, Other),
            ("/v1x/v1/messages", OpenAiChat, Other),
            ("/anthropic/v1/messages", Anthropic, Generate),
            ("/v1/messages/count_tokens", Anthropic, CountTokens),
            ("/v1/messages/batches", Anthropic, Other),
            ("/v1/messagesx", OpenAiChat, Other),
            ("/v1/chat/completions", OpenAiChat, Generate),
            ("/chat/completions", OpenAiChat, Generate),
            ("/openai/v1/chat/completions", OpenAiChat, Generate),
            ("/v1/responses", OpenAiResponses, Generate),
            ("/v1/responses/resp_1", OpenAiResponses, Other),
            ("/v1/models", OpenAiChat, ListModels),
            ("/anthropic/v1/models", Anthropic, ListModels),
            ("/v1/models/gpt-6", OpenAiChat, ListModels),
            ("/anthropic/models/claude-x/", Anthropic, ListModels),
            ("/v1/models//", OpenAiChat, ListModels),
            ("/v1/modelsx", OpenAiChat, Other),
            ("/v1/key", OpenAiChat, KeyInfo),
            ("/v1/embeddings", OpenAiChat, Other),
            ("/", OpenAiChat, Other),
            ("/api/hello", Anthropic, Other),
            ("/api/oauth/usage", Anthropic, Usage),
            ("/anthropic/api/oauth/usage/", Anthropic, Usage),
            ("/api/oauth/profile", Anthropic, Other),
            ("/api/event_logging/batch", Anthropic, Other),
            ("/api/claude_code/settings", Anthropic, Other),
            ("/api/claude_cli/bootstrap", Anthropic, Other),
            ("/api/tags", OpenAiChat, Other),
            ("/anthropicx/v1/models", OpenAiChat, Other),
            ("/anthropic/v1/embeddings", Anthropic, Other),
            ("/anthropic/v1/responses/resp_1", Anthropic, Other),
            ("/openai/v1/messages/batches", OpenAiChat, Other),
            ("/openai/v1/complete", OpenAiChat, Other),
            ("/openai/api/oauth/x", OpenAiChat, Other),
            ("/openai/v1/responses/resp_1", OpenAiResponses, Other),
        ] {
            assert_eq!(Endpoint::of(path), Endpoint { dialect, operation }, "{path}");
        }
    }
}
