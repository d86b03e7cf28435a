use super::waiting::Fact;
use super::{Call, Settlements};
use crate::store::StoreError;

/// A question to a store that has not been answered yet.
///
/// If it is dropped in that state because the client left, the store may still have acted on it. The drop therefore
/// settles it as `nothing`.
#[derive(Debug)]
pub(crate) struct Asked<'a, F: Fact> {
    call: &'a Call,
    nothing: Option<F>,
}

impl<'a, F: Fact> Asked<'a, F> {
    pub(crate) fn new(call: &'a Call, nothing: F) -> Self {
        Asked { call, nothing: Some(nothing) }
    }

    /// Takes the store's answer. Returns what remains to be settled: nothing if the store has certainly not acted.
    pub(crate) fn heard<T>(self, answer: &Result<T, StoreError>) -> Option<F> {
        match answer {
            Ok(_) => self.answered(),
            Err(error) if error.may_have_applied() => None,
            Err(_) => {
                drop(self.answered());
                None
            }
        }
    }

    /// The store has answered. From here on the caller settles, starting from `nothing`.
    pub(crate) fn answered(mut self) -> Option<F> {
        self.nothing.take()
    }
}

impl<F: Fact> Drop for Asked<'_, F> {
    fn drop(&mut self) {
        if let Some(nothing) = self.nothing.take() {
            let settlements: &Settlements = self.call.settlements();
            settlements.settle(self.call.id(), nothing);
        }
    }
}
