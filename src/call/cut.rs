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
    /// Its client is as good as gone: its answer may be read on.
    Slow,
    /// It is over, and with it what goes on upstream.
    HungUp,
}

/// What a call is cut by, whether its answer is still awaited or on its way out.
pub(super) struct Door {
    of: LiveCalls,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    why: Option<Rejection>,
    /// Of whoever waits for the answer.
    waker: Option<Waker>,
    /// The answer, once its head has gone out.
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
    /// Ends the call, unless its client's side has ended, or is being told that it was refused: that goes out as it is.
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

    /// Whoever says so ends it.
    fn note_cut(&self, why: &Rejection, how: Cut) -> bool {
        let mut state = self.state();
        let is_over = state.client.end.is_some() || state.client.rejection.is_some();
        if is_over || state.cut.is_some() {
            return false;
        }
        state.cut = Some((how, why.clone()));
        true
    }

    /// Its answer breaks off here, for this reason. Whose client has left is told nothing.
    pub(super) fn cut_by_itself(&self, why: &Rejection) {
        if !self.note_cut(why, Cut::HungUp) {
            self.note(Decision::refuse("cut", why.shared_message()));
        }
    }

    pub(super) fn is_cut(&self, how: Cut) -> bool {
        self.state().cut.as_ref().is_some_and(|cut| cut.0 == how)
    }

    /// Why the answer that is waited for will not come; if it still may, the task is woken when it no longer does.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Option<Rejection> {
        let mut inside = self.shared.door.as_ref()?.inside();
        if inside.why.is_none() && !inside.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inside.waker = Some(cx.waker().clone());
        }
        inside.why.take()
    }

    /// The body of an answer that is no refusal, which can be cut if the call can.
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

    /// Since when its client, as far as anybody looked, has taken nothing of what there is for it.
    pub(super) fn takes_nothing_since(&self, now: Instant) -> Option<Instant> {
        let answer = self.shared.door.as_ref()?.inside().answer.clone()?;
        answer.takes_nothing_since(now)
    }

    /// The client's side has ended.
    pub(super) fn out_of_door(&self) {
        if let Some(door) = &self.shared.door {
            door.of.leave(self.id());
            // It has the call in it.
            let answer = door.inside().answer.take();
            drop(answer);
        }
    }
}
