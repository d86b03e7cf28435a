//! The authenticated caller, and what they may.
//!
//! Reach for it when your service knows its users already: put an `Arc<Principal>` into the request's extensions, and no
//! virtual key is asked for. Everything that governs a caller travels with it, so stores hold no configuration.
//!
//! ```
//! use tollgate::domain::budget::Window;
//! use tollgate::domain::limit::Measure;
//! use tollgate::domain::principal::Principal;
//!
//! let ada = Principal::new("ada")
//!     .user("ada@example.com")
//!     .team("search")
//!     .models(["claude-*"])
//!     .limit(Measure::Requests, 60)
//!     .budget(Window::Day, "5".parse()?);
//! assert!(ada.may_use("claude-haiku-5-5") && !ada.may_use("gpt-6"));
//! # Ok::<(), tollgate::domain::money::MoneyError>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::budget::{Budget, Window};
use super::content::Keep;
use super::limit::{Limit, Measure};
use super::money::Money;
use super::pattern;
use super::scope::{Scope, ScopeKind};

/// What stands in a list that names nothing: no model is called so.
const NO_MODEL: &str = "";

/// Who calls, and what they may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Principal {
    /// The virtual key's id; `None` for a caller whom the host has authenticated itself.
    #[serde(skip)]
    pub key: Option<Uuid>,
    /// The name of the key, or of the caller. Where there is no key, what is the caller's own is counted under it: let it be
    /// one that no two have, and that stays the same.
    pub name: Arc<str>,
    /// Whose it is.
    pub user: Option<Arc<str>>,
    /// The team it belongs to.
    pub team: Option<Arc<str>>,
    /// The organisation it belongs to.
    pub org: Option<Arc<str>>,
    /// Words to sort costs by.
    pub tags: Vec<Arc<str>>,
    /// The models that may be asked for: names, and starts of names with a `*`. None named means all; whom
    /// [`models`](Self::models) has given an empty list, may ask for none.
    pub models: Vec<Arc<str>>,
    /// Names of this caller's own for models.
    pub aliases: BTreeMap<Arc<str>, Arc<str>>,
    /// The pots that every call is paid from, all of them.
    pub budgets: Vec<Budget>,
    /// The limits that every call counts against, all of them.
    pub limits: Vec<Limit>,
    /// How much is kept of what its calls hold, where the stack keeps any; `None` for as much as of everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Keep>,
}

impl Default for Principal {
    fn default() -> Self {
        Self::new("")
    }
}

