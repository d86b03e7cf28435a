//! A budget store of your own, checked by the suite: `cargo run --example custom_store --features conformance`.
//! The store keeps every call and adds the calls up. For a database: two tables, and transactions instead of the mutex.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tollgate::domain::{budget::Budget, budget::Pot, clock::Clock, clock::SystemClock, ledger::Account, money::Money};
use tollgate::store::budget::{BudgetStore, Crossing, Grant, Reservation, Reserve, Standing, Verdict};
use tollgate::store::{At, Session, StoreError, conformance};
use uuid::Uuid;

#[derive(Default)]
struct Tables {
    now: Timestamp,
    alive_until: HashMap<Uuid, Timestamp>,
    /// The session of each call (nil once it is settled), its grant, and the money spent (`None` while it is held).
    calls: HashMap<Uuid, (Uuid, Reservation, Option<Money>)>,
    /// The thresholds that were reported, each with the start of its window.
    told: HashSet<(Pot, Timestamp, u8)>,
}

#[derive(Default, Clone)]
struct OneMutex(Arc<Mutex<Tables>>);

impl OneMutex {
    /// Advances the time, which never goes back, and forfeits the calls of sessions that are past their lease.
    fn begin(&self, at: At) -> MutexGuard<'_, Tables> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Tables { now, alive_until, calls, .. } = &mut *tables;
        *now = (*now).max(if let At::Fixed(time) = at { time } else { SystemClock.now() });
        let held = calls.values_mut().filter(|(session, _, spent)| spent.is_none() && alive_until[session] < *now);
        held.for_each(|(_, reservation, spent)| *spent = Some(reservation.granted));
        tables
    }
}

impl Tables {
    fn account(&self, pot: &Pot) -> Account {
        let mut account = Account::new(pot.window.around(self.now).0);
        self.calls.values().for_each(|(_, call, spent)| call.add_to(&mut account, pot, *spent));
        account
    }

    fn standings(&self, budgets: &[Budget]) -> Vec<Standing> {
        let until = |pot: &Pot| pot.window.around(self.now).1;
        budgets.iter().map(|one| Standing::new(one.clone(), &self.account(&one.pot), until(&one.pot))).collect()
    }
}

#[async_trait::async_trait]
impl BudgetStore for OneMutex {
    async fn reserve(&self, ask: &Reserve<'_>, at: At) -> Result<Verdict, StoreError> {
        self.heartbeat(ask.session, at).await?;
        let mut tables = self.begin(at);
        let standings = tables.standings(ask.budgets);
        if let Some((_, reservation, _)) = tables.calls.get(&ask.id) {
            return Ok(Verdict::Allow(Grant { reservation: reservation.clone(), standings }));
        }
        let verdict = ask.answer(&standings, tables.now);
        if let Verdict::Allow(grant) = &verdict {
            tables.calls.insert(ask.id, (ask.session.id, grant.reservation.clone(), None));
        }
        Ok(verdict)
    }

    async fn settle(&self, reservation: &Reservation, actual: Money, at: At) -> Result<Vec<Crossing>, StoreError> {
        let (mut tables, mut news) = (self.begin(at), Vec::new());
        if tables.calls.get(&reservation.id).is_none_or(|call| !call.0.is_nil()) {
            // A call from before a restart is not in the table, but its money is spent all the same.
            tables.calls.insert(reservation.id, (Uuid::nil(), reservation.clone(), Some(actual)));
            for pinned in &reservation.pots {
                let mut account = tables.account(&pinned.pot);
                let since = pinned.pot.window.told_since(account.window_start);
                let is_news = |one: &Crossing| tables.told.insert((one.pot.clone(), since, one.percent));
                news.extend(pinned.crossed(&mut account).filter(is_news));
            }
        }
        Ok(news)
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        let Tables { now, alive_until, .. } = &mut *self.begin(at);
        alive_until.insert(session.id, now.saturating_add(session.lease).unwrap_or(Timestamp::MAX));
        Ok(())
    }

    async fn standing(&self, budgets: &[Budget], at: At) -> Result<Vec<Standing>, StoreError> {
        Ok(self.begin(at).standings(budgets))
    }
}

#[tokio::main]
async fn main() {
    let pair = |one: OneMutex| (one.clone(), one);
    let both = conformance::budgets_shared(async || pair(OneMutex::default())).await;
    conformance::budgets(async || OneMutex::default()).await.iter().chain(&both).for_each(|rule| println!("ok {rule}"));
}
