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

/// The longest body of which more is kept than its length, unless set.
const MOST: usize = 8 << 20;
/// How long a flush waits for a sink that takes nothing.
const LONG: Duration = Duration::from_secs(30);
/// The room that bodies take on their way, unless set.
const ROOM: usize = 64 << 20;

/// Keeps what prompts and answers hold. See the [module](crate::content). A clone is the same queue, until more is said of it:
/// keep, for its [`flush`](Self::flush), the one that went into the stack.
#[derive(Clone)]
pub struct ContentLayer {
    pub(super) shared: Arc<Shared>,
}

/// What a layer was told.
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

/// What all services of a layer have in common.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) queue: Queue,
    /// A task takes from the queue.
    pub(super) is_running: AtomicBool,
    /// Another deletes what has been kept for long enough.
    pub(super) is_sweeping: AtomicBool,
}

impl ContentLayer {
    /// Into this sink, of the calls of those keys that say so: [`keep`](Self::keep) is for all.
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

    /// So much of every call of this stack, unless its key or a gate says otherwise; nothing unless set.
    #[must_use]
    pub fn keep(self, keep: Keep) -> Self {
        self.with(|settings| settings.keep = keep)
    }

    /// Redacts by this one. Without one, of what is to be redacted nothing is kept.
    #[must_use]
    pub fn redact_by(self, redactor: impl Redactor) -> Self {
        self.with(|settings| settings.redactor = Some(Arc::new(redactor)))
    }

    /// Writes down in this journal what the sink is about to get.
    #[must_use]
    pub fn sealed_by(self, sealer: Sealer) -> Self {
        self.with(|settings| settings.sealer = Some(sealer))
    }

    /// Deletes what came to its end so long ago: looks every minute, from when it is in a stack. Kept for ever unless set.
    ///
    /// No clock is believed at once, since what is gone does not come back: nothing is deleted in the first hour, and a clock that
    /// goes ahead of the time that passes is believed after it has been so for a day; neither waits for longer than `time`.
    #[must_use]
    pub fn retain(self, time: Duration) -> Self {
        self.with(|settings| settings.retention = Some(time))
    }

    /// Of a longer body than this, in bytes, its length alone is kept; 8 MiB unless set.
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        self.with(|settings| settings.most = bytes)
    }

    /// So many bytes of bodies may be on their way to the sink, with those of answers that still come; 64 MiB unless set. What
    /// finds no room is not kept. What is compressed counts as it came.
    #[must_use]
    pub fn max_in_memory(self, bytes: usize) -> Self {
        self.with(|settings| settings.room = bytes)
    }

    /// One that is in a stack already keeps its own.
    fn with(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        set(&mut settings);
        Self::of(settings)
    }

    /// Bodies that were not kept, because they found no room, or their sink would not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.queue.dropped()
    }

    /// Waits until all that has come to its end by now is kept, or given up; half a minute at most, for a sink that takes
    /// nothing. What it has not had by then it is told of as long as the process and this runtime live, and after that nobody
    /// has it, as the log says.
    ///
    /// # Cancellation
    /// Dropping this future stops the waiting, not the writing.
    pub async fn flush(&self) {
        let written = self.shared.queue.flush();
        task::start(&self.shared);
        if tokio::time::timeout(LONG, written).await.is_err() {
            tracing::error!(
                "content is not kept after half a minute: it is in memory only, and lost if the process ends now"
            );
        }
    }

    /// The service in front of `inner`, within a call that is open.
    pub(crate) fn around<S>(&self, inner: S) -> ContentService<S> {
        let Settings { keep, redactor, .. } = &self.shared.settings;
        if *keep == Keep::Redacted && redactor.is_none() {
            tracing::error!("what is to be redacted is not kept: `ContentLayer` has nobody to redact it by");
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
