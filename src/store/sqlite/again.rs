//! Work that must be done even if nobody waits for it, and that a caller without an answer asks for again. However
//! often that happens, it is in the queue once.

use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::sync::oneshot;

use super::writer::{Letter, Question, Thing};

/// A question, and the receiver of its answer until that is sent.
pub(super) struct Asked {
    pub(super) question: Question,
    asker: Mutex<Option<oneshot::Sender<Letter>>>,
}

impl Asked {
    pub(super) fn new(question: Question, asker: oneshot::Sender<Letter>) -> Self {
        Asked { question, asker: Mutex::new(Some(asker)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<oneshot::Sender<Letter>>> {
        self.asker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its caller has stopped waiting.
    pub(super) fn is_left(&self) -> bool {
        self.lock().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    pub(super) fn take_asker(&self) -> Option<oneshot::Sender<Letter>> {
        self.lock().take()
    }
}

/// The questions of this kind in the queue.
#[derive(Default)]
pub(super) struct Queued {
    by_thing: Mutex<HashMap<Thing, Arc<Asked>>>,
}

/// A question's place there, for as long as it is in the queue.
pub(super) struct Known {
    thing: Thing,
    asked: Arc<Asked>,
    among: Arc<Queued>,
}

/// The result of adding a question.
pub(super) enum Came {
    /// It is in the queue already, and will be answered to this caller.
    Again,
    /// It must be put into the queue.
    New(Arc<Asked>, Option<Known>),
}

impl Queued {
    fn lock(&self) -> MutexGuard<'_, HashMap<Thing, Arc<Asked>>> {
        self.by_thing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether the question is in the queue and its caller has given up. Two callers that wait for the same at
    /// once have a question each, and later ones join the first.
    pub(super) fn come(self: &Arc<Self>, question: Question, asker: oneshot::Sender<Letter>) -> Came {
        let Some(thing) = question.thing() else { return Came::New(Arc::new(Asked::new(question, asker)), None) };
        let mut by_thing = self.lock();
        if let Some(before) = by_thing.get(&thing) {
            let mut to = before.lock();
            let is_left = to.as_ref().map(oneshot::Sender::is_closed);
            if is_left == Some(true) && before.question.is_again(&question) {
                *to = Some(asker);
                return Came::Again;
            }
            if is_left.is_some() {
                return Came::New(Arc::new(Asked::new(question, asker)), None);
            }
            // It has just been answered.
        }
        let asked = Arc::new(Asked::new(question, asker));
        by_thing.insert(thing, asked.clone());
        Came::New(asked.clone(), Some(Known { thing, asked, among: self.clone() }))
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.among.lock().entry(self.thing)
            && Arc::ptr_eq(entry.get(), &self.asked)
        {
            entry.remove();
        }
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::Ordering;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor, SqliteConnection};
    use uuid::Uuid;

    use super::super::writer::MOST_OWED;
    use super::super::{Sqlite, audit, budgets, contents, limits};
    use super::*;
    use crate::domain::budget::{Budget, Window};
    use crate::domain::content::{Content, Keep, Side};
    use crate::domain::ledger::Wish;
    use crate::domain::limit::{Limit, Measure};
    use crate::domain::money::Money;
    use crate::domain::scope::Scope;
    use crate::store::budget::{BudgetStore, Reservation, Reserve, Verdict};
    use crate::store::rate_limit::{Acquire, Permit, RateLimitStore, Used, Verdict as OfLimits};
    use crate::store::{At, Session};

    /// A file, with what is held in it, and who keeps its writer waiting.
    struct Hung {
        dir: std::path::PathBuf,
        sqlite: Sqlite,
        pots: [Budget; 1],
        held: Reservation,
        counted: Permit,
        other: SqliteConnection,
    }

    impl Hung {
        async fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tollgate-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a directory");
            let path = dir.join("tollgate.db");
            let sqlite = Sqlite::options().without_fsync().busy_timeout(Duration::from_secs(60)).open(&path).await;
            let sqlite = sqlite.expect("it opens");
            sqlite.migrate().await.expect("it migrates");
            let session = Session::new(Duration::from_secs(300));
            let money = Money::from_nanos;
            let pots = [Budget::new(Scope::team("search"), Window::Day, money(10))];
            let wish = Wish { min: money(8), want: money(8), share: 1 };
            let asked = sqlite.budgets().reserve(&Reserve::new(Uuid::now_v7(), session, &pots, wish), At::Store).await;
            let Ok(Verdict::Allow(grant)) = asked else { panic!("{asked:?}") };
            let limits = [Limit::new(Scope::team("search"), Measure::Requests, 5)];
            let asked = sqlite.limits().acquire(&Acquire::new(Uuid::now_v7(), session, &limits), At::Store).await;
            let Ok(OfLimits::Allow(allowed)) = asked else { panic!("{asked:?}") };
            let mut other = SqliteConnectOptions::new().filename(&path).connect().await.expect("a database");
            other.execute("BEGIN IMMEDIATE").await.expect("locked");
            Hung { dir, sqlite, pots, held: grant.reservation, counted: allowed.permit, other }
        }

        async fn end(mut self) {
            self.other.execute("ROLLBACK").await.expect("unlocked");
            self.sqlite.close().await.expect("it closes");
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    fn in_queue(sqlite: &Sqlite) -> usize {
        sqlite.inner.writer.owed.load(Ordering::Relaxed)
    }

    /// Asks, and gives up.
    fn ask_in_vain<T>(asked: impl Future<Output = T>) {
        assert!(pin!(asked).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    #[tokio::test]
    async fn a_settlement_that_is_told_again_and_again_stands_in_the_queue_once_and_the_last_hears() {
        let mut hung = Hung::new("again").await;
        let (sqlite, held, all) = (hung.sqlite.clone(), hung.held.clone(), Money::from_nanos(8));
        let (budgets, limits) = (sqlite.budgets(), sqlite.limits());
        for _ in 0..100 {
            ask_in_vain(budgets.settle(&held, all, At::Store));
            ask_in_vain(limits.settle(&hung.counted, Used::Tokens(3), At::Store));
            // The writer takes what there is, and hangs.
            tokio::task::yield_now().await;
        }
        assert_eq!(in_queue(&sqlite), 2);
        // Every caller is answered: those that wait for the same already, and one that settles for another amount.
        let [settling, beside, unlike] = [all, all, Money::ZERO].map(|money| budgets.settle(&held, money, At::Store));
        let unlock = async {
            assert_eq!(in_queue(&sqlite), 4);
            hung.other.execute("ROLLBACK").await.expect("unlocked");
        };
        let (news, beside, unlike, ()) = tokio::join!(biased; settling, beside, unlike, unlock);
        let percent: Vec<_> = news.expect("it settles").iter().map(|crossing| crossing.percent).collect();
        assert_eq!(percent, [50, 80], "each is told once, to who still listens");
        assert_eq!((beside.expect("it settles"), unlike.expect("it settles")), (Vec::new(), Vec::new()));
        let now = budgets.standing(&hung.pots, At::Store).await.expect("it answers").remove(0);
        assert_eq!((now.spent, now.held), (all, Money::ZERO));
        assert_eq!((in_queue(&sqlite), sqlite.inner.writer.queued.lock().len()), (0, 0));
        hung.other.execute("BEGIN").await.expect("as it was");
        hung.end().await;
    }

    #[tokio::test]
    async fn there_is_an_end_to_the_settlements_that_nobody_waits_for() {
        let hung = Hung::new("owed").await;
        let before = hung.sqlite.inner.writer.owed.fetch_add(MOST_OWED, Ordering::Relaxed);
        assert_eq!(before, 0);
        let budgets = hung.sqlite.budgets();
        let held = hung.held.clone();
        let mut settling = pin!(budgets.settle(&held, Money::ZERO, At::Store));
        let refused = match settling.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.expect_err("there is no room"),
            Poll::Pending => panic!("it waits"),
        };
        assert!(refused.is_unavailable() && !refused.may_have_applied(), "it is told again");
        hung.sqlite.inner.writer.owed.fetch_sub(MOST_OWED, Ordering::Relaxed);
        ask_in_vain(budgets.settle(&hung.held, Money::ZERO, At::Store));
        assert_eq!(in_queue(&hung.sqlite), 1);
        hung.end().await;
    }

    #[test]
    fn so_do_beats_records_and_contents() {
        let (session, queued) = (Session::new(Duration::from_secs(300)), Arc::<Queued>::default());
        let line = |id: u128| {
            let record = serde_json::json!({
                "schema": 1, "id": Uuid::from_u128(id), "opened_at": "2026-11-28T09:00:00Z", "dialect": "anthropic",
                "operation": "generate", "end": "complete", "took_us": 1, "bytes_out": 1,
            });
            audit::Line::of(&serde_json::from_value(record).expect("a record")).expect("a line")
        };
        let content = |side| Content {
            call: Uuid::from_u128(1),
            side,
            at: jiff::Timestamp::UNIX_EPOCH,
            key_id: None,
            user: None,
            keep: Keep::Full,
            left_out: None,
            is_whole: true,
            bytes: 2,
            media_type: None,
            coding: None,
            body: Some("hi".into()),
            seal: None,
        };
        let questions = || {
            [
                Question::Budget(budgets::Question::Asked(budgets::What::Beat(session), At::Store)),
                Question::Limit(limits::Question::Asked(limits::What::Beat(session), At::Store)),
                Question::Audit(vec![line(1), line(2)]),
                Question::Audit(vec![line(3), line(2)]),
                Question::Content(contents::Question::Write(vec![content(Side::Request)])),
            ]
        };
        let come = |question| queued.come(question, oneshot::channel().0);
        let first: Vec<_> = questions().into_iter().map(come).collect();
        assert!(first.iter().all(|came| matches!(came, Came::New(_, Some(_)))));
        assert!(questions().into_iter().map(come).all(|came| matches!(came, Came::Again)));
        // Others that begin alike are others.
        let others = [
            Question::Audit(vec![line(1), line(3)]),
            Question::Content(contents::Question::Write(vec![content(Side::Answer)])),
        ];
        assert!(others.into_iter().map(come).all(|came| matches!(came, Came::New(_, None))));
        drop(first);
        assert_eq!(queued.lock().len(), 0, "what was answered can be asked anew");
    }
}
