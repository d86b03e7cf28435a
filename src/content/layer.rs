use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tower::Layer;

use super::queue::Queue;
use super::redact::Redactor;
use super::{ContentService, task};
use crate::call::CallService;
use crate::domain::content::Keep;
use crate::store::content::ContentSink;
use crate::store::journal::Sealer;

/// The default for the longest body that is kept; of longer bodies only the length is kept.
const MOST: usize = 8 << 20;
/// How long a flush waits for a sink that takes nothing.
const LONG: Duration = Duration::from_secs(30);
/// The default room for bodies on their way to the sink.
const ROOM: usize = 64 << 20;

/// Keeps the content of prompts and answers. See the [module](crate::content).
///
/// A clone shares the same queue. A method that changes a setting returns a layer with a new queue, so call
/// [`flush`](Self::flush) on the layer that went into the stack.
#[derive(Clone)]
pub struct ContentLayer {
    pub(super) shared: Arc<Shared>,
}

/// The settings of a layer.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) sink: Arc<dyn ContentSink>,
    pub(super) redactor: Option<Arc<dyn Redactor>>,
    pub(super) sealer: Option<Sealer>,
    pub(super) keep: Keep,
    pub(super) most: usize,
    pub(super) retention: Option<Duration>,
    room: usize,
}

/// Shared by all services of a layer.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) queue: Queue,
    /// A task is taking bodies from the queue.
    pub(super) is_running: AtomicBool,
    /// A task is deleting expired content.
    pub(super) is_sweeping: AtomicBool,
}

impl ContentLayer {
    /// Creates a layer that keeps content in `sink`, for calls whose key asks for it. Use [`keep`](Self::keep) to keep
    /// the content of every call.
    pub fn new(sink: impl ContentSink) -> Self {
        Self::of(Settings {
            sink: Arc::new(sink),
            redactor: None,
            sealer: None,
            keep: Keep::Nothing,
            most: MOST,
            retention: None,
            room: ROOM,
        })
    }

    fn of(settings: Settings) -> Self {
        let shared = Shared {
            queue: Queue::new(settings.room),
            settings,
            is_running: AtomicBool::new(false),
            is_sweeping: AtomicBool::new(false),
        };
        ContentLayer { shared: Arc::new(shared) }
    }

    /// Sets how much is kept of every call in this stack, unless its key or a gate sets something else. The default is
    /// nothing.
    #[must_use]
    pub fn keep(self, keep: Keep) -> Self {
        self.with(|settings| settings.keep = keep)
    }

    /// Sets the redactor. Without one, nothing is kept of content that should be redacted.
    #[must_use]
    pub fn redact_by(self, redactor: impl Redactor) -> Self {
        self.with(|settings| settings.redactor = Some(Arc::new(redactor)))
    }

    /// Records in this journal what the sink is about to get.
    #[must_use]
    pub fn sealed_by(self, sealer: Sealer) -> Self {
        self.with(|settings| settings.sealer = Some(sealer))
    }

    /// Deletes content that ended longer ago than `time`. By default content is kept for ever. A task checks every
    /// minute, starting when the layer is in a stack.
    ///
    /// Deleted content does not come back, so the clock is not trusted at once. Nothing is deleted in the first hour,
    /// and a clock that jumps ahead is trusted after it has stayed ahead for a day. Neither waits longer than `time`.
    ///
    /// Each new layer begins that hour anew, so layers that never live as long delete nothing: those of a nightly job,
    /// of a process that restarts again and again, or of a stack that is built anew with each change of its
    /// configuration. Put the same layer into the new stack. In a short process, call
    /// [`ContentSink::delete_before`](crate::store::content::ContentSink::delete_before) yourself until it returns 0,
    /// by a time that you trust, and record the sum with [`Sealer::deleted`] if there is a journal.
    #[must_use]
    pub fn retain(self, time: Duration) -> Self {
        self.with(|settings| settings.retention = Some(time))
    }

    /// Sets the longest body that is kept, in bytes; of longer ones only the length is kept. The default is 8 MiB.
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        self.with(|settings| settings.most = bytes)
    }

    /// Sets how many bytes of bodies may be on their way to the sink, including answers still in progress. The default
    /// is 64 MiB.
    ///
    /// Bodies that find no room are not kept. A compressed body counts with its compressed size.
    #[must_use]
    pub fn max_in_memory(self, bytes: usize) -> Self {
        self.with(|settings| settings.room = bytes)
    }

    /// A layer that is already in a stack keeps its own settings.
    fn with(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        set(&mut settings);
        Self::of(settings)
    }

    /// The number of bodies that were not kept, because there was no room or the sink refused them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.queue.dropped()
    }

    /// Waits until everything that has ended so far is kept or given up, for at most 30 seconds.
    ///
    /// What the sink has not taken by then is still sent as long as the process and this runtime live, and lost after
    /// that. The log reports it.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the writing.
    pub async fn flush(&self) {
        let written = self.shared.queue.flush();
        task::start(&self.shared);
        if tokio::time::timeout(LONG, written).await.is_err() {
            tracing::error!(
                "content could not be written within 30 seconds: it is only in memory, and is lost if the process ends now"
            );
        }
    }

    /// The service around `inner`, within an open call.
    pub(crate) fn around<S>(&self, inner: S) -> ContentService<S> {
        let Settings { keep, redactor, .. } = &self.shared.settings;
        if *keep == Keep::Redacted && redactor.is_none() {
            tracing::error!("`ContentLayer` keeps redacted content but has no redactor, so nothing is kept");
        }
        task::sweep_too(&self.shared);
        ContentService::new(inner, self.shared.clone())
    }
}

impl<S> Layer<S> for ContentLayer {
    type Service = CallService<ContentService<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService::standing_alone(self.around(inner))
    }
}

impl fmt::Debug for ContentLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { redactor, sealer, keep, most, retention, .. } = &self.shared.settings;
        f.debug_struct("ContentLayer")
            .field("keep", keep)
            .field("redacts", &redactor.is_some())
            .field("is_sealed", &sealer.is_some())
            .field("max_body", most)
            .field("retain", retention)
            .finish_non_exhaustive()
    }
}
