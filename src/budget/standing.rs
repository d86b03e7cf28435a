//! How a caller's budgets stand, in the headers that Claude Code reads (its contract for gateways, as of 2.1).

use std::fmt::Write;

use http::{HeaderName, HeaderValue};

use crate::dialect::Line;
use crate::domain::money::Money;
use crate::domain::scope::ScopeKind;
use crate::domain::window::Calendar;
use crate::store::budget::Standing;

type Header = (HeaderName, HeaderValue);

// Constants, since creating a header name checks each byte, and every answer has eight of them.
const REMAINING: HeaderName = HeaderName::from_static("x-tollgate-budget-remaining-usd");
const STATUS: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-status");
const CLAIM: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-representative-claim");
const OVERAGE: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-status");
const UTILIZATION: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-utilization");
const SURPASSED: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-surpassed-threshold");
const WHY: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-disabled-reason");
const PERIOD: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-period");
const SCOPE: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-overage-scope");
const RESETS: [HeaderName; 2] = [
    HeaderName::from_static("anthropic-ratelimit-unified-reset"),
    HeaderName::from_static("anthropic-ratelimit-unified-overage-reset"),
];

/// The header with the amount that is left.
pub(super) fn remaining(standing: &Standing) -> Option<Header> {
    let mut line = Line::new();
    write!(line, "{}", standing.left().max(Money::ZERO)).ok()?;
    Some((REMAINING, HeaderValue::from_bytes(line.as_bytes()).ok()?))
}

/// Of the budgets that refuse, the one spent the furthest: the most important for its holder.
pub(super) fn fullest(standings: &[Standing]) -> Option<&Standing> {
    let hard = standings.iter().filter(|standing| !standing.budget.soft);
    hard.max_by_key(|standing| standing.percent_spent())
}

/// The headers of a successful answer, for the fullest budget. From three quarters on, the client tells its user.
pub(super) fn allowed(standing: &Standing) -> impl Iterator<Item = Header> {
    // Below 100 as long as calls are admitted.
    let percent = standing.percent_spent().min(99);
    let (status, surpassed) = match percent {
        ..75 => ("allowed", None),
        75..95 => ("allowed_warning", Some("0.75")),
        _ => ("allowed_warning", Some("0.95")),
    };
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or_default();
    let utilization = HeaderValue::from_bytes(&[b'0', b'.', digit(percent / 10), digit(percent)]).ok();
    let words = [header(STATUS, status), header(CLAIM, "overage"), header(OVERAGE, status)];
    let numbers = utilization.map(|value| (UTILIZATION, value));
    let surpassed = surpassed.map(|threshold| header(SURPASSED, threshold));
    words.into_iter().chain(numbers).chain(surpassed).chain(resets(standing))
}

/// The headers of a spent budget, and its reset. With `representative-claim` and `overage-status`, the client would
/// print its own text instead of ours.
pub(super) fn spent(standing: &Standing) -> impl Iterator<Item = Header> {
    let pot = &standing.budget.pot;
    let period = pot.window.calendar().map(|(calendar, _)| match calendar {
        Calendar::Day => "daily",
        Calendar::Week => "weekly",
        Calendar::Month => "monthly",
    });
    let is_shared = !matches!(pot.scope.kind, ScopeKind::Key | ScopeKind::User);
    let words = [
        header(STATUS, "rejected"),
        header(UTILIZATION, "1"),
        header(SURPASSED, "1"),
        header(WHY, "org_spend_cap_reached"),
    ];
    words
        .into_iter()
        .chain(resets(standing))
        .chain(period.map(|period| header(PERIOD, period)))
        .chain(is_shared.then(|| header(SCOPE, "group_pool")))
}

/// The header for budgets that cannot be read.
pub(super) fn unreadable() -> [Header; 1] {
    [header(WHY, "fetch_error")]
}

/// The reset headers, in Unix seconds, if the pot resets.
fn resets(standing: &Standing) -> impl Iterator<Item = Header> + use<> {
    let at = standing.resets_at.map(|at| HeaderValue::from(at.as_second()));
    at.into_iter().flat_map(|at| RESETS.map(|name| (name, at.clone())))
}

fn header(name: HeaderName, value: &'static str) -> Header {
    (name, HeaderValue::from_static(value))
}
