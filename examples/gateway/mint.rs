use std::error::Error;
use std::str::FromStr;

use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::content::Keep;
use tollgate::domain::key::{Environment, KeyRecord, VirtualKey};
use tollgate::domain::limit::{Limit, Measure};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::{Scope, ScopeKind};
use tollgate::store::key::KeyRegistry;

use crate::args::kept;
use crate::peppers::Peppers;
use crate::powers;
use crate::welcome::say;

/// A key to mint: `name=alice,budget=5/day,rpm=10,tpm=1000,parallel=4,models=claude-*`. Every part but the name may be
/// left out, and `budget` and `models` may come more than once: `budget=20/rolling 1h`, `budget=5/day (Europe/Berlin)`. `user`
/// and `team` say whose it is; `team-budget=100/month` is shared by the team; `content=redacted` is how much is kept of what its
/// calls hold.
///
/// Of a key that is there already a part that is left out stays as it was, and one that is named takes the place of all that was
/// there of it. `none` takes it away, `models=*` the list of models, and `content=default` what was said of content. Who changes to another
/// `team` takes what a `team-budget` has along to that one.
pub(crate) struct Mint {
    name: String,
    user: Part<String>,
    team: Part<String>,
    content: Part<Keep>,
    limits: Vec<(Measure, Option<u64>)>,
    /// An empty list takes away what was there, as do those that follow.
    models: Option<Vec<String>>,
    budgets: Option<Vec<(Window, Money)>>,
    team_budgets: Option<Vec<(Window, Money)>>,
}

/// `None` where it is not named, and `Some(None)` where it is taken away.
type Part<T> = Option<Option<T>>;

const LIMITS: [(&str, Measure); 3] =
    [("rpm", Measure::Requests), ("tpm", Measure::Tokens), ("parallel", Measure::Parallel)];

impl Mint {
    pub(crate) fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let parts = text.split(',').map(|part| {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not of the form key=value"))?;
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
            _ => Err(format!("`{wanted}` comes twice")),
        };
        let text_of =
            |wanted| single(wanted).map(|value| value.map(|value| (value != "none").then(|| value.to_owned())));
        let budgets = |wanted: &str| match all(wanted)[..] {
            [] => Ok(None),
            ["none"] => Ok(Some(Vec::new())),
            ref some => some.iter().map(|value| budget(value)).collect::<Result<_, _>>().map(Some),
        };

        let is_known = |key: &str| {
            matches!(key, "name" | "user" | "team" | "content" | "models" | "budget" | "team-budget")
                || LIMITS.iter().any(|(limit, _)| *limit == key)
        };
        if let Some((other, _)) = parts.iter().find(|(key, _)| !is_known(key)) {
            return Err(format!("`{other}` is not known").into());
        }
        let name = single("name")?.ok_or("`name` is missing")?.to_owned();
        let mut limits = Vec::new();
        for (key, measure) in LIMITS {
            match single(key)? {
                Some("none") => limits.push((measure, None)),
                Some(most) => {
                    let most = u64::from_str(most).map_err(|_| format!("`{key}={most}`: not a whole number"))?;
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
                return Err("`models`: every model is `models=*`, by itself".into());
            }
            ref some => Some(some.iter().map(|&model| model.to_owned()).collect()),
        };
        let (user, team) = (text_of("user")?, text_of("team")?);
        let (budgets, team_budgets) = (budgets("budget")?, budgets("team-budget")?);
        Ok(Mint { name, user, team, content, limits, models, budgets, team_budgets })
    }

    /// Whether anything of what its calls hold is to be kept.
    pub(crate) fn keeps_content(&self) -> bool {
        self.content.flatten().is_some_and(|keep| keep != Keep::Nothing)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What this makes of one who may do as `before` says.
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
            // Who goes to another team is paid for by that one from now on.
            for budget in before.budgets.iter_mut().filter(|budget| teams(&budget.pot.scope)) {
                let team = before.team.clone().ok_or("`team=none` wants `team-budget=none`: it has a `team-budget`")?;
                budget.pot.scope = Scope::team(team);
            }
        }
        Ok(before)
    }

