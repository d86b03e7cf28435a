//! Keys, limits, budgets and the audit trail, as a client and an operator see them.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod agents;
mod asleep;
mod auditing;
mod bodies;
mod budgets;
mod caches;
mod conversations;
mod cutting;
mod drain;
mod guards;
mod hanging;
mod info;
mod keys;
mod layered;
mod limits;
mod listing;
#[cfg(feature = "metrics")]
mod metering;
mod records;
mod refusals;
mod resting;
mod scopes;
mod telemetry;
mod unsent;
mod world;
