//! The rules of an `AdmissionStore` beyond those of its two parts.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use uuid::Uuid;

use super::by_admit::{to_admit_by_budgets_alone_is_to_reserve, to_admit_by_limits_alone_is_to_acquire};
use super::{Gate, Rule, TASKS, at, run, time};
use crate::domain::budget::{Budget, Window};
use crate::domain::key::{KeyDigest, KeyRecord};
use crate::domain::ledger::Wish;
use crate::domain::limit::{Limit, Measure};
use crate::domain::money::Money;
use crate::domain::principal::Principal;
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::admission::{AdmissionStore, Admit, Admitted, Denial, PresentedKey, Verdict};
use crate::store::budget::{BudgetStore, Reserve};
use crate::store::key::KeyRegistry;
use crate::store::rate_limit::{Acquire, RateLimitStore, Used};

pub(super) async fn all<S: AdmissionStore, K: KeyRegistry>(make: &impl AsyncFn() -> (S, K)) -> Vec<&'static str> {
    run!(make,
        a_refusal_by_a_limit_holds_no_money
        a_refusal_by_a_budget_counts_nowhere
        a_key_that_is_no_longer_good_admits_nothing
        admitting_twice_with_one_id_is_admitting_once
        what_is_not_asked_is_not_decided
        what_was_admitted_is_forfeited_and_freed_with_its_sessions
        neither_limits_nor_budgets_are_exceeded_under_two_thousand_tasks
        to_admit_by_budgets_alone_is_to_reserve
        to_admit_by_limits_alone_is_to_acquire
    )
}

/// A call of the team, with its limits and budgets.
struct Call {
    id: Uuid,
    sessions: (Session, Session),
    limits: Vec<Limit>,
    budgets: Vec<Budget>,
    tokens: u64,
    nanos: i64,
}

impl Call {
    fn new(limits: &[Limit], budgets: &[Budget]) -> Self {
        let sessions = (Session::new(Duration::from_secs(8)), Session::new(Duration::from_secs(300)));
        let (limits, budgets) = (limits.to_vec(), budgets.to_vec());
        Call { id: Uuid::now_v7(), sessions, limits, budgets, tokens: 0, nanos: 10 }
    }

    fn again(&self) -> Self {
        Call { id: Uuid::now_v7(), limits: self.limits.clone(), budgets: self.budgets.clone(), ..*self }
    }

    fn limits(&self) -> Acquire<'_> {
        Acquire::new(self.id, self.sessions.0, &self.limits).tokens(self.tokens)
    }

    fn budgets(&self) -> Reserve<'_> {
        let nanos = Money::from_nanos(self.nanos);
        Reserve::new(self.id, self.sessions.1, &self.budgets, Wish { min: nanos, want: nanos, share: 1 })
    }

    fn ask(&self) -> Admit<'_> {
        Admit { key: None, limits: Some(self.limits()), budgets: Some(self.budgets()) }
    }
}

struct Desk<S> {
    store: S,
    rule: Rule,
}

impl<S: AdmissionStore> Desk<S> {
    async fn open<K>(make: &impl AsyncFn() -> (S, K), rule: Rule) -> (Self, K) {
        let (store, keys) = make().await;
        (Desk { store, rule }, keys)
    }

    async fn admit(&self, ask: &Admit<'_>, seconds: i64) -> Verdict {
        self.rule.answer(self.store.admit(ask, at(seconds)).await)
    }

    async fn admitted(&self, ask: &Admit<'_>, seconds: i64) -> Admitted {
        match self.admit(ask, seconds).await {
            Verdict::Allow(admitted) => admitted,
            Verdict::Deny(denial) => panic!("{}: after {seconds} s, {ask:?} is refused: {denial:?}", self.rule.0),
        }
    }

    /// Checks what is left of a limit, and spent and held in a pot.
    async fn stands(&self, call: &Call, seconds: i64, left: u64, spent: i64, held: i64) {
        let of_limits = RateLimitStore::standing(&self.store, &call.limits[..1], at(seconds)).await;
        let of_budgets = BudgetStore::standing(&self.store, &call.budgets[..1], at(seconds)).await;
        let (limit, pot) = (&self.rule.answer(of_limits)[0], &self.rule.answer(of_budgets)[0]);
        let got = (limit.left, pot.spent.nanos(), pot.held.nanos());
        self.rule.same(&format!("left, spent and held after {seconds} s"), &got, &(left, spent, held));
    }
}

fn limit(measure: Measure, most: u64) -> Limit {
    Limit::new(Scope::team("search"), measure, most)
}

