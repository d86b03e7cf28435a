//! How a caller's budgets stand, as Claude Code reads it: its contract for gateways, as of 2.1.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};

use crate::dialect::Line;
use crate::domain::money::Money;
use crate::domain::scope::ScopeKind;
use crate::domain::window::Calendar;
use crate::store::budget::Standing;

type Header = (HeaderName, HeaderValue);

// Made when compiling: to make a name is to look at each of its bytes, and every answer has eight of them.
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

/// What is left of it.
pub(super) fn remaining(standing: &Standing) -> Option<Header> {
    let mut line = Line::new();
    write!(line, "{}", standing.left().max(Money::ZERO)).ok()?;
    Some((REMAINING, HeaderValue::from_bytes(line.as_bytes()).ok()?))
}

/// Of the budgets that refuse, the one that is spent the furthest: what its holder should know first.
pub(super) fn fullest(standings: &[Standing]) -> Option<&Standing> {
    let hard = standings.iter().filter(|standing| !standing.budget.soft);
    hard.max_by_key(|standing| standing.percent_spent())
}

/// How the fullest of a caller's budgets stands, for an answer that is a success: from three quarters on the client says so
/// to its user.
pub(super) fn allowed(standing: &Standing) -> impl Iterator<Item = Header> {
    // Below 1 as long as calls are let through.
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

/// A cap that is spent, and until when. With `representative-claim` and `overage-status` the client would print words of
/// its own instead of ours.
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

/// A cap of which nobody can say how it stands.
pub(super) fn unreadable() -> [Header; 1] {
    [header(WHY, "fetch_error")]
}

/// In Unix seconds, where it does.
fn resets(standing: &Standing) -> impl Iterator<Item = Header> + use<> {
    let at = standing.resets_at.map(|at| HeaderValue::from(at.as_second()));
    at.into_iter().flat_map(|at| RESETS.map(|name| (name, at.clone())))
}

fn header(name: HeaderName, value: &'static str) -> Header {
    (name, HeaderValue::from_static(value))
}
