use super::settle::Fact;
use super::{Call, Settlements};

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
