//! What a budget or a limit applies to.
//!
//! Reach for it when you give a key its budgets: a budget of the scope `team` is one pot for all keys that name it.
//!
//! ```
//! use tollgate::domain::scope::Scope;
//! assert_eq!(Scope::team("search").to_string(), "team search");
//! ```

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalog::undated;
use super::pattern;

/// One key, user, team or organisation; one provider, some models; one tag; or everyone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// Which sort of thing it is.
    pub kind: ScopeKind,
    /// Which one of them.
    pub id: Arc<str>,
}

/// The sorts of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScopeKind {
    /// One virtual key, by its id, which outlives its secret.
    Key,
    /// A user, over all of their keys.
    User,
    /// A team.
    Team,
    /// An organisation.
    Org,
    /// A model, with and without a date behind its name, or those whose names start so: `claude-opus-*`. A call counts that
    /// asks for one, or may be served by one.
    Model,
    /// A provider, by the name of its upstream. A call counts that may be served by it, which only a route can tell: without
    /// one it is refused.
    Provider,
    /// All that is sorted under a word.
    Tag,
    /// Everyone.
    Global,
}

impl Scope {
    /// The key of this id; for what is kept for everyone, its name will do.
    pub fn key(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Key, id: id.into() }
    }

    /// The user of this name.
    pub fn user(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::User, id: id.into() }
    }

    /// The team of this name.
    pub fn team(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Team, id: id.into() }
    }

    /// The organisation of this name.
    pub fn org(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Org, id: id.into() }
    }

    /// The model of this name, or those whose names start so, with a `*` behind.
    pub fn model(pattern: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Model, id: pattern.into() }
    }

    /// The provider whose upstream has this name.
    pub fn provider(upstream: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Provider, id: upstream.into() }
    }

    /// The tag of this name.
    pub fn tag(tag: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Tag, id: tag.into() }
    }

    /// Everyone who goes through the store.
    #[must_use]
    pub fn global() -> Self {
        Scope { kind: ScopeKind::Global, id: "".into() }
    }

    /// Which one of its kind, as a caller is shown it.
    pub(crate) fn shown_id(&self) -> &str {
        match self.kind {
            ScopeKind::Global => "everyone",
            _ => &self.id,
        }
    }

    /// As whoever runs the gateway is told of it: a key by its name, if that is known, and by its id.
    pub(crate) fn by_name<'a>(&'a self, key_name: Option<&'a str>) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match (self.kind, key_name) {
            (ScopeKind::Key, Some(name)) if *name != *self.id => write!(f, "key {name} ({})", self.id),
            (ScopeKind::Key, _) => write!(f, "key {}", self.id),
            _ => fmt::Display::fmt(self, f),
        })
    }

    /// Whether `name` is this one's, or one of those.
    pub(crate) fn names(&self, name: &str) -> bool {
        match self.kind {
            // A model by any of its names: a date behind it takes nobody out of what bounds it.
            ScopeKind::Model => {
                pattern::matches(&self.id, name)
                    || undated(name).is_some_and(|undated| pattern::matches(&self.id, undated))
            }
            _ => *self.id == *name,
        }
    }
}

impl ScopeKind {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ScopeKind::Key => "key",
            ScopeKind::User => "user",
            ScopeKind::Team => "team",
            ScopeKind::Org => "org",
            ScopeKind::Model => "model",
            ScopeKind::Provider => "provider",
            ScopeKind::Tag => "tag",
            ScopeKind::Global => "global",
        }
    }

    /// Whether it is about whoever calls: what all of them spend there is no single caller's to know.
    pub(crate) fn is_everyones(self) -> bool {
        matches!(self, ScopeKind::Model | ScopeKind::Provider | ScopeKind::Global)
    }
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As a message names it. A key is "this key": its id says nothing to whoever holds it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ScopeKind::Key => f.write_str("this key"),
            ScopeKind::Global => f.write_str("this gateway"),
            kind => write!(f, "{kind} {}", self.id),
        }
    }
}
