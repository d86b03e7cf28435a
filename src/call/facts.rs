//! What layers have found out about a call: the caller, the head of the body, the route.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;

use super::Call;
use crate::dialect::head::Head;
use crate::domain::attribution::Attribution;
use crate::domain::content::Keep;
use crate::domain::outcome::Decision;
use crate::domain::principal::Principal;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::target::Target;
use crate::store::admission::PresentedKey;

impl Call {
    /// The caller, if `KeyAuthLayer` or the host has identified it.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.shared.principal.get()
    }

    /// Like [`principal`](Self::principal), for a layer that needs a caller.
    ///
    /// # Errors
    /// A `Misconfigured` rejection that names the missing layer.
    pub fn require_principal(&self) -> Result<&Arc<Principal>, Rejection> {
        self.principal().ok_or_else(|| {
            Rejection::misconfigured(
                "the caller is not identified: put `KeyAuthLayer` outside of the layer that needs the caller, or an `Arc<Principal>` into the request's extensions; to refuse callers without one, set `GatewayLayer::require_principal`",
            )
        })
    }

    /// Sets the caller. Only the first value counts. Returns whether this was the first.
    pub fn set_principal(&self, principal: Arc<Principal>) -> bool {
        self.shared.principal.set(principal).is_ok()
    }

    /// The virtual key that the call came with, if there was one.
    pub(crate) fn presented_key(&self) -> Option<PresentedKey> {
        self.shared.key.get().copied()
    }

    pub(crate) fn set_presented_key(&self, key: PresentedKey) {
        let _ = self.shared.key.set(key);
    }

    /// The model that the caller means: the requested one, or what the caller's own alias stands for.
    #[must_use]
    pub fn model(&self) -> Option<&Arc<str>> {
        let asked = self.head()?.shared_model();
        Some(self.principal().map_or(asked, |principal| principal.resolve(asked)))
    }

    /// Checks that the caller may use the model. Passes as long as the caller or the model is unknown. Every layer that
    /// learns of either calls it, so that the check happens in any order of layers.
    ///
    /// # Errors
    /// `ModelNotAllowed`.
    pub fn check_model(&self) -> Result<(), Rejection> {
        match (self.principal(), self.model()) {
            (Some(principal), Some(model)) if !principal.may_use(model) => {
                let message = format!("this key may not use model `{model}`");
                let rejection = Rejection::new(RejectionKind::ModelNotAllowed, message).param("model");
                self.note(Decision::refuse("model", rejection.shared_message()));
                Err(rejection)
            }
            (Some(principal), _) if !principal.models.is_empty() => match self.other_models() {
                None => Ok(()),
                Some(field) => {
                    let message =
                        format!("this key is limited to certain models, and `{field}` could select another one");
                    let rejection = Rejection::new(RejectionKind::ModelNotAllowed, message).param(field);
                    self.note(Decision::refuse("model", rejection.shared_message()));
                    Err(rejection)
                }
            },
            _ => Ok(()),
        }
    }

    /// The member of the request through which it may use another model than the one that it names.
    pub(super) fn other_models(&self) -> Option<&'static str> {
        self.head()?.inputs().other_models
    }

    /// How many decisions have been recorded.
    pub(crate) fn noted(&self) -> usize {
        self.state().decisions.len()
    }

    /// Reads what the client states about itself, unless that was done before. Called by layers that report the call;
    /// nobody else needs it.
    pub(crate) fn set_client(&self, headers: &HeaderMap) {
        self.shared.client.get_or_init(|| Attribution::of(headers, None));
    }

    /// What the client states about itself, including in its body, if a layer has asked for it.
    pub(super) fn client(&self) -> Attribution {
        let user = self.head().and_then(Head::user);
        self.shared.client.get().map_or_else(Attribution::default, |client| client.clone().and_user(user))
    }

    /// The input tokens of the request, if they were [counted](crate::ingest::TokenCounter).
    #[must_use]
    pub fn counted_input(&self) -> Option<u64> {
        self.shared.counted_input.get().copied()
    }

    /// Sets the count of input tokens. Only the first value counts. Returns whether this was the first.
    pub fn set_counted_input(&self, tokens: u64) -> bool {
        self.shared.counted_input.set(tokens).is_ok()
    }

    /// What the request's body says, if `IngestLayer` has read it.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.shared.head.get()
    }

    /// Like [`head`](Self::head), for a layer that needs the head.
    ///
    /// # Errors
    /// A `Misconfigured` rejection that names the missing layer.
    pub fn require_head(&self) -> Result<&Head, Rejection> {
        self.head().ok_or_else(|| {
            Rejection::misconfigured(match self.endpoint().has_head() {
                true => "the request body has not been read: put `IngestLayer` outside of the layer that needs the head",
                false => "this path is not an LLM endpoint and has no head: check `call.endpoint().has_head()` first, or name the endpoint by `endpoint(..)`",
            })
        })
    }

    /// Sets the head. Only the first value counts. A host that reads bodies itself may call this instead of using
    /// `IngestLayer`. Returns whether this was the first.
    pub fn set_head(&self, head: Head) -> bool {
        self.shared.head.set(head).is_ok()
    }

    /// How many bytes of the body have been charged to the memory budget.
    pub(crate) fn in_memory(&self) -> usize {
        self.shared.in_memory.load(Ordering::Relaxed)
    }

    /// Records the charged bytes: a layer further in that reads the body charges only what exceeds them.
    pub(crate) fn set_in_memory(&self, bytes: usize) {
        self.shared.in_memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Limits how much of this call's prompt and answer is kept.
    ///
    /// If this is called several times, or the key has a setting too, the lowest value counts. The default of the
    /// [`ContentLayer`](crate::ContentLayer) applies only if there is no value at all.
    pub fn keep_content(&self, keep: Keep) {
        let wish = &mut self.state().keep;
        *wish = Some(wish.map_or(keep, |before| before.min(keep)));
    }

    /// How much of the content to keep, with `otherwise` as the default; recorded for the outcome.
    pub(crate) fn content(&self, otherwise: Keep) -> Keep {
        let by_key = self.principal().and_then(|principal| principal.content);
        let mut state = self.state();
        let keep = by_key.into_iter().chain(state.keep).min().unwrap_or(otherwise);
        state.content = Some(keep).filter(|keep| *keep != Keep::Nothing);
        keep
    }

    /// The targets that may serve this call, in the order in which they are tried.
    #[must_use]
    pub fn route(&self) -> Option<&[Arc<Target>]> {
        self.shared.route.get().map(Vec::as_slice)
    }

    /// Like [`route`](Self::route), for a layer that needs the route.
    ///
    /// # Errors
    /// A `Misconfigured` rejection that names the missing layer.
    pub fn require_route(&self) -> Result<&[Arc<Target>], Rejection> {
        self.route().ok_or_else(|| {
            Rejection::misconfigured("the call has no route: put `RouteLayer` between `IngestLayer` and the dispatch")
        })
    }

    /// Sets the targets. Only the first value counts. Returns whether this was the first.
    pub fn set_route(&self, targets: Vec<Arc<Target>>) -> bool {
        self.shared.route.set(targets).is_ok()
    }
}
