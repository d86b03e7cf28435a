//! Checks what must be true once a storm is over, by the provider's own bill.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tollgate::domain::rejection::RejectionKind;
use tollgate::domain::usage::Usage;
use tollgate::testing::Line;

use crate::site::{Site, catalog};
use crate::watched::Watched;

/// How the calls of a storm ended.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) admitted: usize,
    pub(crate) refused: usize,
    pub(crate) clamped: usize,
    pub(crate) abandoned: usize,
    pub(crate) complete: usize,
    pub(crate) cut: usize,
    /// Refused because other calls hold the money.
    pub(crate) held: usize,
    /// Refused because the money is spent.
    pub(crate) spent: usize,
}

/// The price of a line of the bill.
pub(crate) fn price(line: &Line) -> Money {
    let catalog = catalog();
    let card = catalog.find(&line.model).expect("a model of the storm");
    let usage = Usage { input: line.input, output: line.output, ..Usage::default() };
    card.cost(&usage, tollgate::domain::catalog::Terms::default()).expect("a sum that can be said")
}

/// Compares the bill, ledger, outcomes and records of a site that has settled.
pub(crate) fn reckon(site: &Site, budgets: &Watched, calls: usize) -> Sum {
    let ledger = budgets.ledger();
    ledger.assert_right();

    let closed = site.closed.lock();
    let ids: HashSet<_> = closed.iter().map(|outcome| outcome.id).collect();
    assert_eq!((closed.len(), ids.len()), (calls, calls), "every call closed once");
    let records = site.records.lock();
    let recorded: HashSet<_> = records.iter().map(|record| record.id).collect();
    assert_eq!(records.len(), calls, "every call has one record");
    assert_eq!(recorded, ids, "and it is its own");

    let lines = site.provider.bill().lines();
    let mut bill: HashMap<&str, &Line> = HashMap::new();
    for line in &lines {
        assert!(bill.insert(&line.model, line).is_none(), "{} was sent twice", line.model);
    }

    let mut sum = Sum::default();
    let mut charged_to = HashMap::new();
    for outcome in closed.iter() {
        let line = outcome.model.as_deref().and_then(|model| bill.remove(model));
        let charged = outcome.charged.unwrap_or(Money::ZERO);
        reckon_one(outcome, charged, line);
        assert_eq!(ledger.settled_for(&outcome.id).unwrap_or(Money::ZERO), charged, "{outcome:?}");
        if outcome.granted.is_some() {
            assert_eq!(ledger.told(&outcome.id), outcome.granted, "{outcome:?}");
        }
        if let Some(principal) = &outcome.principal {
            for budget in &principal.budgets {
                let sum: &mut Money = charged_to.entry(budget.pot.clone()).or_default();
                *sum = sum.saturating_add(charged);
            }
        }
        sum.admitted += usize::from(outcome.granted.is_some());
        sum.refused += usize::from(outcome.end == End::Refused);
        sum.clamped += usize::from(outcome.clamped.is_some());
        sum.abandoned += usize::from(outcome.end == End::Abandoned);
        sum.complete += usize::from(outcome.end == End::Complete);
        sum.cut += usize::from(outcome.end == End::Cut);
        sum.held += usize::from(outcome.rejection == Some(RejectionKind::BudgetHeld));
        sum.spent += usize::from(outcome.rejection == Some(RejectionKind::BudgetSpent));
    }
    assert!(bill.is_empty(), "the provider worked for nobody: {bill:?}");
    for standing in budgets.standings() {
        let pot = &standing.budget.pot;
        let charged = charged_to.get(pot).copied().unwrap_or_default();
        assert_eq!((standing.spent, standing.held), (charged, Money::ZERO), "{pot:?}");
        assert_eq!(ledger.spent(pot), charged, "{pot:?}");
    }

    // The same sum, from the audit records.
    let said = records.iter().map(|record| {
        let json = serde_json::to_value(record).expect("a record");
        let Value::String(charged) = &json["charged_usd"] else { return Money::ZERO };
        charged.parse().expect("decimal")
    });
    let all = closed.iter().filter_map(|outcome| outcome.charged).fold(Money::ZERO, Money::saturating_add);
    assert_eq!(said.fold(Money::ZERO, Money::saturating_add), all);
    sum
}

/// Checks a call against its line on the bill.
pub(crate) fn reckon_one(outcome: &Outcome, charged: Money, line: Option<&Line>) {
    let Some(granted) = outcome.granted else {
        assert!(line.is_none(), "not granted, and sent all the same: {outcome:?}");
        assert_eq!(charged, Money::ZERO, "{outcome:?}");
        return;
    };
    assert!(charged <= granted, "charged beyond its grant: {outcome:?}");
    let bill = line.map_or(Money::ZERO, price);
    assert!(charged >= bill, "charged less than {bill}, which {line:?} says: {outcome:?}");
    // Leave out attempts at upstreams that were not reached.
    let mut sent = outcome.attempts.iter().filter(|attempt| attempt.end != AttemptEnd::Unsent).peekable();
    let final_usage = sent.peek().is_some() && sent.all(|attempt| attempt.usage_is_final);
    if final_usage {
        assert_eq!(charged, bill, "its usage was seen: {outcome:?}");
    }
    if outcome.end == End::Complete {
        assert!(final_usage, "complete, and its usage was not seen: {outcome:?}");
    }
}
