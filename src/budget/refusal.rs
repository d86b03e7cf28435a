use std::time::Duration;

use jiff::Timestamp;

use crate::domain::budget::Window;
use crate::domain::money::Money;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::budget::{Denial, Standing};

/// Refuses a call: names the budget, what is spent, the least that this call may cost, and when the window begins anew.
/// Money that is only held may come back earlier, at a time that is not known here.
pub(super) fn refusal(denial: &Denial, min: Money, now: Timestamp, contact: Option<&str>) -> Rejection {
    let standing = &denial.standing;
    let (pot, limit) = (&standing.budget.pot, standing.budget.limit);
    let of = format!("the {} budget of {}", pot.window, pot.scope);
    let (spent, held, left) = (standing.spent, standing.held, standing.left().max(Money::ZERO));
    let (again, ask) = (again(standing), ask(contact));
    if denial.is_held {
        let message = format!(
            "too much of {of} is held by running calls: ${spent} of ${limit} is spent and ${held} held, and this request \
             may cost at least ${min}; try again in a moment{again}{ask}"
        );
        return Rejection::new(RejectionKind::BudgetHeld, message);
    }
    if min > limit {
        // No reset makes the limit large enough.
        let what = format!(
            "this request may cost at least ${min}, which is more than the whole of {of}: ${limit}, of which ${spent} is spent"
        );
        return Rejection::new(RejectionKind::BudgetSpent, format!("{what}{ask}"));
    }
    let what = match spent < limit {
        false => format!("{of} is spent: ${spent} of ${limit}, and ${held} held"),
        true => format!(
            "{of} is not enough: this request may cost at least ${min}, and ${left} of ${limit} is left (${spent} spent, \
             ${held} held)"
        ),
    };
    let rejection = Rejection::new(RejectionKind::BudgetSpent, format!("{what}{again}{ask}"));
    match standing.resets_at {
        None => rejection,
        Some(at) => {
            let after = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::from_secs(1));
            rejection.retry_after(after)
        }
    }
}

/// Refuses a call that has no budget, where budgets are required.
pub(super) fn unpaid(contact: Option<&str>) -> Rejection {
    let ask = contact.map(|contact| format!("; ask {contact} for one")).unwrap_or_default();
    Rejection::new(RejectionKind::BudgetSpent, format!("this key has no budget, and one is required{ask}"))
}

/// Ends an answer that has cost `cost` and for which there is no more money. The denial shows the pot without this
/// call's own hold, so only money held by others may come back.
pub(super) fn used_up(denial: &Denial, cost: Money, contact: Option<&str>) -> Rejection {
    let standing = &denial.standing;
    let (pot, limit, spent, others) = (&standing.budget.pot, standing.budget.limit, standing.spent, standing.held);
    let message = format!(
        "this answer was ended at ${cost} because the {} budget of {} has no more for it: ${spent} of ${limit} is spent, \
         and ${others} is held by other calls{}{}",
        pot.window,
        pot.scope,
        again(standing),
        ask(contact)
    );
    let kind = if denial.is_held { RejectionKind::BudgetHeld } else { RejectionKind::BudgetSpent };
    Rejection::new(kind, message)
}

/// When there is more money, if ever.
fn again(standing: &Standing) -> String {
    let again = standing.resets_at.map(|at| match standing.budget.pot.window {
        Window::Rolling(_) => format!("; part of the budget becomes available at {at}"),
        _ => format!("; the budget resets at {at}"),
    });
    again.unwrap_or_default()
}

/// Whom to ask for more.
fn ask(contact: Option<&str>) -> String {
    contact.map(|contact| format!("; ask {contact} for more")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Denial, Money, Rejection, Standing, refusal, used_up};
    use crate::domain::budget::{Budget, Window};
    use crate::domain::ledger::Account;
    use crate::domain::scope::Scope;

    fn usd(text: &str) -> Money {
        text.parse().expect("an amount")
    }

    fn denial(is_held: bool) -> Denial {
        let mut account = Account::new("2026-11-24T00:00:00Z".parse().expect("a time"));
        (account.spent, account.held) = (usd("3"), usd("1"));
        let budget = Budget::new(Scope::team("search"), Window::Day, usd("5"));
        Denial { standing: Standing::new(budget, &account, "2026-11-25T00:00:00Z".parse().ok()), is_held }
    }

    #[test]
    fn whatever_a_budget_refuses_or_ends_is_told_whose_it_is_its_limit_what_is_gone_until_when_and_whom_to_ask() {
        let now = "2026-11-24T09:00:00Z".parse().expect("a time");
        let refused = |is_held| refusal(&denial(is_held), usd("2"), now, Some("#llm"));
        let ended = |is_held| used_up(&denial(is_held), usd("2"), Some("#llm"));
        for told in [refused(true), refused(false), ended(true), ended(false)] {
            let told = told.to_string();
            for part in ["day budget of team search", "$3.00", "$5.00", "$1.00", "held"] {
                assert!(told.contains(part), "{part}: {told}");
            }
            assert!(told.ends_with("; the budget resets at 2026-11-25T00:00:00Z; ask #llm for more"), "{told}");
        }
    }

    #[test]
    fn nobody_is_named_where_there_is_nobody_to_ask() {
        let told: Rejection = used_up(&denial(false), usd("2"), None);
        assert!(told.to_string().ends_with("; the budget resets at 2026-11-25T00:00:00Z"), "{told}");
    }
}
