//! Pass-through: bodies leave the gateway byte for byte as they came, except for what the gateway itself has added or
//! asked for.

#[path = "../support/cases.rs"]
mod cases;
mod compressed;
mod corpus;
mod fixtures;
mod headers;
mod reading;
mod requests;
mod responses;
#[path = "../support/skip.rs"]
mod skip;
mod sockets;
mod stack;
#[path = "../support/mod.rs"]
mod support;
