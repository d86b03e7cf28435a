//! What layers have found out about a call: who calls, what the body says, where it may go.

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
    /// Who calls, if `KeyAuthLayer` or the host has said so.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.shared.principal.get()
    }

    /// [`principal`](Self::principal), for a layer that cannot do without.
    ///
    /// # Errors
    /// The `Misconfigured` rejection that names the missing layer.
    pub fn require_principal(&self) -> Result<&Arc<Principal>, Rejection> {
        self.principal().ok_or_else(|| {
            Rejection::misconfigured(
                "nobody has said who calls: put `KeyAuthLayer` outside of the layer that asks, or an `Arc<Principal>` into the request's extensions",
            )
        })
    }

    /// Sets who calls. The first to set it wins.
    pub fn set_principal(&self, principal: Arc<Principal>) {
        let _ = self.shared.principal.set(principal);
    }

    /// The key that it came with, if it came with one of ours.
    pub(crate) fn presented_key(&self) -> Option<PresentedKey> {
        self.shared.key.get().copied()
    }

    pub(crate) fn set_presented_key(&self, key: PresentedKey) {
        let _ = self.shared.key.set(key);
    }

    /// The model that the caller means: the one asked for, or what its own alias stands for.
    #[must_use]
    pub fn model(&self) -> Option<&Arc<str>> {
        let asked = self.head()?.shared_model();
        Some(self.principal().map_or(asked, |principal| principal.resolve(asked)))
    }

    /// Whether the caller may ask for the model that it means; true as long as either is unknown. Every layer that learns
    /// of the one or the other asks, so that no order of layers leaves it out.
    ///
    /// # Errors
    /// `ModelNotAllowed`.
    pub fn check_model(&self) -> Result<(), Rejection> {
        match (self.principal(), self.model()) {
            (Some(principal), Some(model)) if !principal.may_use(model) => {
                let message = format!("model `{model}` is not among those that this key may use");
                let rejection = Rejection::new(RejectionKind::ModelNotAllowed, message).param("model");
                self.note(Decision::refuse("model", rejection.shared_message()));
                Err(rejection)
            }
            (Some(principal), _) if !principal.models.is_empty() => match self.other_models() {
                None => Ok(()),
                Some(field) => {
                    let message = format!("this key may use only some models, and by `{field}` another may be used");
                    let rejection = Rejection::new(RejectionKind::ModelNotAllowed, message).param(field);
                    self.note(Decision::refuse("model", rejection.shared_message()));
                    Err(rejection)
                }
            },
            _ => Ok(()),
        }
    }

    /// The member of the request by which another model may be used than the one that it asks for.
    pub(super) fn other_models(&self) -> Option<&'static str> {
        self.head()?.inputs().other_models
    }

    /// How many decisions have been noted.
    pub(crate) fn noted(&self) -> usize {
        self.state().decisions.len()
    }

    /// Reads what the client says of itself, unless somebody has: for who hears of the call, since of any other nobody asks.
    pub(crate) fn set_client(&self, headers: &HeaderMap) {
        self.shared.client.get_or_init(|| Attribution::of(headers, None));
    }

    /// What the client says of itself, its body included, if anybody wants to know.
    pub(super) fn client(&self) -> Attribution {
        let user = self.head().and_then(Head::user);
        self.shared.client.get().map_or_else(Attribution::default, |client| client.clone().and_user(user))
    }

    /// The input tokens of the request, if somebody has [counted](crate::ingest::TokenCounter) them.
    #[must_use]
    pub fn counted_input(&self) -> Option<u64> {
        self.shared.counted_input.get().copied()
    }

    /// Sets how many they are. The first to set it wins.
    pub fn set_counted_input(&self, tokens: u64) {
        let _ = self.shared.counted_input.set(tokens);
    }

    /// What the request's body says, if `IngestLayer` has read it.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.shared.head.get()
    }

    /// [`head`](Self::head), for a layer that cannot do without.
    ///
    /// # Errors
    /// The `Misconfigured` rejection that names the missing layer.
    pub fn require_head(&self) -> Result<&Head, Rejection> {
        self.head().ok_or_else(|| {
            Rejection::misconfigured(match self.endpoint().has_head() {
                true => "the request body has not been read: put `IngestLayer` outside of the layer that asks for the head",
                false => "this path is no LLM endpoint and has no head: ask `call.endpoint().has_head()`, or name it by `endpoint(..)`",
            })
        })
    }

    /// Sets what the body says. The first to set it wins; a host that reads bodies itself may do this in
    /// `IngestLayer`'s place.
    pub fn set_head(&self, head: Head) {
        let _ = self.shared.head.set(head);
    }

    /// How many bytes of its body have been counted as in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.shared.in_memory.load(Ordering::Relaxed)
    }

    /// Whoever reads the body further in counts no more than what it has beyond these.
    pub(crate) fn set_in_memory(&self, bytes: usize) {
        self.shared.in_memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Has no more kept of what this call's prompt and answer hold than so much. Of all who say so, and its key, who says the
    /// least is heard; what a [`ContentLayer`](crate::ContentLayer) keeps of everyone's counts where nobody has said anything.
    pub fn keep_content(&self, keep: Keep) {
        let wish = &mut self.state().keep;
        *wish = Some(wish.map_or(keep, |before| before.min(keep)));
    }

    /// How much of it is to be kept where nobody says anything but `otherwise`; noted for the outcome.
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

    /// [`route`](Self::route), for a layer that cannot do without.
    ///
    /// # Errors
    /// The `Misconfigured` rejection that names the missing layer.
    pub fn require_route(&self) -> Result<&[Arc<Target>], Rejection> {
        self.route().ok_or_else(|| {
            Rejection::misconfigured("the call has no route: put `RouteLayer` between `IngestLayer` and the dispatch")
        })
    }

    /// Sets the targets. The first to set them wins.
    pub fn set_route(&self, targets: Vec<Arc<Target>>) {
        let _ = self.shared.route.set(targets);
    }
}
