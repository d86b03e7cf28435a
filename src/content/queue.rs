//! Bodies on their way to the sink.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::redact::Form;
use crate::body::{Budget, Share};
use crate::call::Call;
use crate::domain::audit::in_micros;
use crate::domain::content::{Content, Keep, LeftOut, Side};

/// A body that has ended, or that broke off.
pub(super) struct Taken {
    /// All metadata, without the content.
    pub(super) content: Content,
    /// The body, unless it was too long.
    pub(super) body: Option<Bytes>,
    /// The room that it takes.
    pub(super) share: Share,
    pub(super) form: Form,
    pub(super) model: Arc<str>,
}

impl Taken {
    pub(super) fn new(call: &Call, side: Side, keep: Keep, form: Form, share: Share) -> Self {
        let principal = call.principal();
        let content = Content {
            key_id: principal.and_then(|principal| principal.key),
            user: principal.and_then(|principal| principal.user.clone()),
            ..Content::stored(call.id(), side, in_micros(call.now()), keep, 0)
        };
        let model = call.head().map_or_else(|| "".into(), |head| head.shared_model().clone());
        Taken { content, body: None, share, form, model }
    }

    /// Records when and how the body ended.
    pub(super) fn ended(&mut self, at: Timestamp, is_whole: bool, bytes: u64, body: Option<Bytes>) {
        (self.content.at, self.content.is_whole, self.content.bytes) = (in_micros(at), is_whole, bytes);
        self.content.left_out = body.is_none().then_some(LeftOut::TooLong);
        self.body = body;
    }
}

/// Why a body is not kept.
pub(super) const NO_ROOM: &str = "there is no room for more bodies";

/// An item of the queue.
pub(super) enum Item {
    Body(Box<Taken>),
    /// Answered when everything before it is kept or given up.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Queue {
    waiting: Mutex<VecDeque<Item>>,
    /// The room for all bodies, including those still being read.
    pub(super) room: Arc<Budget>,
    /// The number of bodies that should have been kept and were not.
    dropped: AtomicU64,
    /// Whether the last body was lost.
    is_losing: AtomicBool,
}

/// The most bodies in the queue, however short they are.
const MOST: usize = 65_536;

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Queue {
            waiting: Mutex::default(),
            room: Arc::new(Budget::new(room)),
            dropped: AtomicU64::new(0),
            is_losing: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, taken: Taken) {
        let refused = {
            let mut waiting = self.lock();
            match waiting.len() < MOST {
                true => {
                    waiting.push_back(Item::Body(Box::new(taken)));
                    None
                }
                false => Some(taken),
            }
        };
        if refused.is_some() {
            self.drop_one("too many bodies are waiting for the sink");
        }
    }

    /// Called when the sink has taken some.
    pub(super) fn kept(&self) {
        if self.is_losing.swap(false, Ordering::Relaxed) {
            tracing::info!(dropped = self.dropped(), "content is kept again");
        }
    }

    pub(super) fn has_any(&self) -> bool {
        !self.lock().is_empty()
    }

    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        self.lock().push_back(Item::Flush(done));
        written
    }

    /// Takes waiting items up to one batch: at most this many bodies and bytes.
    pub(super) fn take(&self, most: usize, most_bytes: u64) -> Vec<Item> {
        let mut waiting = self.lock();
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < most && bytes < most_bytes {
            let Some(item) = waiting.pop_front() else { break };
            if let Item::Body(taken) = &item {
                bytes += taken.body.as_ref().map_or(0, |body| body.len() as u64);
            }
            let is_flush = matches!(item, Item::Flush(_));
            items.push(item);
            if is_flush {
                break;
            }
        }
        items
    }

    /// Counts a body that is not kept.
    pub(super) fn drop_one(&self, why: &'static str) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if !self.is_losing.swap(true, Ordering::Relaxed) {
            tracing::error!(why, "content is not kept; calls and audit records are not affected");
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
