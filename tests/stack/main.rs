//! Stacks of layers: the crate's own, hand-built ones, embedded ones, and wrong ones.

#[path = "../support/mod.rs"]
mod support;

mod attempts;
mod callers;
mod embedding;
#[allow(dead_code, reason = "every area uses its own part")]
#[path = "../pass_through/fixtures.rs"]
mod fixtures;
mod house;
mod missing_layers;
mod mounts;
mod nesting;
mod rewriting;
mod routes;
mod secrets;
mod simulated;
mod statuses;
mod unmetered;
