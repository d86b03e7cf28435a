use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::ledger::Ledger;
use super::schema::Times;
use super::writer::{Answer, Question as Asked, Reply};
use super::{Sqlite, rows, schema, unexpected};
use crate::domain::budget::Budget;
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::store::budget::{BudgetStore, Crossing, Memory, Reservation, Reserve, Standing, Verdict};
use crate::store::{At, Session, StoreError};

/// The latest time that budgets were decided by.
pub(super) const CLOCK: &str = "budget_clock";
/// When the first lease of a session ends.
pub(super) const LEASE: &str = "budget_lease";

/// The age from which a row of the ledger may be deleted: see [the module](super).
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Budgets in the file. A settlement is on the disk when `settle` returns; for a hold see [the module](super).
///
/// If the future of a `reserve` is dropped, at whatever point, nothing is held. An id that was settled is not granted
/// again.
#[derive(Clone)]
pub struct SqliteBudgets {
    sqlite: Sqlite,
}

impl SqliteBudgets {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        SqliteBudgets { sqlite }
    }

    async fn ask(&self, what: What, at: At) -> Answer {
        self.sqlite.ask(Asked::Budget(Question::Asked(what, at))).await
    }
}

#[async_trait]
impl BudgetStore for SqliteBudgets {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        match self.ask(What::reserve(ask), at).await? {
            Reply::Verdict(verdict) => Ok(verdict),
            _ => Err(unexpected()),
        }
    }

    async fn extend(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        match self.ask(What::extend(ask), at).await? {
            Reply::Extended(verdict) => Ok(verdict),
            _ => Err(unexpected()),
        }
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        match self.ask(What::Settle(reservation.clone(), actual), at).await? {
            Reply::Settled(news) => Ok(news),
            _ => Err(unexpected()),
        }
    }

    fn memory(&self) -> Memory {
        Memory::of(KEPT)
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.ask(What::Beat(session), at).await.map(drop)
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        match self.ask(What::Standing(budgets.to_vec()), at).await? {
            Reply::Standings(standings) => Ok(standings),
            _ => Err(unexpected()),
        }
    }
}

impl fmt::Debug for SqliteBudgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBudgets").field("path", &self.sqlite.path()).finish_non_exhaustive()
    }
}

pub(super) enum Question {
    Asked(What, At),
    /// The caller never received the grant of this id.
    Unheard(Uuid),
}

/// A request that waits in the queue.
pub(super) struct Asking {
    pub(super) id: Uuid,
    session: Session,
    pub(super) budgets: Vec<Budget>,
    wish: Wish,
}

impl Asking {
    fn new(ask: &Reserve<'_>) -> Self {
        Asking { id: ask.id, session: ask.session, budgets: ask.budgets.to_vec(), wish: ask.wish }
    }

    pub(super) fn ask(&self) -> Reserve<'_> {
        Reserve::new(self.id, self.session, &self.budgets, self.wish)
    }
}

pub(super) enum What {
    Reserve(Asking),
    Extend(Asking),
    Settle(Reservation, Money),
    Beat(Session),
    Standing(Vec<Budget>),
}

impl What {
    pub(super) fn reserve(ask: &Reserve<'_>) -> Self {
        What::Reserve(Asking::new(ask))
    }

    fn extend(ask: &Reserve<'_>) -> Self {
        What::Extend(Asking::new(ask))
    }

    /// The request, if it is one.
    pub(super) fn asked(&self) -> Option<Reserve<'_>> {
        let What::Reserve(asking) = self else { return None };
        Some(asking.ask())
    }
}

impl Question {
    pub(super) fn is_settlement(&self) -> bool {
        matches!(self, Question::Asked(What::Settle(..), _))
    }

    pub(super) fn is_reserve(&self) -> bool {
        matches!(self, Question::Asked(What::Reserve(_) | What::Extend(_), _))
    }

    pub(super) fn is_for_its_asker(&self) -> bool {
        matches!(self, Question::Asked(What::Reserve(_) | What::Extend(_) | What::Standing(_), _))
    }

    /// The id of a question that is carried out even if nobody waits for it.
    pub(super) fn about(&self) -> Option<Uuid> {
        match self {
            Question::Asked(What::Settle(reservation, _), _) => Some(reservation.id),
            Question::Asked(What::Beat(session), _) => Some(session.id),
            _ => None,
        }
    }

    pub(super) fn is_again(&self, other: &Question) -> bool {
        match (self, other) {
            (
                Question::Asked(What::Settle(reservation, actual), at),
                Question::Asked(What::Settle(other, amount), time),
            ) => (reservation, actual, at) == (other, amount, time),
            (Question::Asked(What::Beat(session), at), Question::Asked(What::Beat(other), time)) => {
                (session, at) == (other, time)
            }
            _ => false,
        }
    }

    /// The time to decide by. Taking back a grant uses the latest time there was.
    fn at(&self) -> At {
        match self {
            Question::Asked(_, at) => *at,
            Question::Unheard(_) => At::Fixed(Timestamp::MIN),
        }
    }
}

/// Answers the questions in order, in the writer's transaction.
pub(super) async fn decide(
    connection: &mut SqliteConnection,
    times: &mut Times,
    questions: &[&Question],
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut answers = Vec::with_capacity(questions.len());
    // Unless a test names several times, a whole batch is decided at one.
    for same in questions.chunk_by(|one, other| one.at() == other.at()) {
        let (now, may_be_silent) = times.step(same[0].at());
        let mut ledger = Ledger::new(now);
        let silent = rows::load(connection, &mut ledger, same, may_be_silent).await?;
        ledger.forfeit(&silent);
        answers.extend(same.iter().map(|question| answer(&mut ledger, question)));
        rows::save(connection, &ledger, &silent).await?;
    }
    schema::set_later(connection, CLOCK, times).await?;
    Ok(answers)
}

fn answer(ledger: &mut Ledger, question: &Question) -> Answer {
    match question {
        Question::Asked(What::Reserve(asking), _) => return ledger.reserve(&asking.ask()).map(Reply::Verdict),
        // An extension that its caller never received is not taken back: the hold goes on, and its settlement covers
        // all of it.
        Question::Asked(What::Extend(asking), _) => return ledger.extend(&asking.ask()).map(Reply::Extended),
        Question::Asked(What::Settle(reservation, actual), _) => {
            return Ok(Reply::Settled(ledger.settle(reservation, *actual)));
        }
        Question::Asked(What::Beat(session), _) => ledger.hear(*session),
        Question::Asked(What::Standing(budgets), _) => {
            return Ok(Reply::Standings(budgets.iter().map(|budget| ledger.standing(budget)).collect()));
        }
        Question::Unheard(id) => ledger.take_back(*id),
    }
    Ok(Reply::Done)
}
