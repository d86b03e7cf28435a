//! The interface to the one task that writes: the questions, and the way back for answers.

use std::mem::{Discriminant, discriminant};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::again::{Asked, Came, Known, Queued};
use super::error::{SqliteError, SqliteErrorKind};
use super::open::Setup;
use super::task::Task;
use super::{admission, audit, budgets, contents, limits};
use crate::domain::key::KeyRecord;
use crate::store::{self, StoreError, budget, rate_limit};

/// The most waiting questions that have no value without their caller. It is more than a thousand concurrent calls
/// make, and what a working disk handles in a second. If the disk hangs, callers give up and ask again, and each leaves
/// one behind.
const MOST: usize = 1 << 13;
/// The most waiting settlements: more than may wait to be told (`call::waiting`). Those of abandoned calls stay in the
/// queue, and calls whose budgets are all soft go on while the disk hangs.
pub(super) const MOST_OWED: usize = 1 << 18;

/// What a repeated question has in common with the first.
pub(super) type Thing = (Discriminant<Question>, Uuid);

/// A question to the writer.
pub(super) enum Question {
    Admission(Box<admission::Question>),
    Budget(budgets::Question),
    Limit(limits::Question),
    Key(Box<KeyRecord>),
    Audit(Vec<audit::Line>),
    Content(contents::Question),
    /// Sync everything, and close the file.
    Close,
}

/// The answer to a question.
pub(super) enum Reply {
    Admission(store::admission::Verdict),
    Verdict(budget::Verdict),
    Extended(budget::Verdict),
    Standings(Vec<budget::Standing>),
    Settled(Vec<budget::Crossing>),
    LimitVerdict(rate_limit::Verdict),
    LimitStandings(Vec<rate_limit::Standing>),
    Key(store::key::Put),
    Deleted(u64),
    Done,
}

pub(super) type Answer = Result<Reply, StoreError>;

pub(super) struct Ask {
    asked: Arc<Asked>,
    /// Where a caller with the same question finds it.
    _known: Option<Known>,
    /// For questions that may be refused: taken until it is answered.
    _place: Option<Place>,
}

