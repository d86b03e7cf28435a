//! A watch may end an answer while it is in progress, because of what it has cost.

use std::sync::Arc;
use std::time::Duration;

use super::Call;
use crate::dialect::meter::Reading;
use crate::domain::rejection::Rejection;

/// Watches an attempt's stream while it is in progress.
pub(crate) trait Watch: Send + Sync {
    /// Called with a new reading that says more than before, and the time since the attempt began.
    fn look(self: Arc<Self>, call: &Call, reading: &Reading, took: Duration);

    /// The reason to end the stream, if there is one. Called often, so it must be cheap.
    fn over(&self) -> Option<Rejection>;
}

impl Call {
    /// Watches the streams that answer this call. Only the first watch counts.
    pub(crate) fn watch_by(&self, watch: Arc<dyn Watch>) {
        let _ = self.shared.watch.set(watch);
    }

    pub(super) fn watch(&self) -> Option<&Arc<dyn Watch>> {
        self.shared.watch.get()
    }
}
