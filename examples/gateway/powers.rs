//! Describes for the log what a key may do, in the words of `--mint`.

use tollgate::domain::budget::Budget;
use tollgate::domain::limit::Limit;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::ScopeKind;

/// Every part of `--mint` and its value, in the order of the log, and what only a host can give. The value is empty if the part is not set.
fn parts(of: &Principal) -> Vec<(&'static str, String)> {
    let budgets = |kind: ScopeKind| {
        let some = of.budgets.iter().filter(|budget| budget.pot.scope.kind == kind);
        some.map(amount).collect::<Vec<_>>().join(" and ")
    };
    let is_own = |limit: &&Limit| limit.scope.kind == ScopeKind::Key;
    let limit = |measure: &str| {
        let some = of.limits.iter().filter(is_own).filter(|limit| limit.measure.as_str() == measure);
        some.map(|limit| limit.most.to_string()).collect::<Vec<_>>().join(" and ")
    };
    // `--mint` gives none of these; a host that shares the file may.
    let is_mintable = |kind: ScopeKind| matches!(kind, ScopeKind::Key | ScopeKind::Team);
    let other_budgets = of.budgets.iter().filter(|budget| !is_mintable(budget.pot.scope.kind)).map(amount);
    let other_limits = of.limits.iter().filter(|limit| !is_own(limit));
    let other_limits =
        other_limits.map(|limit| format!("{} {} of {}", limit.most, limit.measure.as_str(), limit.scope));
    // An empty name stands for no model at all.
    let models: Vec<_> = of.models.iter().filter(|model| !model.is_empty()).map(|model| &**model).collect();
    let models = if models.is_empty() && !of.models.is_empty() { "none".to_owned() } else { models.join(" and ") };
    vec![
        ("user", of.user.as_deref().unwrap_or_default().to_owned()),
        ("team", of.team.as_deref().unwrap_or_default().to_owned()),
        ("budget", budgets(ScopeKind::Key)),
        ("team-budget", budgets(ScopeKind::Team)),
        ("other budgets", other_budgets.collect::<Vec<_>>().join(" and ")),
        ("models", models),
        ("rpm", limit("requests")),
        ("tpm", limit("tokens")),
        ("parallel", limit("parallel")),
        ("other limits", other_limits.collect::<Vec<_>>().join(" and ")),
        ("content", of.content.map_or("", |keep| keep.as_str()).to_owned()),
    ]
}

/// Describes a budget: how much, how often, and whose it is, unless it is the key's own.
pub(crate) fn amount(budget: &Budget) -> String {
    match budget.pot.scope.kind {
        ScopeKind::Key => format!("{}/{}", budget.limit, budget.pot.window),
        ScopeKind::Team => format!("{}/{} of {}", budget.limit, budget.pot.window, budget.pot.scope.id),
        _ => format!("{}/{} of {}", budget.limit, budget.pot.window, budget.pot.scope),
    }
}

/// Describes a new key.
pub(crate) fn said(of: &Principal) -> String {
    let some = parts(of).into_iter().filter(|(_, what)| !what.is_empty());
    let some: Vec<_> = some.map(|(part, what)| format!("{part} {what}")).collect();
    if some.is_empty() { "every model is allowed, without a limit".to_owned() } else { some.join(", ") }
}

/// Describes what changed between two states of a key.
pub(crate) fn changes(before: &Principal, now: &Principal) -> String {
    let shown = |part: &str, what: String| match (part, what.is_empty()) {
        (_, false) => what,
        ("models", true) => "*".to_owned(),
        _ => "none".to_owned(),
    };
    let both = parts(before).into_iter().zip(parts(now));
    let changed: Vec<_> = both
        .filter(|((_, before), (_, now))| before != now)
        .map(|((part, before), (_, now))| format!("{part} was {}, is {}", shown(part, before), shown(part, now)))
        .collect();
    match changed.is_empty() {
        true => "its settings are unchanged".to_owned(),
        false => format!("{}; everything else is unchanged", changed.join("; ")),
    }
}
