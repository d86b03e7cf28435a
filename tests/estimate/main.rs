//! The most that a call may cost, and what it did cost: prices, bounds, and what is read of a request to compute them.

mod bounds;
mod catalog;
mod corpus;
mod money;
mod prices;
mod reading;
#[path = "../support/skip.rs"]
mod skip;
