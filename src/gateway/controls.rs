use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
use crate::domain::outcome::Decision;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::rate_limit::{RateLimitGate, RateLimitLayer};
use crate::store::admission::AdmissionStore;
use crate::store::budget::BudgetStore;
use crate::store::key::KeyStore;
use crate::store::rate_limit::RateLimitStore;

/// The controls of a stack: who may call, and how much. Some run before the body is read, the others after.
#[derive(Clone, Default)]
pub(super) struct Controls {
    audits: Vec<AuditGate>,
    keys: Option<Arc<KeyAuthGate<dyn KeyStore>>>,
    last: Last,
    info: KeyInfo,
    /// A caller without a key must be known to the host.
    pub(super) requires_principal: bool,
    /// Set in front of a host's own service: requests for the host's other paths pass if they have a key.
    pub(super) pass_other_paths: bool,
    /// Whether the log has been told of a path that may be behind a mount. A router makes a service for each route.
    told: Arc<AtomicBool>,
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

    /// The data that answers `GET /v1/key`.
    pub(super) fn info(&self) -> KeyInfo {
        self.info.clone()
    }

    fn governs(&self) -> bool {
        let Last { limits, budgets, whole, .. } = &self.last;
        self.keys.is_some() || self.requires_principal || limits.is_some() || budgets.is_some() || whole.is_some()
    }

    /// The gate that runs before the body is read, if there is anything to check, or if it must tell that no `gates`
    /// would see the call. With `surface`, the gateway answers other paths itself, and these answers cost nothing.
    pub(super) fn door(&self, surface: bool, gates: bool) -> Option<Door> {
        let others = match (self.governs(), self.pass_other_paths) {
            _ if surface => Others::Answered,
            (false, _) => Others::Open,
            (true, true) => Others::Keyed,
            (true, false) => Others::Closed,
        };
        let needed = self.governs() || !self.audits.is_empty() || (gates && !surface);
        let (audits, keys) = (self.audits.clone(), self.keys.clone());
        let (requires_principal, told) = (self.requires_principal, self.told.clone());
        needed.then(|| Door { audits, keys, requires_principal, others, told })
    }

    /// The gates that run after the host's own gates.
    pub(super) fn last(&self) -> Last {
        self.last.clone()
    }
}

/// Shows which controls are present.
impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Last { limits, budgets, whole, .. } = &self.last;
        f.debug_struct("Controls")
            .field("audits", &self.audits.len())
            .field("keys", &self.keys.is_some())
            .field("requires_principal", &self.requires_principal)
            .field("limits", &(limits.is_some() || whole.is_some()))
            .field("budgets", &(budgets.is_some() || whole.is_some()))
            .field("pass_other_paths", &self.pass_other_paths)
            .finish()
    }
}

/// How a path that is no LLM endpoint is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Others {
    /// The gateway answers it itself, at no cost.
    Answered,
    Open,
    Keyed,
    Closed,
}

/// Enters the call in the audit trail, then checks the key.
pub(super) struct Door {
    audits: Vec<AuditGate>,
    keys: Option<Arc<KeyAuthGate<dyn KeyStore>>>,
    requires_principal: bool,
    others: Others,
    told: Arc<AtomicBool>,
}

impl Door {
    pub(super) async fn admit(&self, parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        for audit in &self.audits {
            audit.enter(parts, call)?;
        }
        let operation = match call.endpoint().operation {
            // Other APIs have verbs below `/models`; a key does not authorize those.
            Operation::ListModels if !is_listing(parts) && self.others >= Others::Keyed => Operation::Other,
            operation => operation,
        };
        match (operation, self.others) {
            (Operation::Other, Others::Answered) => Ok(()),
            (Operation::Other, Others::Open) => call.pass_unplaced("GatewayLayer"),
            (Operation::Other, Others::Closed) => {
                self.tell_of_mount(call);
                Err(not_found(&parts.method, parts.uri.path()))
            }
            _ => {
                call.check_spelling()?;
                match &self.keys {
                    Some(keys) => keys.pass(parts, call).await?,
                    // Without key authentication the host may say who calls.
                    None if (self.requires_principal || operation == Operation::Other)
                        && call.principal().is_none() =>
                    {
                        let message = "the caller is not identified: sign in first";
                        call.note(Decision::refuse("auth", message));
                        return Err(Rejection::new(RejectionKind::Unauthenticated, message));
                    }
                    None => {}
                }
                // After the key: a stranger's mistake is not the operator's.
                call.pass_unplaced("GatewayLayer")
            }
        }
    }

    /// Tells the operator, once, why a route of theirs may answer 404. To a client it is any unknown path.
    fn tell_of_mount(&self, call: &Call) {
        let misplaced = call.check_hidden("GatewayLayer").err();
        if let Some(cure) = misplaced.as_ref().and_then(Rejection::internal_message)
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(call = %call.id(), "answered 404 to a path that ends like an LLM endpoint: {cure}");
        }
    }
}

/// The last gates: rate limits, then budgets.
#[derive(Clone, Default)]
pub(super) struct Last {
    limits: Option<RateLimitGate<dyn RateLimitStore>>,
    budgets: Option<BudgetGate<dyn BudgetStore>>,
    /// Replaces both.
    whole: Option<AdmissionGate>,
    /// The inner service applies the caller's own limits and budgets.
    governed_within: bool,
}

/// The error of a stack that has both.
pub(super) const ASKS_TWICE: &str =
    "`admission` replaces `rate_limit` and `budget`: use either `admission` or these two";

impl Last {
    fn asks_twice(&self) -> bool {
        self.whole.is_some() && (self.limits.is_some() || self.budgets.is_some())
    }

    /// Admits the call, once its intent has been written to the journal.
    pub(super) async fn pass(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        if Call::of_parts(parts).is_none() {
            return Err(Rejection::misconfigured(
                "a gate removed the call from the request's extensions: a gate may change the request's head but must not replace it",
            ));
        }
        // Everything behind these gates is metered; a host's own service is metered as one attempt.
        call.set_metered();
        self.admit(parts, call).await?;
        if !self.governed_within {
            call.check_governed()?;
        }
        call.intend().await
    }

    async fn admit(&self, parts: &Parts, call: &Call) -> Result<(), Rejection> {
        if let Some(whole) = &self.whole {
            // Two questions to one store under one call id count as one: the second would get the first one's answer.
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

/// Whether the request only reads models: `GET /v1/models/ID`, but not `POST /v1/models/ID:generateContent`.
fn is_listing(parts: &Parts) -> bool {
    let below = parts.uri.path().split_once("/models").map_or("", |(_, below)| below.trim_matches('/'));
    matches!(parts.method, Method::GET | Method::HEAD) && !below.contains([':', '/'])
}
