//! Pass-through: what goes through the gateway comes out the same, byte for byte, but for what it asked for itself.

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
