//! What else the suite says of stores that are broken.

use tollgate::store::conformance;
use tollgate::store::memory::MemoryBudgets;

use crate::broken::Fault::{Caps, TellsNobody};
use crate::broken::{Broken, said};

/// A wrapper that forgets to hand `extend` on is nothing to the other rules: these are for whoever means it to grow.
#[test]
fn a_store_whose_holds_do_not_grow_fails_where_that_is_demanded() {
    let said = said(|runtime| {
        runtime.block_on(conformance::budgets_that_grow(async || Broken::new(MemoryBudgets::new(), TellsNobody)));
    });
    assert!(said.starts_with("a_hold_grows_within_its_limits"), "{said}");
}

#[test]
fn a_history_that_differs_is_told_by_its_seed_and_step() {
    let said = said(|runtime| {
        let make = async || Broken::new(MemoryBudgets::new(), Caps);
        runtime.block_on(conformance::budget_histories(make, 7..8, 10_000));
    });
    assert!(said.starts_with("every_history_adds_up: seed 7, step "), "{said}");
    let again = crate::broken::said(|runtime| {
        let make = async || Broken::new(MemoryBudgets::new(), Caps);
        runtime.block_on(conformance::budget_histories(make, 7..8, 10_000));
    });
    assert_eq!(said, again, "one seed makes one history");
}
