//! Changes what keys may do. Their secrets and what they have spent stay as they are.

use std::error::Error;

use tollgate::store::key::KeyRegistry;

use crate::keys::{printable, shown};
use crate::mint::{Mint, is_over, joined};
use crate::welcome::say;
use crate::{powers, teams};

/// Changes the keys, and prints what changed of each. None is changed where one of them cannot be.
pub(crate) async fn all(changes: &[Mint], keys: &dyn KeyRegistry) -> Result<(), Box<dyn Error>> {
    let mut checked = Vec::new();
    for one in changes {
        let (before, principal) = one.look("change", keys).await?;
        let Some(before) = before else {
            return Err(format!("change: there is no key {}; make it with mint", one.name()).into());
        };
        if is_over(&before) {
            let why = "was revoked or has expired, and stays so: mint a key of another name";
            return Err(format!("change: the key {} {why}", one.name()).into());
        }
        checked.push((before, principal));
    }
    let mut heard = Ok(());
    for (before, principal) in checked {
        let said = powers::changes(&before.principal, &principal);
        let record = before.changed(principal);
        let name = &record.principal.name;
        if !keys.put(&record).await?.is_written() {
            let why = "another process is changing it at this moment; the keys after it are not changed either";
            return Err(format!("change: the key {name} is not changed: {why}").into());
        }
        // That nobody reads this must not keep the other keys from being changed.
        let line = printable(&format!("changed {}: {said}", shown(name)));
        heard = heard.and(say(format_args!("{line}")));
    }
    teams::warn("change", &joined(changes), keys).await;
    Ok(heard.map_err(|error| format!("every key is changed, but what changed could not be printed: {error}"))?)
}
