use std::error::Error;

use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::content::Keep;
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::store::key::KeyRegistry;

use crate::args::kept;

/// A key to mint: `name=alice,budget=5/day,rpm=10,tpm=1000,parallel=4,models=claude-*`. Every part but the name may be
/// left out, and `budget` and `models` may come more than once: `budget=20/rolling 1h`, `budget=5/day (Europe/Berlin)`. `user` and `team` say whose it is;
/// `team-budget=100/month` is shared by the team; `content=redacted` is how much is kept of what its calls hold.
pub(crate) struct Mint {
    principal: Principal,
    /// Nothing but the name was given: whoever has such a key keeps its powers.
    is_bare: bool,
}

impl Mint {
    pub(crate) fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let parts = text.split(',').map(|part| {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not of the form key=value"))?;
            let value = value.trim();
            if value.is_empty() { Err(format!("`{part}` has no value")) } else { Ok((key.trim(), value)) }
        });
        let parts: Vec<(&str, &str)> = parts.collect::<Result<_, _>>()?;
        let single = |wanted: &str| -> Result<Option<&str>, String> {
            let mut found = parts.iter().filter(|(key, _)| *key == wanted).map(|(_, value)| *value);
            match (found.next(), found.next()) {
                (_, Some(_)) => Err(format!("`{wanted}` comes twice")),
                (value, None) => Ok(value),
            }
        };
        let mut principal = Principal::new(single("name")?.ok_or("`name` is missing")?);
        if let Some(user) = single("user")? {
            principal = principal.user(user);
        }
        let team = single("team")?;
        if let Some(team) = team {
            principal = principal.team(team);
        }
        for (key, measure) in [("rpm", Measure::Requests), ("tpm", Measure::Tokens), ("parallel", Measure::Parallel)] {
            if let Some(most) = single(key)? {
                principal =
                    principal.limit(measure, most.parse().map_err(|_| format!("`{key}={most}`: not a whole number"))?);
            }
        }
        if let Some(keep) = single("content")? {
            principal = principal.content(kept(keep)?);
        }
        for (key, value) in &parts {
            principal = match *key {
                "name" | "user" | "team" | "rpm" | "tpm" | "parallel" | "content" => principal,
                "models" => principal.models([*value]),
                "budget" => {
                    let (window, limit) = budget(value)?;
                    principal.budget(window, limit)
                }
                "team-budget" => {
                    let team = team.ok_or("`team-budget` needs a `team`")?;
                    let (window, limit) = budget(value)?;
                    principal.budget_of(Budget::new(Scope::team(team), window, limit))
                }
                other => return Err(format!("`{other}` is not known").into()),
            };
        }
        Ok(Mint { principal, is_bare: parts.len() == 1 })
    }

    /// Whether anything of what its calls hold is to be kept.
    pub(crate) fn keeps_content(&self) -> bool {
        self.principal.content.is_some_and(|keep| keep != Keep::Nothing)
    }

    pub(crate) fn name(&self) -> &str {
        &self.principal.name
    }

    /// Mints the key, or gives the one of that name a new secret, and these powers, if any are named; what it spent
    /// stays with it. `None` where it was revoked or has expired: a start with the arguments of before revives no key.
    pub(crate) async fn into(
        self,
        keys: &dyn KeyRegistry,
        pepper: &Pepper,
    ) -> Result<Option<VirtualKey>, Box<dyn Error>> {
        let (key, now) = (VirtualKey::mint(Environment::Live)?, jiff::Timestamp::now());
        let record = match keys.named(self.name()).await? {
            Some(before) if before.disabled || before.expires_at.is_some_and(|at| at <= now) => {
                let why = if before.disabled { "was revoked" } else { "has expired" };
                tracing::warn!("--mint: the key {} {why}, and is left as it is", self.name());
                return Ok(None);
            }
            Some(before) if self.is_bare => before.rotated(&key, pepper, Principal::clone(&before.principal)),
            Some(before) => before.rotated(&key, pepper, self.principal),
            None => KeyRecord::new(&key, pepper, self.principal, now),
        };
        match keys.put(&record).await? {
            true => Ok(Some(key)),
            false => Err(format!("--mint: somebody else is minting {} at this moment", record.principal.name).into()),
        }
    }
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
fn budget(text: &str) -> Result<(Window, tollgate::domain::money::Money), Box<dyn Error>> {
    let (limit, window) = text.split_once('/').ok_or("a budget is of the form 5/day")?;
    Ok((window.parse()?, limit.parse()?))
}
