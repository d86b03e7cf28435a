use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Work that must outlive the request that caused it: spawned from an `on_close` hook, waited for at shutdown.
///
/// A clone is the same set. Hooks run wherever a body is dropped, perhaps outside of any runtime; so the runtime is
/// the current one, else that of the first call.
///
/// ```
/// use tollgate::call::{CallLayer, Settlements};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let settlements = Settlements::new();
/// let layer = CallLayer::new().settlements(settlements.clone());
/// // … serve, and after the server has stopped:
/// settlements.drain().await;
/// # drop(layer); }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Settlements {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tracker: TaskTracker,
    runtime: OnceLock<Handle>,
}

impl Settlements {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers the runtime that the caller runs on, unless one is known.
    pub(crate) fn capture(&self) {
        if self.inner.runtime.get().is_none()
            && let Ok(handle) = Handle::try_current()
        {
            let _ = self.inner.runtime.set(handle);
        }
    }

    /// Runs `work` to its end, whatever becomes of the call. Callable from anywhere, `Drop` included.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match Handle::try_current().ok().as_ref().or(self.inner.runtime.get()) {
            Some(runtime) => {
                self.inner.tracker.spawn_on(work, runtime);
            }
            None => tracing::error!("no runtime to settle on: no call has run on one yet"),
        }
    }

    /// How much work has not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.tracker.len()
    }

    /// Whether all work has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.tracker.is_empty()
    }

    /// Waits until all work has ended. Call it after the server has let go of its connections.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the work.
    pub async fn drain(&self) {
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}
