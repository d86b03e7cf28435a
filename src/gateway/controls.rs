use std::fmt;
use std::sync::Arc;

use http::Method;
use http::request::Parts;

use super::key_info::KeyInfo;
use super::surface::not_found;
use crate::admission::{AdmissionGate, AdmissionLayer};
use crate::audit::{AuditGate, AuditLayer};
use crate::auth::{KeyAuthGate, KeyAuthLayer};
use crate::budget::{BudgetGate, BudgetLayer};
use crate::call::Call;
use crate::domain::dialect::Operation;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::rate_limit::{RateLimitGate, RateLimitLayer};
use crate::store::admission::AdmissionStore;
use crate::store::budget::BudgetStore;
use crate::store::key::KeyStore;
use crate::store::rate_limit::RateLimitStore;

/// Who may call, and what it may take: the controls of a stack, those that stand outside of the body's reading and
/// those inside.
#[derive(Clone, Default)]
pub(super) struct Controls {
    audits: Vec<AuditGate>,
    keys: Option<Arc<KeyAuthGate<dyn KeyStore>>>,
    last: Last,
    info: KeyInfo,
    /// In front of a service of the host's: its own paths are let through to those who have a key.
    pub(super) pass_other_paths: bool,
}

impl Controls {
    pub(super) fn audit(&mut self, audit: &AuditLayer) {
        self.audits.push(audit.gate());
    }

    pub(super) fn keys<K: KeyStore>(&mut self, layer: KeyAuthLayer<K>) {
        self.keys = Some(layer.into_gate().into_gate());
    }

    pub(super) fn admission<S: AdmissionStore + Clone>(&mut self, layer: AdmissionLayer<S>) {
        let gate = layer.into_gate();
        self.info.limits = Some((gate.limits().store(), gate.limits().everyone()));
        self.info.budgets = Some((gate.budgets().store(), gate.budgets().everyone()));
        self.info.shows_shared = gate.budgets().shows_shared;
        self.last.whole = Some(gate);
    }

    pub(super) fn limits<R: RateLimitStore>(&mut self, layer: RateLimitLayer<R>) {
        let gate = layer.into_gate().erased();
        self.info.limits = Some((gate.store(), gate.everyone()));
        self.last.limits = Some(gate);
    }

    pub(super) fn budgets<B: BudgetStore>(&mut self, layer: BudgetLayer<B>) {
        let gate = layer.into_gate().erased();
        self.info.budgets = Some((gate.store(), gate.everyone()));
        self.info.shows_shared = gate.shows_shared;
        self.last.budgets = Some(gate);
    }

    pub(super) fn governed_within(&mut self) {
        self.last.governed_within = true;
    }

    pub(super) fn asks_twice(&self) -> bool {
        self.last.asks_twice()
    }

    /// What `GET /v1/key` is answered from.
    pub(super) fn info(&self) -> KeyInfo {
        self.info.clone()
    }

    fn governs(&self) -> bool {
        let Last { limits, budgets, whole, .. } = &self.last;
        self.keys.is_some() || limits.is_some() || budgets.is_some() || whole.is_some()
    }

    /// The gate outside of the body's reading, if there is anything to ask there. `surface` answers other paths by
    /// itself, and nothing on them costs anything.
    pub(super) fn door(&self, surface: bool) -> Option<Door> {
        let others = match (self.governs(), self.pass_other_paths) {
            _ if surface => Others::Answered,
            (false, _) => Others::Open,
            (true, true) => Others::Keyed,
            (true, false) => Others::Closed,
        };
        let needed = self.governs() || !self.audits.is_empty();
        needed.then(|| Door { audits: self.audits.clone(), keys: self.keys.clone(), others })
    }

    /// The gates inside, after the host's own.
    pub(super) fn last(&self) -> Last {
        self.last.clone()
    }
}

/// Which there are.
impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Last { limits, budgets, whole, .. } = &self.last;
        f.debug_struct("Controls")
            .field("audits", &self.audits.len())
            .field("keys", &self.keys.is_some())
            .field("limits", &(limits.is_some() || whole.is_some()))
            .field("budgets", &(budgets.is_some() || whole.is_some()))
            .field("pass_other_paths", &self.pass_other_paths)
            .finish()
    }
}

/// What becomes of a path that is no LLM endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Others {
    /// It is answered within, at no cost.
    Answered,
    Open,
    Keyed,
    Closed,
}

/// Takes a place in the audit trail, then asks for the key.
pub(super) struct Door {
    audits: Vec<AuditGate>,
    keys: Option<Arc<KeyAuthGate<dyn KeyStore>>>,
    others: Others,
}

impl Door {
    pub(super) async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        for audit in &self.audits {
            audit.enter(parts, call)?;
        }
        let operation = match call.endpoint().operation {
            // Below it other APIs have verbs, which are nothing that a key is good for.
            Operation::ListModels if !is_listing(parts) && self.others >= Others::Keyed => Operation::Other,
            operation => operation,
        };
        match (operation, self.others) {
            (Operation::Other, Others::Answered) => Ok(()),
            (Operation::Other, Others::Open) => call.check_hidden("GatewayLayer"),
            (Operation::Other, Others::Closed) => Err(not_found(&parts.method, parts.uri.path())),
            _ => {
                call.check_hidden("GatewayLayer")?;
                match &self.keys {
                    Some(keys) => keys.pass(parts, call).await,
                    // The host says who calls, if it knows.
                    None if operation == Operation::Other && call.principal().is_none() => {
                        Err(Rejection::new(RejectionKind::Unauthenticated, "nobody has said who calls: sign in first"))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// Counts the call, and takes its money last.
#[derive(Clone, Default)]
pub(super) struct Last {
    limits: Option<RateLimitGate<dyn RateLimitStore>>,
    budgets: Option<BudgetGate<dyn BudgetStore>>,
    /// In the place of both.
    whole: Option<AdmissionGate>,
    /// What is behind looks at what the caller has of its own.
    governed_within: bool,
}

/// What is wrong with a stack that has both.
pub(super) const ASKS_TWICE: &str =
    "`admission` stands in the place of `rate_limit` and `budget`: give the stack the one or the others";

impl Last {
    fn asks_twice(&self) -> bool {
        self.whole.is_some() && (self.limits.is_some() || self.budgets.is_some())
    }

    /// Lets the call through, when it has been written down that it goes.
    pub(super) async fn pass(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        if Call::of_parts(parts).is_none() {
            return Err(Rejection::misconfigured(
                "a gate has taken the call out of the request: it may change the head, and not put another in its place",
            ));
        }
        // What is behind these gates is metered, a host's own service as a whole.
        call.set_metered();
        self.admit(parts, call).await?;
        if !self.governed_within {
            call.check_governed()?;
        }
        call.intend().await
    }

    async fn admit(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        if let Some(whole) = &self.whole {
            // Two who ask one store under the id of one call are one to it: the second would be given what the first got.
            if self.asks_twice() {
                return Err(Rejection::misconfigured(ASKS_TWICE));
            }
            return whole.pass(&parts.headers, call).await;
        }
        if let Some(limits) = &self.limits {
            limits.pass(call).await?;
        }
        match &self.budgets {
            Some(budgets) => budgets.pass(&parts.headers, call).await,
            None => Ok(()),
        }
    }
}

/// Whether models are only looked at: `GET /v1/models/ID`, and not `POST /v1/models/ID:generateContent`.
fn is_listing(parts: &Parts) -> bool {
    let below = parts.uri.path().split_once("/models").map_or("", |(_, below)| below.trim_matches('/'));
    matches!(parts.method, Method::GET | Method::HEAD) && !below.contains([':', '/'])
}