fn pot(nanos: i64) -> Budget {
    Budget::new(Scope::team("search"), Window::Day, Money::from_nanos(nanos))
}

async fn a_refusal_by_a_limit_holds_no_money<S: AdmissionStore, K>(make: &impl AsyncFn() -> (S, K), rule: Rule) {
    let (desk, _) = Desk::open(make, rule).await;
    let limits = [limit(Measure::Parallel, 9), limit(Measure::Requests, 1), limit(Measure::Tokens, 60)];
    let first = Call { tokens: 30, ..Call::new(&limits, &[pot(100)]) };
    desk.admitted(&first.ask(), 0).await;
    for seconds in [0, 20] {
        match desk.admit(&first.again().ask(), seconds).await {
            Verdict::Deny(Denial::Limit(denial)) => {
                let left: Vec<_> = denial.standings.iter().map(|one| one.left).collect();
                let got = (denial.index, denial.retry_after, left[0], left[1]);
                let wait = Duration::from_secs(60 - seconds.unsigned_abs());
                rule.same("which limit, how long, what is left", &got, &(1, Some(wait), 8, 0));
            }
            other => rule.holds(&format!("a limit refuses; got {other:?}"), false),
        }
        // It is too large for one limit, so waiting for another does not help.
        let large = Call { tokens: 61, ..first.again() };
        let refused = desk.admit(&large.ask(), seconds).await;
        let is_told =
            matches!(&refused, Verdict::Deny(Denial::Limit(denial)) if (denial.index, denial.retry_after) == (2, None));
        rule.holds(&format!("waiting does not help; got {refused:?}"), is_told);
    }
    desk.stands(&first, 7, 8, 0, 10).await;
}

async fn a_refusal_by_a_budget_counts_nowhere<S: AdmissionStore, K>(make: &impl AsyncFn() -> (S, K), rule: Rule) {
    let (desk, _) = Desk::open(make, rule).await;
    let limits = [limit(Measure::Tokens, 60), limit(Measure::Requests, 60), limit(Measure::Parallel, 9)];
    let first = Call { tokens: 30, ..Call::new(&limits, &[pot(10)]) };
    let admitted = desk.admitted(&first.ask(), 0).await;
    for _ in 0..5 {
        match desk.admit(&first.again().ask(), 0).await {
            Verdict::Deny(Denial::Budget { denial, limits: stand }) => {
                rule.holds("it is held, not spent", denial.is_held);
                let stand: Vec<_> = stand.iter().map(|one| (one.limit.measure, one.left)).collect();
                let left = [(Measure::Tokens, 30), (Measure::Requests, 59), (Measure::Parallel, 8)];
                rule.same("how the limits stand", &stand, &left.to_vec());
            }
            other => rule.holds(&format!("a budget refuses; got {other:?}"), false),
        }
    }
    desk.stands(&first, 0, 30, 0, 10).await;
    // Nothing less is given back to those that were admitted before.
    if let (Some(allowed), Some(grant)) = (admitted.allowed, admitted.grant) {
        rule.answer(RateLimitStore::settle(&desk.store, &allowed.permit, Used::Tokens(0), at(0)).await);
        rule.answer(BudgetStore::settle(&desk.store, &grant.reservation, Money::from_nanos(4), at(0)).await);
    }
    desk.stands(&first, 0, 60, 4, 0).await;
    let slots = rule.answer(RateLimitStore::standing(&desk.store, &limits[2..], at(0)).await);
    rule.same("slots", &slots[0].left, &9);
}

