//! How far a batch has come that could not be written to its end: whoever writes it again begins with that.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::parts::Parts;
use crate::domain::audit::AuditRecord;

/// The last batch that was not written to its end, if any.
#[derive(Default)]
pub(super) struct Unfinished(Mutex<Option<Batch>>);

#[derive(Default)]
pub(super) struct Batch {
    ids: Vec<Uuid>,
    pub(super) parts: Parts,
    /// Refused for good, and not yet among the dead letters.
    pub(super) dead: Range<usize>,
}

/// A batch that is being written. However that ends, nothing of what is done is forgotten.
pub(super) struct Attempt<'a> {
    unfinished: &'a Unfinished,
    pub(super) batch: Batch,
}

impl Unfinished {
    /// Begins with this batch, or goes on with it.
    pub(super) fn attempt(&self, records: &[AuditRecord]) -> Attempt<'_> {
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take().filter(|before| before.ids == ids);
        let anew = || Batch { parts: Parts::of(ids.len()), ids, dead: 0..0 };
        Attempt { unfinished: self, batch: before.unwrap_or_else(anew) }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.parts.following().is_some() || !batch.dead.is_empty() {
            *self.unfinished.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(batch);
        }
    }
}
