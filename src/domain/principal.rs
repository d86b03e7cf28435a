//! The authenticated caller, and what they may do.
//!
//! Use it if your service already knows its users: put a `Principal` into the request's extensions, or an
//! `Arc<Principal>` that calls share (which counts where both are there), and no virtual key is required. A principal
//! carries everything that governs the caller, so stores hold no configuration. [`auth`](crate::auth) says what becomes
//! of a request without a principal.
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

/// The entry of a list that names no model: no model has this name.
const NO_MODEL: &str = "";

/// Who calls, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Principal {
    /// The id of the virtual key; `None` for a caller whom the host has authenticated itself.
    #[serde(skip)]
    pub key: Option<Uuid>,
    /// The name of the key, or of the caller. Without a key, the caller's own budgets and limits are counted under this
    /// name, so it must be unique and must not change.
    pub name: Arc<str>,
    /// The user that the key belongs to.
    #[serde(default)]
    pub user: Option<Arc<str>>,
    /// The team that the key belongs to.
    #[serde(default)]
    pub team: Option<Arc<str>>,
    /// The organisation that the key belongs to.
    #[serde(default)]
    pub org: Option<Arc<str>>,
    /// Tags for cost reports.
    #[serde(default)]
    pub tags: Vec<Arc<str>>,
    /// The models that may be asked for: names, or prefixes that end in `*`. Without any, all models are allowed. After
    /// [`models`](Self::models) with an empty list, none is.
    #[serde(default)]
    pub models: Vec<Arc<str>>,
    /// The caller's own names for models.
    #[serde(default)]
    pub aliases: BTreeMap<Arc<str>, Arc<str>>,
    /// The budgets that every call is paid from, all of them.
    #[serde(default)]
    pub budgets: Vec<Budget>,
    /// The limits that every call counts against, all of them.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// How much of the caller's prompts and answers is kept, if the stack keeps any; `None` for the stack's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Keep>,
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

    /// Sets the user.
    #[must_use]
    pub fn user(mut self, user: impl Into<Arc<str>>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the team.
    #[must_use]
    pub fn team(mut self, team: impl Into<Arc<str>>) -> Self {
        self.team = Some(team.into());
        self
    }

    /// Sets the organisation.
    #[must_use]
    pub fn org(mut self, org: impl Into<Arc<str>>) -> Self {
        self.org = Some(org.into());
        self
    }

    /// Adds a tag for cost reports.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Allows these models, and those of earlier calls, and no others. Each is a name, or a prefix that ends in `*`; a
    /// `*` anywhere else is a letter like any other. A caller who is given only an empty list may ask for no model.
    ///
    /// What counts is the name that the client sends, after the caller's own aliases. So a router's alias must be
    /// allowed by its own name, and then allows the models behind it.
    #[must_use]
    pub fn models<M: Into<Arc<str>>>(mut self, models: impl IntoIterator<Item = M>) -> Self {
        self.models.extend(models.into_iter().map(Into::into));
        if self.models.is_empty() {
            self.models.push(NO_MODEL.into());
        }
        self
    }

    /// Makes `name` this caller's name for `model`.
    #[must_use]
    pub fn alias(mut self, name: impl Into<Arc<str>>, model: impl Into<Arc<str>>) -> Self {
        self.aliases.insert(name.into(), model.into());
        self
    }

    /// Adds a budget of the caller's own. [`budget_of`](Self::budget_of) is for those it shares with others.
    #[must_use]
    pub fn budget(self, window: Window, limit: Money) -> Self {
        let own = self.own_scope();
        self.budget_of(Budget::new(own, window, limit))
    }

    /// Adds a budget with a scope of its own, for example that of its team.
    #[must_use]
    pub fn budget_of(mut self, budget: Budget) -> Self {
        self.budgets.push(budget);
        self
    }

    /// Adds a limit of the caller's own. [`limit_of`](Self::limit_of) is for those it shares with others.
    #[must_use]
    pub fn limit(self, measure: Measure, most: u64) -> Self {
        let own = self.own_scope();
        self.limit_of(Limit::new(own, measure, most))
    }

    /// Adds a limit with a scope of its own, for example that of its team.
    #[must_use]
    pub fn limit_of(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Sets how much of the caller's prompts and answers is kept, if the stack keeps any.
    #[must_use]
    pub fn content(mut self, keep: Keep) -> Self {
        self.content = Some(keep);
        self
    }

    /// Whether the caller may ask for `model`.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern::matches(pattern, model))
    }

    /// Whether a rule for everyone in `scope` applies to this caller. A key matches by its id or its name. Scopes of
    /// models and providers match every caller, since they are about the call.
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

    /// The model that the caller means by `name`.
    #[must_use]
    pub fn resolve<'a>(&'a self, name: &'a Arc<str>) -> &'a Arc<str> {
        self.aliases.get(name).unwrap_or(name)
    }

    /// The caller's own scope, and its name.
    pub(crate) fn own(&self) -> (Scope, Arc<str>) {
        (self.own_scope(), self.name.clone())
    }

    /// The caller's own scope: the id of the key, or the name if there is no key.
    fn own_scope(&self) -> Scope {
        match self.key {
            Some(id) => Scope::key(id.to_string()),
            None => Scope::key(self.name.clone()),
        }
    }

    /// Makes this the principal of a key: what was the caller's own becomes the key's.
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
