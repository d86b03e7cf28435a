//! Mints, rotates and revokes virtual keys.

use std::error::Error;

use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::content::Keep;
use tollgate::domain::key::{Environment, KeyRecord, VirtualKey};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::{Scope, ScopeKind};
use tollgate::store::key::{KeyRegistry, Put};

use crate::args::{kept, whole};
use crate::peppers::Peppers;
use crate::welcome::say;
use crate::{powers, teams};

/// A key to mint, parsed from `name=alice,budget=5/day,rpm=10,tpm=1000,parallel=4,models=claude-*`.
///
/// - Only `name` is required.
/// - `budget`, `team-budget` and `models` may be repeated: `budget=20/rolling 1h`, `budget=5/day (Europe/Berlin)`.
/// - `user` and `team` say whose the key is. `team-budget=100/month` is shared by the keys of the team that name it.
/// - `content=redacted` says how much is kept of the content of its calls.
///
/// If a key of that name exists, a part that is left out stays as it was. A part that is named replaces the old value.
/// `none` removes it, as do `models=*` for the list of models and `content=default` for the content. If `team` changes
/// and `team-budget` is not named, the key's existing team budget becomes one of the new team.
pub(crate) struct Mint {
    name: String,
    user: Part<String>,
    team: Part<String>,
    content: Part<Keep>,
    limits: Vec<(Measure, Option<u64>)>,
    /// Here and in the next two fields, `None` keeps the old list, and an empty list removes it.
    models: Option<Vec<String>>,
    budgets: Option<Vec<(Window, Money)>>,
    team_budgets: Option<Vec<(Window, Money)>>,
}

/// `None` if the part is not named, `Some(None)` if it is removed.
type Part<T> = Option<Option<T>>;

const LIMITS: [(&str, Measure); 3] =
    [("rpm", Measure::Requests), ("tpm", Measure::Tokens), ("parallel", Measure::Parallel)];