/// One of the [`MOST`] or of the [`MOST_OWED`] places.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// `None` if all are taken.
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        // It is counted first, and given back if it was one too many.
        let place = Place(taken.clone());
        (taken.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer on its way. If it is never opened, its grant is taken back: its caller has not received it, so nobody can
/// have spent it, and it would be held until the session ends.
pub(super) struct Letter {
    answer: Option<Answer>,
    back: mpsc::WeakUnboundedSender<Ask>,
}

impl Ask {
    fn new(question: Question, asker: oneshot::Sender<Letter>) -> Self {
        Ask { asked: Arc::new(Asked::new(question, asker)), _known: None, _place: None }
    }

    pub(super) fn question(&self) -> &Question {
        &self.asked.question
    }

    /// Whether an answer would be of no use.
    pub(super) fn is_given_up(&self) -> bool {
        self.question().is_for_its_asker() && self.asked.is_left()
    }

    /// Sends an answer. `back` is the queue for what its caller never receives.
    pub(super) fn answer(self, answer: Answer, back: &mpsc::WeakUnboundedSender<Ask>) {
        let letter = Letter { answer: Some(answer), back: back.clone() };
        if let Some(asker) = self.asked.take_asker() {
            let _ = asker.send(letter);
        }
    }
}

impl Letter {
    fn open(mut self) -> Answer {
        self.answer.take().unwrap_or(Ok(Reply::Done))
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        let (permit, grant) = match &self.answer {
            Some(Ok(Reply::Verdict(budget::Verdict::Allow(grant)))) => (None, Some(grant)),
            Some(Ok(Reply::LimitVerdict(rate_limit::Verdict::Allow(allowed)))) => (Some(allowed), None),
            Some(Ok(Reply::Admission(store::admission::Verdict::Allow(admitted)))) => {
                (admitted.allowed.as_ref(), admitted.grant.as_ref())
            }
            _ => return,
        };
        let permit = permit.map(|allowed| Question::Limit(limits::Question::Unheard(allowed.permit.id)));
        let grant = grant.map(|grant| Question::Budget(budgets::Question::Unheard(grant.reservation.id)));
        for question in permit.into_iter().chain(grant) {
            if let Some(queue) = self.back.upgrade() {
                let _ = queue.send(Ask::new(question, oneshot::channel().0));
            }
        }
    }
}

impl Question {
    /// Whether it is worth waiting for the disk.
    pub(super) fn is_durable(&self) -> bool {
        match self {
            Question::Budget(question) => question.is_settlement(),
            Question::Key(_) | Question::Audit(_) | Question::Content(_) | Question::Close => true,
            Question::Limit(_) | Question::Admission(_) => false,
        }
    }

    /// Whether it may hold money.
    pub(super) fn is_reserve(&self) -> bool {
        match self {
            Question::Budget(question) => question.is_reserve(),
            Question::Admission(question) => question.is_reserve(),
            _ => false,
        }
    }

    /// Whether it is worth nothing once nobody waits for its answer.
    fn is_for_its_asker(&self) -> bool {
        match self {
            Question::Budget(question) => question.is_for_its_asker(),
            Question::Limit(question) => question.is_for_its_asker(),
            Question::Admission(_) => true,
            Question::Key(_) | Question::Audit(_) | Question::Content(_) | Question::Close => false,
        }
    }

    fn is_settlement(&self) -> bool {
        match self {
            Question::Budget(question) => question.is_settlement(),
            Question::Limit(question) => question.is_settlement(),
            _ => false,
        }
    }

    /// What the question is about, if it is done even if nobody waits for it, and a caller without an answer asks
    /// again.
    pub(super) fn thing(&self) -> Option<Thing> {
        let id = match self {
            Question::Budget(question) => question.about(),
            Question::Limit(question) => question.about(),
            Question::Audit(lines) => audit::about(lines),
            Question::Content(question) => question.about(),
            Question::Admission(_) | Question::Key(_) | Question::Close => None,
        };
        Some((discriminant(self), id?))
    }

    /// Whether doing one of the two does both.
    pub(super) fn is_again(&self, other: &Question) -> bool {
        match (self, other) {
            (Question::Budget(one), Question::Budget(other)) => one.is_again(other),
            (Question::Limit(one), Question::Limit(other)) => one.is_again(other),
            (Question::Audit(lines), Question::Audit(others)) => audit::are_again(lines, others),
            (Question::Content(one), Question::Content(other)) => one.is_again(other),
            _ => false,
        }
    }
}

/// The handle of the writer.
#[derive(Debug)]
pub(super) struct Writer {
    state: Mutex<State>,
    /// The places that are taken, and those taken by settlements.
    taken: Arc<AtomicUsize>,
    pub(super) owed: Arc<AtomicUsize>,
    pub(super) queued: Arc<Queued>,
}

#[derive(Debug)]
enum State {
    Idle,
    Running(mpsc::UnboundedSender<Ask>),
    Closed,
}

impl Writer {
    pub(super) fn new() -> Self {
        Writer { state: Mutex::new(State::Idle), taken: Arc::default(), owed: Arc::default(), queued: Arc::default() }
    }

    /// Asks, and waits for the answer. A caller that stops waiting disturbs nobody. What has to be done in any case,
    /// such as settlements and records, is done all the same, and is in the queue once, however often it is asked for.
    pub(super) async fn ask(&self, setup: &Arc<Setup>, question: Question) -> Answer {
        let (answer, answered) = oneshot::channel();
        let places = match &question {
            question if question.is_for_its_asker() => Some((&self.taken, MOST)),
            question if question.is_settlement() => Some((&self.owed, MOST_OWED)),
            _ => None,
        };
        if let Came::New(asked, known) = self.queued.come(question, answer) {
            let place = places.map(|(taken, most)| Place::take(taken, most));
            if matches!(place, Some(None)) {
                return Err(SqliteError::new(setup.path(), SqliteErrorKind::Behind).into());
            }
            self.send(setup, Ask { asked, _known: known, _place: place.flatten() })?;
        }
        match answered.await {
            Ok(letter) => letter.open(),
            // The runtime ended with the writer, perhaps between its commit and its answer.
            Err(gone) => Err(StoreError::uncertain(gone)),
        }
    }

    /// Closes the writer for new questions. `None` if nobody ever asked, or it was closed before.
    pub(super) fn close(&self) -> Option<impl Future<Output = Answer>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Running(queue) = std::mem::replace(&mut *state, State::Closed) else { return None };
        let (answer, answered) = oneshot::channel();
        queue.send(Ask::new(Question::Close, answer)).ok()?;
        Some(async { answered.await.map_err(StoreError::uncertain)?.open() })
    }

    fn send(&self, setup: &Arc<Setup>, mut ask: Ask) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Running(queue) => match queue.send(ask) {
                Ok(()) => return Ok(()),
                // The runtime that it ran on is gone, and so is the writer.
                Err(mpsc::error::SendError(unsent)) => ask = unsent,
            },
            State::Idle => {}
            State::Closed => return Err(SqliteError::new(setup.path(), SqliteErrorKind::Closed).into()),
        }
        let runtime = Handle::try_current().map_err(StoreError::unavailable)?;
        let (queue, asks) = mpsc::unbounded_channel();
        queue.send(ask).map_err(|_| SqliteError::new(setup.path(), SqliteErrorKind::Closed))?;
        runtime.spawn(Task::new(setup.clone(), queue.downgrade()).run(asks));
        *state = State::Running(queue);
        Ok(())
    }
}
