//! Who may end an answer for what it says while it goes on.

use std::sync::Arc;
use std::time::Duration;

use super::Call;
use crate::dialect::meter::Reading;
use crate::domain::rejection::Rejection;

/// Looks at an attempt's stream while it goes on.
pub(crate) trait Watch: Send + Sync {
    /// It has said so much, after so long, and more than before.
    fn look(self: Arc<Self>, call: &Call, reading: &Reading, took: Duration);

    /// Why it may go on no longer, if so. Asked for whatever comes of it, so that an answer costs next to nothing.
    fn over(&self) -> Option<Rejection>;
}

impl Call {
    /// Has the streams that answer the call looked at. The first who asks does.
    pub(crate) fn watch_by(&self, watch: Arc<dyn Watch>) {
        let _ = self.shared.watch.set(watch);
    }

    pub(super) fn watch(&self) -> Option<&Arc<dyn Watch>> {
        self.shared.watch.get()
    }
}
