use std::time::Duration;

use jiff::Timestamp;

use crate::domain::budget::Window;
use crate::domain::money::Money;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::store::budget::Denial;

/// Says whose budget it is, what of it is gone, what this call would take at least, and when there is more, but for what is
/// only held.
pub(super) fn refusal(denial: &Denial, min: Money, now: Timestamp, contact: Option<&str>) -> Rejection {
    let standing = &denial.standing;
    let (pot, limit) = (&standing.budget.pot, standing.budget.limit);
    let of = format!("the {} budget of {}", pot.window, pot.scope);
    let (spent, held) = (standing.spent, standing.held);
    if denial.is_held {
        let message = format!(
            "{of} is held by calls in flight: ${spent} of ${limit} is spent and ${held} held, and this request may cost ${min} at \
             least; try again in a moment"
        );
        return Rejection::new(RejectionKind::BudgetHeld, message);
    }
    let left = standing.left().max(Money::ZERO);
    let what = match left {
        Money::ZERO => format!("{of} is spent: ${spent} of ${limit}"),
        left => format!(
            "{of} does not reach: ${spent} of ${limit} is spent, and this request may cost ${min} at least where ${left} is left"
        ),
    };
    let ask = contact.map(|contact| format!("; ask {contact} for more")).unwrap_or_default();
    match standing.resets_at {
        None => Rejection::new(RejectionKind::BudgetSpent, format!("{what}{ask}")),
        Some(at) => {
            let after = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::from_secs(1));
            let again = match pot.window {
                Window::Rolling(_) => "the first of it comes back",
                _ => "it begins anew",
            };
            let what = format!("{what}; {again} at {at}{ask}");
            Rejection::new(RejectionKind::BudgetSpent, what).retry_after(after)
        }
    }
}

/// Why an answer ends of which so much has come, and for which there is no more. The denial says how the pot stands without
/// it: only what others hold may come back.
pub(super) fn used_up(denial: &Denial, cost: Money, contact: Option<&str>) -> Rejection {
    let standing = &denial.standing;
    let (pot, limit, spent, others) = (&standing.budget.pot, standing.budget.limit, standing.spent, standing.held);
    let message = format!(
        "this answer has come to ${cost}, and the {} budget of {} pays for no more of it: ${spent} of ${limit} is spent, and \
         ${others} held by other calls",
        pot.window, pot.scope
    );
    if denial.is_held {
        return Rejection::new(RejectionKind::BudgetHeld, message);
    }
    let ask = contact.map(|contact| format!("; ask {contact} for more")).unwrap_or_default();
    Rejection::new(RejectionKind::BudgetSpent, format!("{message}{ask}"))
}
