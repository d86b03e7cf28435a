//! Measures requests to the stores in memory, including their boxed futures, and the lookup of a key.
//!
//! `cargo bench --bench stores`; see `support` for the arguments.

#[path = "cases/stores.rs"]
mod cases;
mod support;

fn main() {
    cases::run(&support::Bench::of_time());
}
