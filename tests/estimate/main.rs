//! What a call may cost before it is made, and what it did cost: prices, bounds, and what is read of a request for them.

mod bounds;
mod catalog;
mod corpus;
mod money;
mod prices;
mod reading;
#[path = "../support/skip.rs"]
mod skip;
