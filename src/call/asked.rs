use super::waiting::Fact;
use super::{Call, Settlements};
use crate::store::StoreError;

/// A store that has been asked for a call, and has not answered.
///
/// Dropped like that, because the client left, it may have done what it was asked all the same; so it is told what has
/// come of it: `nothing`.
#[derive(Debug)]
pub(crate) struct Asked<'a, F: Fact> {
    call: &'a Call,
    nothing: Option<F>,
}

impl<'a, F: Fact> Asked<'a, F> {
    pub(crate) fn new(call: &'a Call, nothing: F) -> Self {
        Asked { call, nothing: Some(nothing) }
    }

    /// What its answer leaves to be told: where it has certainly done nothing, nothing.
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

    /// It has answered: from here on its caller says what comes of it, beginning with nothing.
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
