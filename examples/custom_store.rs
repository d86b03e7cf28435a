//! A budget store of one's own, held to all that ours promise: `cargo run --example custom_store --features conformance`
//!
//! It keeps every call and adds them up each time: two tables, and a transaction in place of the mutex, make a database
//! of it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tollgate::domain::clock::{Clock, SystemClock};
use tollgate::domain::{budget::Budget, ledger::Account, money::Money};
use tollgate::store::budget::{BudgetStore, Grant, Pinned, Reservation, Reserve, Standing, Verdict};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

#[derive(Default)]
struct Tables {
    now: Timestamp,
    alive_until: HashMap<Uuid, Timestamp>,
    /// Whose call, what it was granted, and what was spent of it; nothing yet while it is held.
    calls: HashMap<Uuid, (Uuid, Grant, Option<Money>)>,
    settled: HashSet<Uuid>,
}

#[derive(Default)]
struct OneMutex(Mutex<Tables>);

impl OneMutex {
    /// Time never goes back, and what silent sessions hold is spent before anything is decided.
    fn begin(&self, at: At) -> MutexGuard<'_, Tables> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Tables { now, alive_until, calls, .. } = &mut *tables;
        *now = (*now).max(if let At::Fixed(time) = at { time } else { SystemClock.now() });
        let silent =
            |(session, _, spent): &&mut (Uuid, Grant, Option<Money>)| spent.is_none() && alive_until[session] < *now;
        calls.values_mut().filter(silent).for_each(|call| call.2 = Some(call.1.reservation.granted));
        tables
    }
}

impl Tables {
    fn standing(&self, budget: &Budget) -> Standing {
        let (window_start, resets_at) = budget.pot.window.around(self.now);
        let (pinned, mut account) = (Pinned { pot: budget.pot.clone(), window_start }, Account::default());
        account.window_start = window_start;
        for (_, grant, spent) in self.calls.values().filter(|(_, grant, _)| grant.reservation.pots.contains(&pinned)) {
            match spent {
                None => account.hold(grant.reservation.granted),
                Some(spent) => account.settle(window_start, Money::ZERO, *spent),
            }
        }
        Standing::new(budget.clone(), account, resets_at)
    }
}

#[async_trait]
impl BudgetStore for OneMutex {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.heartbeat(ask.session, at).await?;
        let mut tables = self.begin(at);
        if let Some((_, grant, _)) = tables.calls.get(&ask.id) {
            return Ok(Verdict::Allow(grant.clone()));
        }
        let standings: Vec<_> = ask.budgets.iter().map(|budget| tables.standing(budget)).collect();
        let verdict = ask.answer(&standings, tables.now);
        if let Verdict::Allow(grant) = &verdict {
            tables.calls.insert(ask.id, (ask.session.id, grant.clone(), None));
        }
        Ok(verdict)
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<(), StoreError> {
        let mut tables = self.begin(at);
        if tables.settled.insert(reservation.id) {
            // One of before a restart is not known here, and its money is spent all the same.
            let unknown = Grant { reservation: reservation.clone(), left: Money::ZERO };
            tables.calls.entry(reservation.id).or_insert((Uuid::nil(), unknown, None)).2 = Some(actual);
        }
        Ok(())
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        let mut tables = self.begin(at);
        let until = tables.now.saturating_add(session.lease).unwrap_or(Timestamp::MAX);
        tables.alive_until.insert(session.id, until);
        Ok(())
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        let tables = self.begin(at);
        Ok(budgets.iter().map(|budget| tables.standing(budget)).collect())
    }
}

#[tokio::main]
async fn main() {
    conformance::budgets(async || OneMutex::default()).await.iter().for_each(|rule| println!("ok  {rule}"));
}
