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
    let (spent, held, left) = (standing.spent, standing.held, standing.left().max(Money::ZERO));
    let again = standing.resets_at.map(|at| match pot.window {
        Window::Rolling(_) => format!("; the first of it comes back at {at}"),
        _ => format!("; it begins anew at {at}"),
    });
    let again = again.unwrap_or_default();
    if denial.is_held {
        let message = format!(
            "{of} is held by calls in flight: ${spent} of ${limit} is spent and ${held} held, and this request may cost ${min} at \
             least; try again in a moment{again}"
        );
        return Rejection::new(RejectionKind::BudgetHeld, message);
    }
    let ask = contact.map(|contact| format!("; ask {contact} for more")).unwrap_or_default();
    if min > limit {
        // Whenever it comes back, it comes back too soon.
        let what = format!(
            "this request may cost ${min} at least, which is more than all of {of}: ${limit}, of which ${spent} is spent"
        );
        return Rejection::new(RejectionKind::BudgetSpent, format!("{what}{ask}"));
    }
    let what = match spent < limit {
        false => format!("{of} is spent: ${spent} of ${limit}, and ${held} held"),
        true => format!(
            "{of} does not reach: of ${limit}, ${spent} is spent, ${held} held and ${left} left, and this request may cost ${min} \
             at least"
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

/// Why a call is refused that no budget pays for, where one must.
pub(super) fn unpaid(contact: Option<&str>) -> Rejection {
    let ask = contact.map(|contact| format!("; ask {contact} for one")).unwrap_or_default();
    Rejection::new(RejectionKind::BudgetSpent, format!("no budget pays for the calls of this key{ask}"))
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
