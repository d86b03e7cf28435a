use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::Call;
use super::body::CallBody;
use super::live::LiveCalls;
use super::live_body::{Cell, LiveBody};
use crate::body::Body;
use crate::domain::outcome::Decision;
use crate::domain::rejection::Rejection;

/// How a call was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its client does not read: the answer may still be drained.
    Slow,
    /// The call is over, including its upstream request.
    HungUp,
}

/// Lets a call be cut, both before and after the head of its answer.
pub(super) struct Door {
    of: LiveCalls,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    why: Option<Rejection>,
    /// Wakes the task that waits for the answer.
    waker: Option<Waker>,
    /// The answer's body, once its head has been sent.
    answer: Option<Arc<Cell>>,
}

impl Door {
    pub(super) fn new(of: LiveCalls) -> Self {
        Door { of, inside: Mutex::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Cuts the call. Does nothing if the client's side has ended, or if a refusal is already on its way.
    pub(super) fn cut(&self, why: &Rejection, how: Cut) -> bool {
        let Some(door) = &self.shared.door else { return false };
        if !self.note_cut(why, how) {
            return false;
        }
        let mut inside = door.inside();
        inside.why = Some(why.clone());
        let (waker, answer) = (inside.waker.take(), inside.answer.clone());
        drop(inside);
        if let Some(answer) = answer {
            answer.cut(why);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Records the cut; only the first caller gets `true`.
    fn note_cut(&self, why: &Rejection, how: Cut) -> bool {
        let mut state = self.state();
        let is_over = state.client.end.is_some() || state.client.rejection.is_some();
        if is_over || state.cut.is_some() {
            return false;
        }
        state.cut = Some((how, why.clone()));
        true
    }

    /// Records that the answer breaks off here, for this reason. If the client has left, it is only noted.
    pub(super) fn cut_by_itself(&self, why: &Rejection) {
        if !self.note_cut(why, Cut::HungUp) {
            self.note(Decision::refuse("cut", why.shared_message()));
        }
    }

    pub(super) fn is_cut(&self, how: Cut) -> bool {
        self.state().cut.as_ref().is_some_and(|cut| cut.0 == how)
    }

    /// The reason, if the awaited answer was cut. Otherwise registers the task to be woken by a cut.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Option<Rejection> {
        let mut inside = self.shared.door.as_ref()?.inside();
        if inside.why.is_none() && !inside.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inside.waker = Some(cx.waker().clone());
        }
        inside.why.take()
    }

    /// Wraps an answer that is no refusal, so that it can be cut if the call can.
    pub(super) fn cuttable(&self, body: CallBody) -> Body {
        let Some(door) = &self.shared.door else { return Body::own(body) };
        let cell = Arc::new(Cell::new(body));
        let mut inside = door.inside();
        (inside.answer, inside.waker) = (Some(cell.clone()), None);
        let why = inside.why.clone();
        drop(inside);
        if let Some(why) = why {
            cell.cut(&why);
        }
        Body::own(LiveBody::new(cell))
    }

    /// Since when the client has been seen not to read what is ready for it.
    pub(super) fn takes_nothing_since(&self, now: Instant) -> Option<Instant> {
        let answer = self.shared.door.as_ref()?.inside().answer.clone()?;
        answer.takes_nothing_since(now)
    }

    /// Removes the call from the live calls when the client's side has ended.
    pub(super) fn out_of_door(&self) {
        if let Some(door) = &self.shared.door {
            door.of.leave(self.id());
            // The cell holds the call: this breaks the cycle.
            let answer = door.inside().answer.take();
            drop(answer);
        }
    }
}
