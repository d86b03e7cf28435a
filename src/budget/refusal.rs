use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::domain::budget::Window;
use crate::domain::money::Money;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::scope::ScopeKind;
use crate::store::budget::{Denial, Standing};

/// Says whose budget it is, what of it is gone, what this call would take at least, and when there is more.
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
        return Rejection::new(RejectionKind::BudgetHeld, message).retry_after(Duration::from_secs(1));
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
            let what = format!("{what}; it begins anew at {at}{ask}");
            Rejection::new(RejectionKind::BudgetSpent, what).retry_after(after)
        }
    }
}

/// What Claude Code reads of a cap that is spent, so that it says until when: its contract for gateways, as of 2.1. With
/// `representative-claim` and `overage-status` it would print words of its own instead of ours.
pub(super) fn spent(standing: &Standing) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let word =
        |name: &'static str, value: &'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let pot = &standing.budget.pot;
    let period = match pot.window {
        Window::Day => Some("daily"),
        Window::Week => Some("weekly"),
        Window::Month => Some("monthly"),
        Window::Total => None,
    };
    let is_shared = !matches!(pot.scope.kind, ScopeKind::Key | ScopeKind::User);
    let resets = standing.resets_at.map(|at| HeaderValue::from(at.as_second()));
    let said = [
        word("anthropic-ratelimit-unified-status", "rejected"),
        word("anthropic-ratelimit-unified-overage-utilization", "1"),
        word("anthropic-ratelimit-unified-overage-surpassed-threshold", "1"),
        word("anthropic-ratelimit-unified-overage-disabled-reason", "org_spend_cap_reached"),
    ];
    let resets = resets.into_iter().flat_map(|at| RESETS.map(|name| (HeaderName::from_static(name), at.clone())));
    said.into_iter()
        .chain(resets)
        .chain(period.map(|period| word("anthropic-ratelimit-unified-overage-period", period)))
        .chain(is_shared.then(|| word("anthropic-ratelimit-unified-overage-scope", "group_pool")))
}

const RESETS: [&str; 2] = ["anthropic-ratelimit-unified-reset", "anthropic-ratelimit-unified-overage-reset"];
