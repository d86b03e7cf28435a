use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::domain::dialect::Dialect;
use crate::domain::principal::Principal;

/// A model as listed by `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    id: Cow<'static, str>,
    owner: Cow<'static, str>,
    dialect: Dialect,
}

impl Model {
    /// Creates a model that is served in Anthropic's dialect, owned by `anthropic`.
    pub fn anthropic(id: impl Into<Cow<'static, str>>) -> Self {
        Model { id: id.into(), owner: Cow::Borrowed("anthropic"), dialect: Dialect::Anthropic }
    }

    /// Creates a model that is served in Chat Completions, owned by `openai`.
    pub fn openai(id: impl Into<Cow<'static, str>>) -> Self {
        Model { id: id.into(), owner: Cow::Borrowed("openai"), dialect: Dialect::OpenAiChat }
    }

    /// An alias for a model served in that dialect.
    fn alias(name: &str, dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Model::anthropic(name.to_owned()),
            _ => Model::openai(name.to_owned()),
        }
    }

    /// The name that clients ask for.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The dialect in which it is served.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// One list entry with the members that both SDK families expect: `type`, `display_name`, `created_at`, `lifecycle`
    /// for Anthropic's, and `object`, `created`, `owned_by` for OpenAI's. Each ignores the other's members.
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            id: &self.id,
            r#type: "model",
            object: "model",
            display_name: &self.id,
            created: 0,
            created_at: Timestamp::UNIX_EPOCH.to_string(),
            lifecycle: "active",
            owned_by: &self.owner,
        }
    }
}

/// The full list: the host's models in the host's order, then the aliases that can be routed. Each name appears once.
pub(super) fn listed(models: Vec<Model>, aliases: Vec<(Arc<str>, Dialect)>) -> Vec<Model> {
    let aliases = aliases.into_iter().map(|(name, dialect)| Model::alias(&name, dialect));
    let mut known = HashSet::new();
    models.into_iter().chain(aliases).filter(|model| known.insert(model.id().to_owned())).collect()
}

/// The listed models that the caller may use, then the caller's own aliases.
pub(super) fn shown<'a>(listed: &'a [Model], principal: Option<&Principal>) -> Vec<Cow<'a, Model>> {
    let Some(principal) = principal else { return listed.iter().map(Cow::Borrowed).collect() };
    let find = |id: &str| listed.iter().find(|model| model.id() == id);
    // The caller's own alias takes precedence over a listed name.
    let may_use = |id: &str| principal.may_use(principal.aliases.get(id).map_or(id, |model| model));
    let theirs = principal.aliases.iter().filter(|(name, _)| find(name).is_none() && may_use(name));
    let theirs = theirs.map(|(name, model)| {
        let guess = if model.starts_with("claude") { Dialect::Anthropic } else { Dialect::OpenAiChat };
        Cow::Owned(Model::alias(name, find(model).map_or(guess, Model::dialect)))
    });
    let listed = listed.iter().filter(|model| may_use(model.id())).map(Cow::Borrowed);
    listed.chain(theirs).collect()
}

/// The part of the list that a query asks for. Source: platform.claude.com/docs/en/api/models-list.
#[derive(Debug, Default)]
pub(super) struct Paging<'a> {
    limit: Option<usize>,
    after: Option<Cow<'a, str>>,
    before: Option<Cow<'a, str>>,
}

impl<'a> Paging<'a> {
    /// If a parameter is repeated, the last value counts. A value that is empty or does not parse is ignored. OpenAI's
    /// clients send no paging parameters.
    pub(super) fn of(query: Option<&'a str>) -> Self {
        query.unwrap_or("").split('&').fold(Paging::default(), |paging, pair| {
            let Some((name, value)) = pair.split_once('=') else { return paging };
            // Clients encode the colon in the names of Bedrock's models.
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "limit" => Paging { limit: value.parse().ok().filter(|n| *n > 0), ..paging },
                "after_id" => Paging { after: Some(value).filter(|id| !id.is_empty()), ..paging },
                "before_id" => Paging { before: Some(value).filter(|id| !id.is_empty()), ..paging },
                _ => paging,
            }
        })
    }
}

/// The list that both SDK families parse.
pub(super) fn list(models: &[Cow<'_, Model>], paging: &Paging<'_>) -> Bytes {
    // An unknown id gives an empty page: with the first page instead, a client would page for ever.
    let at = |id: &str| models.iter().position(|model| model.id() == id);
    let start = paging.after.as_ref().map_or(0, |id| at(id).map_or(models.len(), |i| i + 1));
    let end = paging.before.as_ref().map_or(models.len(), |id| at(id).unwrap_or(0)).max(start);
    let (rest, limit) = (&models[start..end], paging.limit.unwrap_or(models.len()));
    let shown = match paging.before {
        // Backwards: the page that ends before `before_id`.
        Some(_) => &rest[rest.len().saturating_sub(limit)..],
        None => &rest[..limit.min(rest.len())],
    };
    let page = Page {
        object: "list",
        data: shown.iter().map(|model| model.entry()).collect(),
        has_more: shown.len() < rest.len(),
        first_id: shown.first().map(|model| model.id()),
        last_id: shown.last().map(|model| model.id()),
    };
    serde_json::to_vec(&page).unwrap_or_default().into()
}

#[derive(Serialize)]
struct Page<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Entry<'a> {
    id: &'a str,
    r#type: &'static str,
    object: &'static str,
    display_name: &'a str,
    created: i64,
    /// RFC 3339. Always the epoch, which Anthropic's API documents for an unknown date.
    created_at: String,
    /// Every listed model is served, so this is always `active`.
    lifecycle: &'static str,
    owned_by: &'a str,
}
