//! Every store passes the suite that anyone's store is asked to pass.

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
