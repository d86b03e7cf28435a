//! Bad input from either side, over real sockets: what a client sends wrong never reaches the provider, what a provider
//! answers wrong never looks like the client's fault, and every call closes once with the truth.

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
