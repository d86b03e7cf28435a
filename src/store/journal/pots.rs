//! Pots in a line, as rows: kind and id of the scope, window, start of the window, limit. Only a start after a crash
//! reads them, and member names would be half of the text.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer};

use crate::domain::budget::{Pot, Window};
use crate::domain::money::Money;
use crate::domain::scope::{Scope, ScopeKind};
use crate::store::budget::Pinned;

pub(super) fn serialize<S: Serializer>(pots: &[Pinned], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pots.iter().map(|pinned| {
        let Pinned { pot: Pot { scope: Scope { kind, id }, window }, window_start, limit } = pinned;
        (kind, id, window, window_start, limit)
    }))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pinned>, D::Error> {
    let rows = Vec::<(ScopeKind, Arc<str>, Window, Timestamp, Money)>::deserialize(deserializer)?;
    let pinned = |(kind, id, window, window_start, limit)| {
        let pot = Pot { scope: Scope { kind, id }, window };
        Pinned { pot, window_start, limit }
    };
    Ok(rows.into_iter().map(pinned).collect())
}
