//! Bad input from clients and from providers, over real sockets.
//!
//! - A malformed request never reaches the provider.
//! - A malformed answer never looks like the client's fault.
//! - Every call closes once, with the true outcome.

mod answers;
mod heads;
mod json;
mod manners;
mod raw;
mod shape;
mod sizes;
#[path = "../support/skip.rs"]
mod skip;
mod stack;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod usage;
