//! Warns of keys of a team whose calls do not count towards the budget of that team. A `team-budget` covers only the keys
//! that name it.

use std::error::Error;

use tollgate::domain::budget::Budget;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::key::KeyRegistry;

use crate::keys::{PAGE, shown};
use crate::mint::is_over;
use crate::powers;

/// At most this many pages of keys are read to find the budgets of a team: this is only a warning.
const PAGES: usize = 50;

/// Warns of each of these keys that lacks a budget of its team which another key has. `how` is the option or command.
pub(crate) async fn warn(how: &str, names: &[String], keys: &dyn KeyRegistry) {
    if let Err(error) = look(how, names, keys).await {
        // The keys are written by now, whatever comes of this.
        tracing::warn!("{how}: the team budgets of other keys could not be read: {error}");
    }
}

async fn look(how: &str, names: &[String], keys: &dyn KeyRegistry) -> Result<(), Box<dyn Error>> {
    let mut joined = Vec::new();
    for name in names {
        if let Some(key) = keys.named(name).await?.filter(|key| !is_over(key) && key.principal.team.is_some()) {
            joined.push((key.principal.clone(), Vec::new()));
        }
    }
    if joined.is_empty() {
        return Ok(());
    }
    let mut last = None;
    for _ in 0..PAGES {
        let page = keys.list(last.as_deref(), PAGE).await?;
        for other in page.iter().filter(|other| !is_over(other)) {
            for (key, lacking) in &mut joined {
                lack(key, &other.principal, lacking);
            }
        }
        match page.last() {
            Some(key) if page.len() == PAGE => last = Some(key.principal.name.clone()),
            _ => break,
        }
    }
    for (key, lacking) in joined.iter().filter(|(_, lacking)| !lacking.is_empty()) {
        let name = shown(&key.name);
        let amounts: Vec<_> = lacking.iter().map(|(budget, _)| powers::amount(budget)).collect();
        let (_, other) = &lacking[0];
        let all = of_team(key).chain(lacking.iter().map(|(budget, _)| budget));
        let all: Vec<_> = all.map(|budget| format!("team-budget={}/{}", budget.limit, budget.pot.window)).collect();
        tracing::warn!(
            "{how}: the key {name} lacks the team-budget {}, which the key {} has: what {name} spends does not count there; \
             give it to every member: change 'name={},{}'",
            amounts.join(" and "),
            shown(other),
            key.name,
            all.join(",")
        );
    }
    Ok(())
}

/// Adds what `key` lacks of the budgets of its team that `other` has.
fn lack(key: &Principal, other: &Principal, lacking: &mut Vec<(Budget, String)>) {
    if other.team != key.team {
        return;
    }
    for budget in of_team(other) {
        let is_known =
            of_team(key).chain(lacking.iter().map(|(budget, _)| budget)).any(|known| known.pot == budget.pot);
        if !is_known {
            lacking.push((budget.clone(), other.name.to_string()));
        }
    }
}

/// The budgets that a key shares with its team.
fn of_team(key: &Principal) -> impl Iterator<Item = &Budget> {
    let team = key.team.as_deref().map(Scope::team);
    key.budgets.iter().filter(move |budget| Some(&budget.pot.scope) == team.as_ref())
}
