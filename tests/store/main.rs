//! Every store in memory passes the public conformance suite, and the suite finds broken stores.

#[path = "../support/cases.rs"]
mod cases;

mod broken;
mod broken_keys;
mod cached;
mod customers;
mod late;
mod memory;
mod properties;
mod racy;