impl Principal {
    /// A caller who may ask for every model, without a limit.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Principal {
            key: None,
            name: name.into(),
            user: None,
            team: None,
            org: None,
            tags: Vec::new(),
            models: Vec::new(),
            aliases: BTreeMap::new(),
            budgets: Vec::new(),
            limits: Vec::new(),
            content: None,
        }
    }

    /// Belongs to this user.
    #[must_use]
    pub fn user(mut self, user: impl Into<Arc<str>>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Belongs to this team.
    #[must_use]
    pub fn team(mut self, team: impl Into<Arc<str>>) -> Self {
        self.team = Some(team.into());
        self
    }

    /// Belongs to this organisation.
    #[must_use]
    pub fn org(mut self, org: impl Into<Arc<str>>) -> Self {
        self.org = Some(org.into());
        self
    }

    /// Sorted under this word too.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// May ask for these models too, names, or starts of names and a `*`, and for no others. An empty list is a list: who is
    /// given that alone may ask for none.
    #[must_use]
    pub fn models<M: Into<Arc<str>>>(mut self, models: impl IntoIterator<Item = M>) -> Self {
        self.models.extend(models.into_iter().map(Into::into));
        if self.models.is_empty() {
            self.models.push(NO_MODEL.into());
        }
        self
    }

    /// Calls `model` by this name.
    #[must_use]
    pub fn alias(mut self, name: impl Into<Arc<str>>, model: impl Into<Arc<str>>) -> Self {
        self.aliases.insert(name.into(), model.into());
        self
    }

    /// May spend this much of its own in each window. [`budget_of`](Self::budget_of) is for what it shares with others.
    #[must_use]
    pub fn budget(self, window: Window, limit: Money) -> Self {
        let own = self.own_scope();
        self.budget_of(Budget::new(own, window, limit))
    }

    /// Spends from this pot too: that of its team, for one.
    #[must_use]
    pub fn budget_of(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    /// May do this much itself. [`limit_of`](Self::limit_of) is for what it shares with others.
    #[must_use]
    pub fn limit(self, measure: Measure, most: u64) -> Self {
        let own = self.own_scope();
        self.limit_of(Limit::new(own, measure, most))
    }

    /// Counts against this limit too: that of its team, for one.
    #[must_use]
    pub fn limit_of(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// So much is kept of what its calls hold, where the stack keeps any.
    #[must_use]
    pub fn content(mut self, keep: Keep) -> Self {
        self.content = Some(keep);
        self
    }

    /// Whether it may ask for `model`.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern::matches(pattern, model))
    }

    /// Whether what is kept for everyone in `scope` is about this one: a key, by its id or its name. What a call is for, the
    /// scope of a model or of a provider, is about all who make it.
    #[must_use]
    pub fn is_in(&self, scope: &Scope) -> bool {
        let is = |own: &Option<Arc<str>>| own.as_deref().is_some_and(|own| scope.names(own));
        match scope.kind {
            ScopeKind::Key => self.own_scope() == *scope || scope.names(&self.name),
            ScopeKind::User => is(&self.user),
            ScopeKind::Team => is(&self.team),
            ScopeKind::Org => is(&self.org),
            ScopeKind::Tag => self.tags.iter().any(|tag| scope.names(tag)),
            ScopeKind::Model | ScopeKind::Provider | ScopeKind::Global => true,
        }
    }

    /// The model that it means by `name`.
    #[must_use]
    pub fn resolve<'a>(&'a self, name: &'a Arc<str>) -> &'a Arc<str> {
        self.aliases.get(name).unwrap_or(name)
    }

    /// Its own scope, and its name.
    pub(crate) fn own(&self) -> (Scope, Arc<str>) {
        (self.own_scope(), self.name.clone())
    }

    /// What is its own is kept under the key's id, or under its name where there is no key.
    fn own_scope(&self) -> Scope {
        match self.key {
            Some(id) => Scope::key(id.to_string()),
            None => Scope::key(self.name.clone()),
        }
    }

    /// As the holder of this key: what was its own is the key's.
    pub(crate) fn with_key(mut self, id: Uuid) -> Self {
        let before = self.own_scope();
        self.key = Some(id);
        let own = self.own_scope();
        let scopes =
            self.budgets.iter_mut().map(|b| &mut b.pot.scope).chain(self.limits.iter_mut().map(|l| &mut l.scope));
        for scope in scopes.filter(|scope| **scope == before) {
            *scope = own.clone();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Measure, Principal, Scope, Uuid, Window};

    #[test]
    fn a_name_is_exact_unless_it_ends_in_a_star() {
        let ada = Principal::new("ada").models(["claude-haiku-5-5", "gpt-*"]);
        assert!(ada.may_use("claude-haiku-5-5") && ada.may_use("gpt-6") && ada.may_use("gpt-"));
        assert!(!ada.may_use("claude-haiku-5-5-fast") && !ada.may_use("claude-opus-5-5") && !ada.may_use("GPT-6"));
        assert!(Principal::new("anyone").may_use("anything"));
        let nobody = Principal::new("nobody").models(Vec::<Arc<str>>::new());
        assert!(!nobody.may_use("claude-haiku-5-5") && !nobody.may_use("*"));
        assert!(nobody.models(["gpt-6"]).may_use("gpt-6"));
    }

    #[test]
    fn an_alias_is_the_callers_own() {
        let ada = Principal::new("ada").alias("fast", "claude-haiku-5-5");
        let (fast, slow): (Arc<str>, Arc<str>) = ("fast".into(), "slow".into());
        assert_eq!((&**ada.resolve(&fast), &**ada.resolve(&slow)), ("claude-haiku-5-5", "slow"));
    }

    #[test]
    fn what_is_its_own_is_kept_under_the_id_of_its_key() {
        let id = Uuid::now_v7();
        let limit = "5".parse().expect("an amount");
        let ada = Principal::new("ada").budget(Window::Day, limit).limit(Measure::Requests, 9).with_key(id);
        assert_eq!(ada.budgets[0].pot.scope, Scope::key(id.to_string()));
        assert_eq!(ada.limits[0].scope, Scope::key(id.to_string()));
        let stored = serde_json::to_string(&ada).expect("plain data");
        let read: Principal = serde_json::from_str(&stored).expect("as it was written");
        assert_eq!(read.with_key(id), ada);
    }
}
