//! A stack within a stack: what the outer one has done to a request already, and the inner one does in its stead.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::Call;

/// The place of an attempt among those of its call, and how many were there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    at: u32,
    turn: u32,
}

impl Slot {
    pub(super) fn new(at: usize) -> Self {
        Slot { at: u32::try_from(at).unwrap_or(u32::MAX), turn: 0 }
    }

    /// The same place, for whoever takes it over.
    pub(super) fn next(self) -> Self {
        Slot { turn: self.turn.saturating_add(1), ..self }
    }

    pub(super) fn at(self) -> usize {
        self.at as usize
    }
}

/// A body before the edits of its call, and after them.
pub(super) struct Edited {
    before: Bytes,
    after: Bytes,
}

impl Call {
    /// The body as it was before an assembly further out applied the edits of this call to it: that is the one whose head was
    /// read, and whoever is asked further in applies them itself.
    pub(crate) fn unedited(parts: &mut Parts, body: Bytes) -> Bytes {
        let edited = parts.extensions.get_mut::<Call>().and_then(|call| call.edited.take());
        // What a host has changed in between stays changed.
        edited.filter(|edited| edited.after == body).map_or(body, |edited| edited.before.clone())
    }

    /// Keeps `before` for as long as the request is on its way, if the edits have changed anything of it.
    pub(crate) fn keep_unedited(parts: &mut Parts, before: Bytes, after: &Bytes) {
        if (before.as_ptr(), before.len()) == (after.as_ptr(), after.len()) {
            return;
        }
        if let Some(call) = parts.extensions.get_mut::<Call>() {
            call.edited = Some(Arc::new(Edited { before, after: after.clone() }));
        }
    }
}
