use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use serde::Serialize;

use super::usage::Usage;
use crate::body::Body;
use crate::call::{Call, Scoped, unavailable};
use crate::domain;
use crate::domain::budget::Window;
use crate::domain::dialect::Operation;
use crate::domain::money::Money;
use crate::domain::principal::Principal;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::budget::{self, BudgetStore};
use crate::store::rate_limit::{self, RateLimitStore};
use crate::store::{At, in_time};

/// Answers `GET /v1/key` (what the caller's own key may do, and its current usage) and `GET /api/oauth/usage`.
///
/// It shows nothing about other callers, nor the key itself, nor what everyone has spent together (unless
/// `shows_shared`).
#[derive(Clone, Default)]
pub(super) struct KeyInfo {
    pub(super) budgets: Option<Kept<dyn BudgetStore, domain::budget::Budget>>,
    pub(super) limits: Option<Kept<dyn RateLimitStore, domain::limit::Limit>>,
    /// Also shows the amounts of budgets that everyone shares.
    pub(super) shows_shared: bool,
}

/// A store, and the limits or budgets that it keeps for everyone.
type Kept<S, T> = (Arc<S>, Arc<[T]>);

impl KeyInfo {
    /// Whether this call is for us. In front of a host's own service, it is only if there is something to show.
    pub(super) fn answers(&self, call: &Call) -> bool {
        is_asked(call) && (call.principal().is_some() || self.governs())
    }

    fn governs(&self) -> bool {
        self.budgets.is_some() || self.limits.is_some()
    }

    pub(super) async fn answer(&self, method: &Method, call: &Call) -> Result<Response<Body>, Rejection> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Rejection::only("GET, HEAD"));
        }
        let principal = call
            .principal()
            .ok_or_else(|| Rejection::new(RejectionKind::NotFound, "this gateway does not use keys"))?;
        let budgets = match &self.budgets {
            Some((store, everyone)) => {
                let budgets = all(principal, &principal.budgets, everyone);
                in_time(store.standing(&budgets, At::Store)).await.map_err(|error| unavailable(&error))?
            }
            None => Vec::new(),
        };
        let is_told = |one: &budget::Standing| self.shows_shared || !one.budget.pot.scope.kind.is_everyones();
        let json = match (call.endpoint().operation, &self.limits) {
            (Operation::Usage, _) => serde_json::to_vec(&Usage::of(&budgets, is_told)),
            (_, None) => serde_json::to_vec(&Info::of(principal, &budgets, is_told, &[])),
            (_, Some((store, everyone))) => {
                let limits = all(principal, &principal.limits, everyone);
                let limits = in_time(store.standing(&limits, At::Store)).await;
                let limits = limits.map_err(|error| unavailable(&error))?;
                serde_json::to_vec(&Info::of(principal, &budgets, is_told, &limits))
            }
        };
        let mut response = Response::new(Body::from(Bytes::from(json.unwrap_or_default())));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// The caller's own limits or budgets, and those for everyone that the caller's calls may count against.
fn all<T: Scoped>(principal: &Principal, own: &[T], everyone: &[T]) -> Vec<T> {
    let everyone = everyone.iter().filter(|one| principal.is_in(one.scope()));
    own.iter().chain(everyone).cloned().collect()
}

/// Whether the call asks for the information given here.
pub(super) fn is_asked(call: &Call) -> bool {
    matches!(call.endpoint().operation, Operation::KeyInfo | Operation::Usage)
}

#[derive(Serialize)]
struct Info<'a> {
    object: &'static str,
    id: Option<String>,
    name: &'a str,
    user: Option<&'a str>,
    team: Option<&'a str>,
    org: Option<&'a str>,
    /// Model names, or prefixes followed by `*`. A lone `*` means all models.
    models: Vec<&'a str>,
    aliases: &'a BTreeMap<Arc<str>, Arc<str>>,
    budgets: Vec<Budget<'a>>,
    limits: Vec<Limit<'a>>,
}

#[derive(Serialize)]
struct Budget<'a> {
    scope: &'static str,
    id: &'a str,
    window: Window,
    #[serde(flatten)]
    amounts: Option<Amounts>,
    /// Whether nothing is left at the moment.
    used_up: bool,
    /// Whether calls continue beyond the limit.
    soft: bool,
    /// RFC 3339.
    resets_at: Option<String>,
}

/// Money as decimal text, in dollars.
#[derive(Serialize)]
struct Amounts {
    limit_usd: String,
    spent_usd: String,
    held_usd: String,
    remaining_usd: String,
}

#[derive(Serialize)]
struct Limit<'a> {
    scope: &'static str,
    id: &'a str,
    measure: domain::limit::Measure,
    limit: u64,
    remaining: u64,
    /// Seconds until the full limit is available again, rounded up.
    full_after: u64,
}

impl<'a> Info<'a> {
    fn of(
        principal: &'a Principal,
        budgets: &'a [budget::Standing],
        is_told: impl Fn(&budget::Standing) -> bool,
        limits: &'a [rate_limit::Standing],
    ) -> Self {
        Info {
            object: "key",
            id: principal.key.map(|id| id.to_string()),
            name: &principal.name,
            user: principal.user.as_deref(),
            team: principal.team.as_deref(),
            org: principal.org.as_deref(),
            models: models(principal),
            aliases: &principal.aliases,
            budgets: budgets.iter().map(|one| Budget::of(one, is_told(one))).collect(),
            limits: limits.iter().map(Limit::of).collect(),
        }
    }
}

impl<'a> Budget<'a> {
    fn of(standing: &'a budget::Standing, is_told: bool) -> Self {
        let pot = &standing.budget.pot;
        Budget {
            scope: pot.scope.kind.as_str(),
            id: pot.scope.shown_id(),
            window: pot.window,
            amounts: is_told.then(|| Amounts {
                limit_usd: standing.budget.limit.to_string(),
                spent_usd: standing.spent.to_string(),
                held_usd: standing.held.to_string(),
                remaining_usd: standing.left().to_string(),
            }),
            used_up: standing.left() <= Money::ZERO,
            soft: standing.budget.soft,
            resets_at: standing.resets_at.map(|at| at.to_string()),
        }
    }
}

impl<'a> Limit<'a> {
    fn of(standing: &'a rate_limit::Standing) -> Self {
        let limit = &standing.limit;
        Limit {
            scope: limit.scope.kind.as_str(),
            id: limit.scope.shown_id(),
            measure: limit.measure,
            limit: limit.most,
            remaining: standing.left,
            full_after: standing.full_after.as_secs().saturating_add(u64::from(standing.full_after.subsec_nanos() > 0)),
        }
    }
}

fn models(principal: &Principal) -> Vec<&str> {
    match principal.models.is_empty() {
        true => vec!["*"],
        // An empty name means "no model".
        false => principal.models.iter().map(|name| &**name).filter(|name| !name.is_empty()).collect(),
    }
}
