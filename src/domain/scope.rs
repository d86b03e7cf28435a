//! What a budget or a limit applies to.
//!
//! Use it to give a key its budgets: a budget of the scope `team` is one pot for all keys that have this budget.
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

/// A key, a user, a team, an organisation, a model, a provider, a tag, or everyone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The kind of scope.
    pub kind: ScopeKind,
    /// Which one of that kind.
    pub id: Arc<str>,
}

/// The kinds of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScopeKind {
    /// One virtual key, by its id, which outlives its secret.
    Key,
    /// A user, across all of their keys.
    User,
    /// A team.
    Team,
    /// An organisation.
    Org,
    /// A model, by its name with or without a date, or all models whose names start so: `claude-opus-*`. Calls count
    /// that ask for such a model, or may be served by one.
    Model,
    /// A provider, by the name of its upstream. Calls count that may be served by it. Only a route can tell that; a
    /// call without a route is refused.
    Provider,
    /// All callers with this tag.
    Tag,
    /// Everyone.
    Global,
}

impl Scope {
    /// The key with this id. In rules for everyone its name works too.
    pub fn key(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Key, id: id.into() }
    }

    /// The user with this name.
    pub fn user(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::User, id: id.into() }
    }

    /// The team with this name.
    pub fn team(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Team, id: id.into() }
    }

    /// The organisation with this name.
    pub fn org(id: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Org, id: id.into() }
    }

    /// The model with this name; with a `*` at the end, all models whose names start so.
    pub fn model(pattern: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Model, id: pattern.into() }
    }

    /// The provider whose upstream has this name.
    pub fn provider(upstream: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Provider, id: upstream.into() }
    }

    /// The tag with this name.
    pub fn tag(tag: impl Into<Arc<str>>) -> Self {
        Scope { kind: ScopeKind::Tag, id: tag.into() }
    }

    /// Everyone who uses the store.
    #[must_use]
    pub fn global() -> Self {
        Scope { kind: ScopeKind::Global, id: "".into() }
    }

    /// The id, as a caller sees it.
    pub(crate) fn shown_id(&self) -> &str {
        match self.kind {
            ScopeKind::Global => "everyone",
            _ => &self.id,
        }
    }

    /// For the operator: a key is shown by its name, if that is known, and its id.
    pub(crate) fn by_name<'a>(&'a self, key_name: Option<&'a str>) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match (self.kind, key_name) {
            (ScopeKind::Key, Some(name)) if *name != *self.id => write!(f, "key {name} ({})", self.id),
            (ScopeKind::Key, _) => write!(f, "key {}", self.id),
            _ => fmt::Display::fmt(self, f),
        })
    }

    /// Whether the scope covers `name`.
    pub(crate) fn names(&self, name: &str) -> bool {
        match self.kind {
            // A model by any of its names: a date after the name does not take a call out of its limits.
            ScopeKind::Model => {
                pattern::matches(&self.id, name)
                    || undated(name).is_some_and(|undated| pattern::matches(&self.id, undated))
            }
            _ => *self.id == *name,
        }
    }
}

impl ScopeKind {
    /// The name under which it is stored and shown.
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

    /// Whether the scope covers all callers: no single caller may see what all of them spend.
    pub(crate) fn is_everyones(self) -> bool {
        matches!(self, ScopeKind::Model | ScopeKind::Provider | ScopeKind::Global)
    }
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For messages to callers. A key is "this key", since its id says nothing to its holder.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ScopeKind::Key => f.write_str("this key"),
            ScopeKind::Global => f.write_str("this gateway"),
            kind => write!(f, "{kind} {}", self.id),
        }
    }
}
