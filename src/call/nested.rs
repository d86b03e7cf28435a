//! A stack within a stack: what the outer stack has done to a request, and the inner stack does itself.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::Call;

/// The index of an attempt among those of its call, and how many attempts it has replaced there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    at: u32,
    turn: u32,
}

impl Slot {
    pub(super) fn new(at: usize) -> Self {
        Slot { at: u32::try_from(at).unwrap_or(u32::MAX), turn: 0 }
    }

    /// The same index, for an attempt that takes it over.
    pub(super) fn next(self) -> Self {
        Slot { turn: self.turn.saturating_add(1), ..self }
    }

    pub(super) fn at(self) -> usize {
        self.at as usize
    }
}

/// A body before and after the edits of its call.
pub(super) struct Edited {
    before: Bytes,
    after: Bytes,
}

impl Call {
    /// The body before an outer stack applied this call's edits. The head was read from that body, and the inner stack
    /// applies the edits itself.
    pub(crate) fn unedited(parts: &mut Parts, body: Bytes) -> Bytes {
        let edited = parts.extensions.get_mut::<Call>().and_then(|call| call.edited.take());
        // If a host has changed the body in between, its change stays.
        edited.filter(|edited| edited.after == body).map_or(body, |edited| edited.before.clone())
    }

    /// Keeps `before` while the request is on its way, if the edits have changed the body.
    pub(crate) fn keep_unedited(parts: &mut Parts, before: Bytes, after: &Bytes) {
        if (before.as_ptr(), before.len()) == (after.as_ptr(), after.len()) {
            return;
        }
        if let Some(call) = parts.extensions.get_mut::<Call>() {
            call.edited = Some(Arc::new(Edited { before, after: after.clone() }));
        }
    }
}
