//! Windows by the calendar of a zone whose clocks are put forward and back.

use std::slice::from_ref;

use jiff::Timestamp;

use super::{Desk, Rule, ask, money, session};
use crate::domain::budget::Budget;
use crate::domain::scope::Scope;
use crate::store::At;
use crate::store::budget::{BudgetStore, Verdict};

/// When a window begins and ends: around the days of 25 and 23 hours, in Berlin, and where the change is half an hour.
const TABLE: [(&str, &str, &str); 8] = [
    ("day (Europe/Berlin)", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ("week (Europe/Berlin)", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"),
    ("month (Europe/Berlin)", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
    ("day (Europe/Berlin)", "2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z"),
    ("week (Europe/Berlin)", "2027-03-21T23:00:00Z", "2027-03-28T22:00:00Z"),
    ("month (Europe/Berlin)", "2027-02-28T23:00:00Z", "2027-03-31T22:00:00Z"),
    ("day (Australia/Lord_Howe)", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z"),
    ("day (Australia/Lord_Howe)", "2027-04-03T13:00:00Z", "2027-04-04T13:30:00Z"),
];

pub(super) async fn windows_of_a_zone_follow_its_clocks<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    for (window, start, end) in TABLE {
        let zoned = Zoned { desk: Desk::open(make, rule).await, window };
        let pot = Budget::new(Scope::team("search"), parsed(window), money(100));
        let (start, end) = (parsed::<Timestamp>(start), parsed::<Timestamp>(end));
        zoned.spends(&pot, second(start, -1), 40).await;
        zoned.stands(&pot, second(start, -1), 40, Some(start)).await;
        zoned.stands(&pot, start, 0, Some(end)).await;
        zoned.spends(&pot, start, 60).await;
        zoned.spends(&pot, second(end, -1), 40).await;
        zoned.stands(&pot, second(end, -1), 100, Some(end)).await;
        zoned.spends(&pot, end, 1).await;
        let at = At::Fixed(end);
        let standing = rule.answer(zoned.desk.store.standing(from_ref(&pot), at).await).remove(0);
        rule.same(&format!("what is spent of the next {window}"), &standing.spent, &money(1));
    }
}

struct Zoned<S> {
    desk: Desk<S>,
    window: &'static str,
}

impl<S: BudgetStore> Zoned<S> {
    async fn spends(&self, pot: &Budget, at: Timestamp, nanos: i64) {
        let Desk { store, rule } = &self.desk;
        let ask = ask(session(), from_ref(pot), nanos);
        match rule.answer(store.reserve(&ask, At::Fixed(at)).await) {
            Verdict::Allow(grant) => {
                rule.answer(store.settle(&grant.reservation, money(nanos), At::Fixed(at)).await);
            }
            Verdict::Deny(denial) => panic!("{}: {} at {at}: {denial:?}", rule.0, self.window),
        }
    }

    async fn stands(&self, pot: &Budget, at: Timestamp, spent: i64, resets_at: Option<Timestamp>) {
        let Desk { store, rule } = &self.desk;
        let standing = rule.answer(store.standing(from_ref(pot), At::Fixed(at)).await).remove(0);
        let what = format!("what is spent at {at} of the {}, and when it resets", self.window);
        rule.same(&what, &(standing.spent, standing.resets_at), &(money(spent), resets_at));
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` cannot be read"))
}

fn second(time: Timestamp, more: i64) -> Timestamp {
    Timestamp::from_second(time.as_second() + more).unwrap_or(time)
}
