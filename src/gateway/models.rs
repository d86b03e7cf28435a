use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::dialect::Dialect;

/// A model as `GET /v1/models` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    id: Cow<'static, str>,
    owner: Cow<'static, str>,
    dialect: Dialect,
}

impl Model {
    /// A model of Anthropic's.
    pub fn anthropic(id: impl Into<Cow<'static, str>>) -> Self {
        Model { id: id.into(), owner: Cow::Borrowed("anthropic"), dialect: Dialect::Anthropic }
    }

    /// A model that speaks Chat Completions.
    pub fn openai(id: impl Into<Cow<'static, str>>) -> Self {
        Model { id: id.into(), owner: Cow::Borrowed("openai"), dialect: Dialect::OpenAiChat }
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

    /// One entry, with the members of both families: `type`, `display_name`, `created_at` for Anthropic's SDKs, `object`,
    /// `created`, `owned_by` for OpenAI's. Both ignore the others'.
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            id: &self.id,
            r#type: "model",
            object: "model",
            display_name: &self.id,
            created: 0,
            created_at: Timestamp::UNIX_EPOCH.to_string(),
            owned_by: &self.owner,
        }
    }
}

/// Which part of the list a query asks for. Source: platform.claude.com/docs/en/api/models-list.
#[derive(Debug, Default)]
pub(super) struct Paging<'a> {
    limit: Option<usize>,
    after: Option<&'a str>,
    before: Option<&'a str>,
}

impl<'a> Paging<'a> {
    /// Of several values the last counts; what does not parse is as good as absent. OpenAI's clients send no paging at
    /// all.
    pub(super) fn of(query: Option<&'a str>) -> Self {
        query.unwrap_or("").split('&').fold(Paging::default(), |paging, pair| match pair.split_once('=') {
            Some(("limit", n)) => Paging { limit: n.parse().ok().filter(|n| *n > 0), ..paging },
            Some(("after_id", id)) => Paging { after: Some(id), ..paging },
            Some(("before_id", id)) => Paging { before: Some(id), ..paging },
            _ => paging,
        })
    }
}

/// The list that both SDK families parse.
pub(super) fn list<'a>(models: impl Iterator<Item = &'a Model>, paging: &Paging<'_>) -> Bytes {
    let models: Vec<&Model> = models.collect();
    let at = |id: Option<&str>| id.and_then(|id| models.iter().position(|model| model.id() == id));
    let start = at(paging.after).map_or(0, |i| i + 1);
    let end = at(paging.before).unwrap_or(models.len()).max(start);
    let (rest, limit) = (&models[start..end], paging.limit.unwrap_or(models.len()));
    let shown = match paging.before {
        // Backwards: the page that ends before that id.
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
    /// RFC 3339; the epoch, which Anthropic's API documents for a date that is not known.
    created_at: String,
    owned_by: &'a str,
}