impl Mint {
    pub(crate) fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let parts = text.split(',').map(|part| {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` is not of the form key=value; repeat the key for several: models=a,models=b")
            })?;
            let value = value.trim();
            if value.is_empty() { Err(format!("`{part}` has no value")) } else { Ok((key.trim(), value)) }
        });
        let parts: Vec<(&str, &str)> = parts.collect::<Result<_, _>>()?;
        let all = |wanted: &str| -> Vec<&str> {
            parts.iter().filter(|(key, _)| *key == wanted).map(|(_, value)| *value).collect()
        };
        let single = |wanted: &str| match all(wanted)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(format!("`{wanted}` is given twice")),
        };
        let text_of =
            |wanted| single(wanted).map(|value| value.map(|value| (value != "none").then(|| value.to_owned())));
        let budgets = |wanted: &str| match all(wanted)[..] {
            [] => Ok(None),
            ["none"] => Ok(Some(Vec::new())),
            ref some => distinct(wanted, some).map(Some),
        };

        let is_known = |key: &str| {
            matches!(key, "name" | "user" | "team" | "content" | "models" | "budget" | "team-budget")
                || LIMITS.iter().any(|(limit, _)| *limit == key)
        };
        if let Some((other, _)) = parts.iter().find(|(key, _)| !is_known(key)) {
            return Err(format!("`{other}` is not a known setting").into());
        }
        let name = single("name")?.ok_or("`name` is missing")?.to_owned();
        if name.chars().any(char::is_control) {
            return Err(
                format!("`name`: {name:?} has a control character, such as the end of a line; leave it out").into()
            );
        }
        let mut limits = Vec::new();
        for (key, measure) in LIMITS {
            match single(key)? {
                Some("none") => limits.push((measure, None)),
                Some(most) => {
                    let most = whole(most, 0, u64::MAX).map_err(|error| format!("`{key}={most}`: {error}"))?;
                    limits.push((measure, Some(most)));
                }
                None => {}
            }
        }
        let content = match single("content")? {
            Some("default") => Some(None),
            Some(keep) => Some(Some(kept(keep)?)),
            None => None,
        };
        let models = match all("models")[..] {
            [] => None,
            ["*"] => Some(Vec::new()),
            ref some if some.contains(&"*") || some.contains(&"none") => {
                return Err("`models`: to allow every model, give `models=*` alone".into());
            }
            // Anywhere else it would be a letter that no model has, and the key would open nothing.
            ref some if some.iter().any(|model| model.strip_suffix('*').unwrap_or(model).contains('*')) => {
                return Err(
                    "`models`: `*` may only end a name; repeat it for several: models=claude-*,models=gpt-*".into()
                );
            }
            ref some => Some(some.iter().map(|&model| model.to_owned()).collect()),
        };
        let (user, team) = (text_of("user")?, text_of("team")?);
        let (budgets, team_budgets) = (budgets("budget")?, budgets("team-budget")?);
        Ok(Mint { name, user, team, content, limits, models, budgets, team_budgets })
    }

    /// Whether this asks to keep any content of the key's calls.
    pub(crate) fn keeps_content(&self) -> bool {
        self.content.flatten().is_some_and(|keep| keep != Keep::Nothing)
    }

    /// Whether this makes the key one of a team, and does not say that it has no part in the budget of that team.
    pub(crate) fn joins(&self) -> bool {
        let is_without = self.team_budgets.as_ref().is_some_and(Vec::is_empty);
        matches!(self.team, Some(Some(_))) && !is_without
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Applies this to the principal of the key as it was before.
    fn onto(&self, mut before: Principal) -> Result<Principal, String> {
        let own = |scope: &Scope| scope.kind == ScopeKind::Key;
        let teams = |scope: &Scope| scope.kind == ScopeKind::Team;
        if let Some(user) = &self.user {
            before.user = user.as_deref().map(Into::into);
        }
        if let Some(team) = &self.team {
            before.team = team.as_deref().map(Into::into);
        }
        if let Some(content) = self.content {
            before.content = content;
        }
        if let Some(models) = &self.models {
            before.models = models.iter().map(|model| model.as_str().into()).collect();
        }
        for (measure, most) in &self.limits {
            let is_this = |limit: &Limit| own(&limit.scope) && limit.measure == *measure;
            before.limits.retain(|limit| !is_this(limit));
            if let Some(most) = most {
                before = before.limit(*measure, *most);
            }
        }
        if let Some(budgets) = &self.budgets {
            before.budgets.retain(|budget| !own(&budget.pot.scope));
            for (window, limit) in budgets {
                before = before.budget(*window, *limit);
            }
        }
        if let Some(budgets) = &self.team_budgets {
            before.budgets.retain(|budget| !teams(&budget.pot.scope));
            for (window, limit) in budgets {
                let team = before.team.clone().ok_or("`team-budget` needs a `team`")?;
                before = before.budget_of(Budget::new(Scope::team(team), *window, *limit));
            }
        } else if self.team.is_some() {
            // A key that moves to another team is charged to that team from now on.
            for budget in before.budgets.iter_mut().filter(|budget| teams(&budget.pot.scope)) {
                let team = before
                    .team
                    .clone()
                    .ok_or("`team=none` needs `team-budget=none`, because the key has a `team-budget`")?;
                budget.pot.scope = Scope::team(team);
            }
        }
        Ok(before)
    }

    /// Returns the existing key of this name, if any, and the principal that the key will have once it is minted.
    pub(crate) async fn look(
        &self,
        how: &str,
        keys: &dyn KeyRegistry,
    ) -> Result<(Option<KeyRecord>, Principal), Box<dyn Error>> {
        let before = keys.named(&self.name).await?.map(|record| KeyRecord::clone(&record));
        let principal =
            before.as_ref().map_or_else(|| Principal::new(&*self.name), |record| Principal::clone(&record.principal));
        let principal = self.onto(principal).map_err(|error| format!("{how} name={}: {error}", self.name))?;
        Ok((before, principal))
    }

    /// Checks, as far as possible in advance, that the key can be minted. `has_content`: `--content` names a file.
    pub(crate) async fn check(
        &self,
        how: &str,
        keys: &dyn KeyRegistry,
        has_content: bool,
    ) -> Result<(), Box<dyn Error>> {
        let (_, principal) = self.look(how, keys).await?;
        if let Some(keep) = principal.content.filter(|keep| *keep != Keep::Nothing && !has_content) {
            tracing::warn!(
                "--mint: the key {} has content={}, but without --content nothing is kept",
                self.name,
                keep.as_str()
            );
        }
        Ok(())
    }

    /// Mints the key. If one of that name exists, gives it a new secret and the parts that are named. What the key has
    /// spent stays with it.
    ///
    /// Returns `None` if the key was revoked or has expired: a restart with the same arguments must not revive it.
    pub(crate) async fn into(
        self,
        how: &str,
        keys: &dyn KeyRegistry,
        peppers: &Peppers,
    ) -> Result<Option<VirtualKey>, Box<dyn Error>> {
        let (key, now) = (VirtualKey::mint(Environment::Live)?, jiff::Timestamp::now());
        let (before, principal) = self.look(how, keys).await?;
        let (record, changes) = match before {
            Some(before) if is_over(&before) => {
                let why = if before.disabled { "was revoked" } else { "has expired" };
                tracing::warn!("{how}: the key {} {why} and is not changed", self.name());
                return Ok(None);
            }
            Some(before) => {
                let changes = powers::changes(&before.principal, &principal);
                (before.rotated(&key, &peppers.pepper, principal), format!("has a new secret; {changes}"))
            }
            None => {
                let said = powers::said(&principal);
                (KeyRecord::new(&key, &peppers.pepper, principal, now), format!("is new; {said}"))
            }
        };
        peppers.note(keys.is_empty().await?).await?;
        match keys.put(&record).await? {
            Put::Written => {
                tracing::info!("{how}: the key {} {changes}", self.name());
                Ok(Some(key))
            }
            Put::Taken | Put::Outdated => {
                Err(format!("{how}: another process is minting {} at this moment", record.principal.name).into())
            }
        }
    }
}

/// Mints the keys one after the other, printing each before the next. Returns the first. `how` is the option or command.
pub(crate) async fn all(
    how: &str,
    mint: Vec<Mint>,
    keys: &dyn KeyRegistry,
    peppers: &Peppers,
) -> Result<Option<VirtualKey>, Box<dyn Error>> {
    let mut first = None;
    let joined = joined(&mint);
    for one in mint {
        let name = one.name().to_owned();
        if let Some(key) = one.into(how, keys, peppers).await? {
            say(format_args!("key {name} {}", key.expose())).map_err(|error| {
                format!(
                    "the key {name} was minted, but its secret could not be printed and is lost: mint it again with {how} \
                     name={name}; the keys after it were not minted; cannot write to standard output: {error}"
                )
            })?;
            first.get_or_insert(key);
        }
    }
    teams::warn(how, &joined, keys).await;
    Ok(first)
}

/// The names of the keys that become those of a team.
pub(crate) fn joined(mint: &[Mint]) -> Vec<String> {
    mint.iter().filter(|one| one.joins()).map(|one| one.name.clone()).collect()
}

/// Parses several keys to mint. `how` is the option or command, for error messages.
pub(crate) fn several(how: &str, texts: impl IntoIterator<Item = String>) -> Result<Vec<Mint>, Box<dyn Error>> {
    let mut all: Vec<Mint> = Vec::new();
    for text in texts {
        let one = Mint::parse(&text).map_err(|error| format!("{how} {text}: {error}"))?;
        if all.iter().any(|other| other.name == one.name) {
            return Err(format!("{how}: {} is named twice", one.name).into());
        }
        all.push(one);
    }
    Ok(all)
}

/// Whether a key was revoked or has expired: it opens nothing, and a new secret would not change that.
pub(crate) fn is_over(key: &KeyRecord) -> bool {
    !key.is_good_at(jiff::Timestamp::now())
}

/// Refuses a name that no key has. `how` is the option or command, for error messages.
pub(crate) async fn check_known(keys: &dyn KeyRegistry, how: &str, names: &[String]) -> Result<(), Box<dyn Error>> {
    for name in names {
        if keys.named(name).await?.is_none() {
            return Err(format!("{how}: there is no key {name}").into());
        }
    }
    Ok(())
}

/// Revokes the key of this name, unless it is revoked already. `how` is the option or command, for error messages.
pub(crate) async fn revoke(keys: &dyn KeyRegistry, how: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let Some(record) = keys.named(name).await? else { return Err(format!("{how}: there is no key {name}").into()) };
    match record.disabled || keys.put(&record.revoked()).await?.is_written() {
        true => Ok(()),
        false => Err(format!("{how}: another process is changing {name} at this moment").into()),
    }
}

/// Parses budgets. Two of one window would be one pot with two limits. `part` is their name, for error messages.
fn distinct(part: &str, texts: &[&str]) -> Result<Vec<(Window, Money)>, Box<dyn Error>> {
    let mut all: Vec<(Window, Money)> = Vec::new();
    for text in texts {
        let one = budget(text)?;
        if all.iter().any(|(window, _)| *window == one.0) {
            return Err(
                format!("`{part}={text}`: there is a {part} of the window `{}` already; give one", one.0).into()
            );
        }
        all.push(one);
    }
    Ok(all)
}

/// Parses a budget such as `5/day`.
fn budget(text: &str) -> Result<(Window, Money), Box<dyn Error>> {
    let (limit, window) = text.split_once('/').ok_or("a budget must have the form AMOUNT/WINDOW, such as 5/day")?;
    Ok((window.parse()?, limit.parse()?))
}
