use serde::Serialize;

use crate::domain::money::Money;
use crate::domain::scope::{Scope, ScopeKind};
use crate::domain::window::{Calendar, Window};
use crate::store::budget::Standing;

/// The answer to `GET /api/oauth/usage`, which Claude Code shows under `/usage`.
///
/// For each calendar period it reports the budget that is closest to being used up; `extra_usage` is the monthly one.
/// A budget for some models or one provider is left out: it need not pay for what the caller asks for. Amounts are in
/// cents, and only for budgets that the caller may see. For all others it reports only the percentage.
///
/// The shape follows the gateway contract of Claude Code 2.1. That contract does not say which values `severity` takes,
/// so these are a guess.
#[derive(Serialize)]
pub(super) struct Usage {
    extra_usage: Spend,
    daily: Spend,
    weekly: Spend,
    limits: Vec<Limit>,
}

#[derive(Serialize)]
struct Spend {
    is_enabled: bool,
    monthly_limit: Option<u64>,
    used_credits: u64,
    utilization: Option<u64>,
    currency: &'static str,
}

#[derive(Serialize)]
struct Limit {
    kind: &'static str,
    group: &'static str,
    percent: u64,
    /// RFC 3339.
    resets_at: Option<String>,
    severity: &'static str,
    is_active: bool,
}

impl Usage {
    pub(super) fn of(standings: &[Standing], is_told: impl Fn(&Standing) -> bool) -> Self {
        let pays_for_all = |scope: &Scope| !matches!(scope.kind, ScopeKind::Model | ScopeKind::Provider);
        let of_it = |calendar: Calendar| {
            let is_of_it = move |window: Window| window.calendar().is_some_and(|(its, _)| its == calendar);
            let hard = standings.iter().filter(move |one| !one.budget.soft && pays_for_all(&one.budget.pot.scope));
            hard.filter(move |one| is_of_it(one.budget.pot.window))
        };
        let nearest = |calendar: Calendar| of_it(calendar).max_by_key(|one| one.percent_spent());
        let spend = |calendar: Calendar| {
            let told = of_it(calendar).filter(|one| is_told(one));
            Spend::of(told.max_by_key(|one| one.percent_spent()))
        };
        let limits = [Calendar::Day, Calendar::Week, Calendar::Month]
            .into_iter()
            .filter_map(|calendar| Some(Limit::of(period(calendar), nearest(calendar)?)));
        Usage {
            extra_usage: spend(Calendar::Month),
            daily: spend(Calendar::Day),
            weekly: spend(Calendar::Week),
            limits: limits.collect(),
        }
    }
}

impl Spend {
    fn of(standing: Option<&Standing>) -> Self {
        Spend {
            is_enabled: standing.is_some(),
            monthly_limit: standing.map(|one| cents(one.budget.limit)),
            used_credits: standing.map_or(0, |one| cents(one.spent)),
            utilization: standing.map(Standing::percent_spent),
            currency: "USD",
        }
    }
}

impl Limit {
    fn of(group: &'static str, standing: &Standing) -> Self {
        let percent = standing.percent_spent();
        Limit {
            kind: "spend",
            group,
            percent,
            resets_at: standing.resets_at.map(|at| at.to_string()),
            severity: match percent {
                ..75 => "normal",
                75..100 => "warning",
                _ => "exceeded",
            },
            is_active: true,
        }
    }
}

/// The period's name in Claude Code.
fn period(calendar: Calendar) -> &'static str {
    match calendar {
        Calendar::Day => "daily",
        Calendar::Week => "weekly",
        Calendar::Month => "monthly",
    }
}

/// Whole cents, rounded down, so that no more is shown than there is.
fn cents(money: Money) -> u64 {
    u64::try_from(money.nanos()).unwrap_or(0) / 10_000_000
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::budget::Budget;
    use crate::domain::ledger::Account;

    fn standing(window: Window, limit: &str, spent: &str) -> Standing {
        let amount = |text: &str| text.parse().expect("an amount");
        let account = Account { spent: amount(spent), ..Account::default() };
        let now = "2026-11-25T12:00:00Z".parse().expect("a time");
        Standing::new(Budget::new(Scope::team("t"), window, amount(limit)), &account, window.around(now).1)
    }

    #[test]
    fn claude_code_sees_the_budget_of_each_calendar_that_is_nearest_to_its_end() {
        let standings = [
            standing(Window::Month, "500", "271.409"),
            standing(Window::Month, "900", "272"),
            standing(Window::Day, "10", "10.5"),
            standing(Window::Total, "10", "9"),
        ];
        let told = serde_json::to_value(Usage::of(&standings, |_| true)).expect("JSON");
        let month = json!({"is_enabled": true, "monthly_limit": 50_000, "used_credits": 27_140, "utilization": 54, "currency": "USD"});
        assert_eq!(told["extra_usage"], month);
        assert_eq!(
            told["weekly"],
            json!({"is_enabled": false, "monthly_limit": null, "used_credits": 0, "utilization": null, "currency": "USD"})
        );
        let limit = |group: &str, percent: u64, resets: &str, severity: &str| json!({"kind": "spend", "group": group, "percent": percent, "resets_at": resets, "severity": severity, "is_active": true});
        let limits = [
            limit("daily", 105, "2026-11-26T00:00:00Z", "exceeded"),
            limit("monthly", 54, "2026-12-01T00:00:00Z", "normal"),
        ];
        assert_eq!(told["limits"], json!(limits));
    }

    #[test]
    fn who_has_no_cap_has_no_limits() {
        let told = serde_json::to_value(Usage::of(&[], |_| true)).expect("JSON");
        assert_eq!((&told["limits"], &told["extra_usage"]["monthly_limit"]), (&json!([]), &json!(null)));
    }
}
