use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::meters::Meters;
use super::schema::Times;
use super::writer::{Answer, Question as Asked, Reply};
use super::{Sqlite, meter_rows, schema, unexpected};
use crate::domain::limit::Limit;
use crate::store::rate_limit::{Acquire, Permit, RateLimitStore, Standing, Used, Verdict};
use crate::store::{At, Session, StoreError};

/// The latest time that limits were decided by.
pub(super) const CLOCK: &str = "limit_clock";
/// When the first lease of a session ends.
pub(super) const LEASE: &str = "limit_lease";

/// Limits in the file, so that a restart or a second process does not give away a minute's worth again.
///
/// If the future of an `acquire` is dropped, at whatever point, nothing is counted. A permit that nobody settles is
/// forgotten an hour after its session fell silent.
#[derive(Clone)]
pub struct SqliteLimits {
    sqlite: Sqlite,
}

impl SqliteLimits {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        SqliteLimits { sqlite }
    }

    async fn ask(&self, what: What, at: At) -> Answer {
        self.sqlite.ask(Asked::Limit(Question::Asked(what, at))).await
    }
}

#[async_trait]
impl RateLimitStore for SqliteLimits {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<Verdict, StoreError> {
        match self.ask(What::acquire(ask), at).await? {
            Reply::LimitVerdict(verdict) => Ok(verdict),
            _ => Err(unexpected()),
        }
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        let limits = permit.taken.iter().map(|taken| taken.limit.clone()).collect();
        self.ask(What::Settle { id: permit.id, limits, used }, at).await.map(drop)
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.ask(What::Beat(session), at).await.map(drop)
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<Standing>, StoreError> {
        match self.ask(What::Standing(limits.to_vec()), at).await? {
            Reply::LimitStandings(standings) => Ok(standings),
            _ => Err(unexpected()),
        }
    }
}

impl fmt::Debug for SqliteLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLimits").field("path", &self.sqlite.path()).finish_non_exhaustive()
    }
}

pub(super) enum Question {
    Asked(What, At),
    /// The caller never received the permit of this id.
    Unheard(Uuid),
}

pub(super) enum What {
    Acquire { id: Uuid, session: Session, limits: Vec<Limit>, tokens: u64 },
    Settle { id: Uuid, limits: Vec<Limit>, used: Used },
    Beat(Session),
    Standing(Vec<Limit>),
}

impl What {
    pub(super) fn acquire(ask: &Acquire<'_>) -> Self {
        What::Acquire { id: ask.id, session: ask.session, limits: ask.limits.to_vec(), tokens: ask.tokens }
    }

    /// The request, if it is one.
    pub(super) fn asked(&self) -> Option<Acquire<'_>> {
        let What::Acquire { id, session, limits, tokens } = self else { return None };
        Some(Acquire::new(*id, *session, limits).tokens(*tokens))
    }
}

impl Question {
    pub(super) fn is_for_its_asker(&self) -> bool {
        matches!(self, Question::Asked(What::Acquire { .. } | What::Standing(_), _))
    }

    pub(super) fn is_settlement(&self) -> bool {
        matches!(self, Question::Asked(What::Settle { .. }, _))
    }

    /// The id of a question that is carried out even if nobody waits for it.
    pub(super) fn about(&self) -> Option<Uuid> {
        match self {
            Question::Asked(What::Settle { id, .. }, _) => Some(*id),
            Question::Asked(What::Beat(session), _) => Some(session.id),
            _ => None,
        }
    }

    pub(super) fn is_again(&self, other: &Question) -> bool {
        match (self, other) {
            (Question::Asked(What::Settle { id, limits, used }, at), Question::Asked(other, time)) => {
                matches!(other, What::Settle { id: i, limits: l, used: u } if (id, limits, used, at) == (i, l, u, time))
            }
            (Question::Asked(What::Beat(session), at), Question::Asked(What::Beat(other), time)) => {
                (session, at) == (other, time)
            }
            _ => false,
        }
    }

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
    for same in questions.chunk_by(|one, other| one.at() == other.at()) {
        let (now, may_be_silent) = times.step(same[0].at());
        let mut meters = Meters::new(now);
        let silent = meter_rows::load(connection, &mut meters, same, may_be_silent, times.has_freed).await?;
        times.has_freed |= !silent.is_empty();
        meters.free(&silent);
        answers.extend(same.iter().map(|question| answer(&mut meters, question)));
        meter_rows::save(connection, &meters, &silent).await?;
    }
    schema::set_later(connection, CLOCK, times).await?;
    Ok(answers)
}

fn answer(meters: &mut Meters, question: &Question) -> Answer {
    match question {
        Question::Asked(what @ What::Acquire { .. }, _) => {
            if let Some(ask) = what.asked() {
                return Ok(Reply::LimitVerdict(meters.acquire(&ask)));
            }
        }
        Question::Asked(What::Settle { id, used, .. }, _) => meters.settle(*id, *used),
        Question::Asked(What::Beat(session), _) => meters.hear(*session),
        Question::Asked(What::Standing(limits), _) => return Ok(Reply::LimitStandings(meters.standings(limits))),
        Question::Unheard(id) => meters.take_back(*id),
    }
    Ok(Reply::Done)
}
