//! Paths that the opener of a call does not recognize, but a layer or service further in may.

use http::{Method, Request};

use super::Call;
use crate::domain::dialect::Endpoint;
use crate::domain::rejection::{Rejection, RejectionKind};

/// How a path hides an LLM endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    /// It ends like one of our endpoints, behind a prefix.
    ByMount,
    /// It is spelled as no client spells it.
    BySpelling,
}

impl Hidden {
    /// Classifies a path that the opener does not recognize.
    pub(super) fn of<B>(request: &Request<B>, endpoint: Endpoint) -> Option<Self> {
        let (path, is_posted) = (request.uri().path(), request.method() == Method::POST);
        match endpoint.has_head() {
            true => None,
            // Without a prefix, although `/V1` may be one.
            _ if Endpoint::is_misspelt(path, false) => Some(Hidden::BySpelling),
            _ if is_posted && Endpoint::is_behind_a_prefix(path) => Some(Hidden::ByMount),
            _ if is_posted && Endpoint::is_misspelt(path, true) => Some(Hidden::BySpelling),
            _ => None,
        }
    }
}

impl Call {
    /// Records that a control lets the call pass because it did not recognize the path, if it did not. Should the call
    /// turn out to be an LLM call further in, it is [refused](Self::check_placed).
    ///
    /// # Errors
    /// See [`check_hidden`](Self::check_hidden).
    pub(crate) fn pass_unplaced(&self, layer: &'static str) -> Result<(), Rejection> {
        self.check_hidden(layer)?;
        if !self.endpoint().has_head() {
            self.state().unplaced.get_or_insert(layer);
        }
        Ok(())
    }

    /// Refuses a path that no layer has recognized, but that ends like one of ours, or that a service may take for one.
    ///
    /// # Errors
    /// `Misconfigured` if it would be served without this layer. `NotFound` if the client's spelling hides the
    /// endpoint.
    pub(crate) fn check_hidden(&self, layer: &'static str) -> Result<(), Rejection> {
        match self.shared.hidden.filter(|_| !self.endpoint().has_head()) {
            None => Ok(()),
            Some(Hidden::ByMount) => Err(outside_of_a_mount(layer)),
            Some(Hidden::BySpelling) => self.check_spelling(),
        }
    }

    /// Refuses a path that no layer has recognized because of its spelling, but that a service may take for one of
    /// ours.
    ///
    /// # Errors
    /// `NotFound`, since no layer that governs such a call has seen it.
    pub(crate) fn check_spelling(&self) -> Result<(), Rejection> {
        if self.shared.hidden != Some(Hidden::BySpelling) || self.endpoint().has_head() {
            return Ok(());
        }
        Err(Rejection::new(
            RejectionKind::NotFound,
            "nothing is served under this path: remove doubled slashes, dots, capital letters or escapes from it",
        ))
    }

    /// Refuses a call if an outer control did not recognize its path, and it turned out to be an LLM endpoint behind
    /// the prefix of a mount.
    ///
    /// # Errors
    /// `Misconfigured`, since that control has not governed the call.
    pub(crate) fn check_placed(&self) -> Result<(), Rejection> {
        match self.state().unplaced {
            Some(layer) if self.endpoint().has_head() => Err(outside_of_a_mount(layer)),
            _ => Ok(()),
        }
    }
}

fn outside_of_a_mount(layer: &'static str) -> Rejection {
    Rejection::misconfigured(format!(
        "`{layer}` is outside of a mount and cannot recognize this path: put it inside, or set `endpoint(..)`"
    ))
}