    /// The key of this name as it is, if there is one, and what its holder may do once it is minted.
    async fn look(&self, how: &str, keys: &dyn KeyRegistry) -> Result<(Option<KeyRecord>, Principal), Box<dyn Error>> {
        let before = keys.named(&self.name).await?.map(|record| KeyRecord::clone(&record));
        let principal =
            before.as_ref().map_or_else(|| Principal::new(&*self.name), |record| Principal::clone(&record.principal));
        let principal = self.onto(principal).map_err(|error| format!("{how} name={}: {error}", self.name))?;
        Ok((before, principal))
    }

    /// Whether it can be minted, as far as can be known before it is. `has_content`: what calls hold can be kept.
    pub(crate) async fn check(
        &self,
        how: &str,
        keys: &dyn KeyRegistry,
        has_content: bool,
    ) -> Result<(), Box<dyn Error>> {
        let (_, principal) = self.look(how, keys).await?;
        if let Some(keep) = principal.content.filter(|keep| *keep != Keep::Nothing && !has_content) {
            tracing::warn!(
                "--mint: the key {} has content={}, and without --content nothing is kept",
                self.name,
                keep.as_str()
            );
        }
        Ok(())
    }

    /// Mints the key, or gives the one of that name a new secret, and these powers, if any are named; what it spent
    /// stays with it. `None` where it was revoked or has expired: a start with the arguments of before revives no key.
    pub(crate) async fn into(
        self,
        how: &str,
        keys: &dyn KeyRegistry,
        peppers: &Peppers,
    ) -> Result<Option<VirtualKey>, Box<dyn Error>> {
        let (key, now) = (VirtualKey::mint(Environment::Live)?, jiff::Timestamp::now());
        let (before, principal) = self.look(how, keys).await?;
        let (record, changes) = match before {
            Some(before) if before.disabled || before.expires_at.is_some_and(|at| at <= now) => {
                let why = if before.disabled { "was revoked" } else { "has expired" };
                tracing::warn!("{how}: the key {} {why}, and is left as it is", self.name());
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
            true => {
                tracing::info!("{how}: the key {} {changes}", self.name());
                Ok(Some(key))
            }
            false => Err(format!("{how}: somebody else is minting {} at this moment", record.principal.name).into()),
        }
    }
}

/// Mints them one after the other, and prints each before the next: the first is given back.
pub(crate) async fn all(
    how: &str,
    mint: Vec<Mint>,
    keys: &dyn KeyRegistry,
    peppers: &Peppers,
) -> Result<Option<VirtualKey>, Box<dyn Error>> {
    let mut first = None;
    for one in mint {
        let name = one.name().to_owned();
        if let Some(key) = one.into(how, keys, peppers).await? {
            say(format_args!("key {name} {}", key.expose())).map_err(|error| {
                format!(
                    "the key {name} was minted, but its secret could not be printed, and there is no copy of it: mint it again with \
                     {how} name={name}; keys after it were not minted; standard output: {error}"
                )
            })?;
            first.get_or_insert(key);
        }
    }
    Ok(first)
}

/// Parses several keys to mint; `how` is the word or option that they were given by.
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

/// Revokes the key of this name; one that was revoked stays as it is. `how` is what somebody typed.
pub(crate) async fn revoke(keys: &dyn KeyRegistry, how: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let Some(record) = keys.named(name).await? else { return Err(format!("{how}: there is no key {name}").into()) };
    match record.disabled || keys.put(&record.revoked()).await? {
        true => Ok(()),
        false => Err(format!("{how}: somebody else is changing {name} at this moment").into()),
    }
}

/// `5/day`
fn budget(text: &str) -> Result<(Window, Money), Box<dyn Error>> {
    let (limit, window) = text.split_once('/').ok_or("a budget is of the form 5/day")?;
    Ok((window.parse()?, limit.parse()?))
}
