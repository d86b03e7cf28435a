//! Checks values against `src/docs/records.md`, which names every member of a record and of a line of the journal.
#![allow(dead_code, reason = "every area uses its own part")]

use serde_json::Value;

const PAGE: &str = include_str!("../../src/docs/records.md");

/// Returns the members of `value`, at any depth, that the page does not name.
pub(crate) fn missing(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let unnamed = members.keys().filter(|name| !PAGE.contains(&format!("`{name}`"))).cloned();
            unnamed.chain(members.values().flat_map(missing)).collect()
        }
        Value::Array(all) => all.iter().flat_map(missing).collect(),
        _ => Vec::new(),
    }
}