async fn a_key_that_is_no_longer_good_admits_nothing<S: AdmissionStore, K: KeyRegistry>(
    make: &impl AsyncFn() -> (S, K),
    rule: Rule,
) {
    let (desk, keys) = Desk::open(make, rule).await;
    let call = Call::new(&[limit(Measure::Requests, 9)], &[pot(100)]);
    let (first, second) = (KeyDigest::from_bytes([1; 32]), KeyDigest::from_bytes([2; 32]));
    let mut record = KeyRecord::stored(Uuid::now_v7(), first, "last", time(0), Principal::new("ada"));
    let key = PresentedKey { id: record.id, digest: first };
    let mut left = 9;
    type Change<'a> = &'a dyn Fn(&mut KeyRecord);
    let steps: [(&str, bool, Change<'_>); 5] = [
        ("it was written", true, &|_| {}),
        ("its policy was changed", true, &|record| record.principal = Arc::new(Principal::new("eve"))),
        ("it was disabled", false, &|record| record.disabled = true),
        ("it expires in an hour", true, &|record| {
            (record.disabled, record.expires_at) = (false, Some(time(3_600)));
        }),
        ("its secret was rotated", false, &move |record| record.digest = second),
    ];
    let refused = |verdict: &Verdict| matches!(verdict, Verdict::Deny(Denial::Key));
    let verdict = desk.admit(&Admit { key: Some(key), ..call.ask() }, 0).await;
    rule.holds("a key that was never written admits nothing", refused(&verdict));
    for (what, is_good, change) in steps {
        change(&mut record);
        rule.holds(what, rule.answer(keys.put(&record).await).is_written());
        record.version += 1;
        let verdict = desk.admit(&Admit { key: Some(key), ..call.again().ask() }, 0).await;
        rule.same(&format!("refused when {what}"), &refused(&verdict), &!is_good);
        left -= u64::from(is_good);
    }
    desk.stands(&call, 0, left, 0, 10 * i64::try_from(9 - left).unwrap_or(0)).await;
    let rotated = PresentedKey { digest: second, ..key };
    desk.admitted(&Admit { key: Some(rotated), ..call.again().ask() }, 3_599).await;
    let late = desk.admit(&Admit { key: Some(rotated), ..call.again().ask() }, 3_600).await;
    rule.holds("it has expired", refused(&late));
}

async fn admitting_twice_with_one_id_is_admitting_once<S: AdmissionStore, K>(
    make: &impl AsyncFn() -> (S, K),
    rule: Rule,
) {
    let (desk, _) = Desk::open(make, rule).await;
    let call = Call::new(&[limit(Measure::Requests, 1)], &[pot(10)]);
    let first = desk.admitted(&call.ask(), 0).await;
    let second = desk.admitted(&call.ask(), 0).await;
    rule.same("what is admitted", &second, &first);
    desk.stands(&call, 0, 0, 0, 10).await;
}

async fn what_is_not_asked_is_not_decided<S: AdmissionStore, K>(make: &impl AsyncFn() -> (S, K), rule: Rule) {
    let (desk, _) = Desk::open(make, rule).await;
    let call = Call::new(&[limit(Measure::Requests, 2)], &[pot(20)]);
    let counted = desk.admitted(&Admit { budgets: None, ..call.ask() }, 0).await;
    rule.holds("it is counted alone", counted.allowed.is_some() && counted.grant.is_none());
    desk.stands(&call, 0, 1, 0, 0).await;
    let paid = desk.admitted(&Admit { limits: None, ..call.again().ask() }, 0).await;
    rule.holds("it is paid alone", paid.allowed.is_none() && paid.grant.is_some());
    desk.stands(&call, 0, 1, 0, 10).await;
    let neither = desk.admitted(&Admit { key: None, limits: None, budgets: None }, 0).await;
    rule.holds("neither", neither.allowed.is_none() && neither.grant.is_none());
}

async fn what_was_admitted_is_forfeited_and_freed_with_its_sessions<S: AdmissionStore, K>(
    make: &impl AsyncFn() -> (S, K),
    rule: Rule,
) {
    let (desk, _) = Desk::open(make, rule).await;
    let call = Call::new(&[limit(Measure::Parallel, 1)], &[pot(100)]);
    desk.admitted(&call.ask(), 0).await;
    desk.stands(&call, 8, 0, 0, 10).await;
    desk.stands(&call, 9, 1, 0, 10).await;
    desk.stands(&call, 301, 1, 10, 0).await;
}

async fn neither_limits_nor_budgets_are_exceeded_under_two_thousand_tasks<S: AdmissionStore, K>(
    make: &impl AsyncFn() -> (S, K),
    rule: Rule,
) {
    // First the limit is the tighter one, then the budget.
    for (most, nanos, admitted) in [(200, 3_000, 200), (700, 3_000, 300)] {
        let (desk, _) = Desk::open(make, rule).await;
        let (desk, gate, mut tasks) = (Arc::new(desk), Gate::default(), JoinSet::new());
        let call = Arc::new(Call::new(&[limit(Measure::Parallel, most)], from_ref(&pot(nanos))));
        for _ in 0..TASKS {
            let (desk, gate, call) = (desk.clone(), gate.clone(), call.again());
            tasks.spawn(async move {
                gate.pass().await;
                matches!(desk.admit(&call.ask(), 0).await, Verdict::Allow(_))
            });
        }
        gate.open();
        let got = tasks.join_all().await.into_iter().filter(|admitted| *admitted).count();
        rule.same(&format!("how many of {most} and of {nanos} are admitted"), &got, &admitted);
        let taken = u64::try_from(admitted).unwrap_or(0);
        desk.stands(&call, 0, most - taken, 0, 10 * i64::try_from(admitted).unwrap_or(0)).await;
    }
}
