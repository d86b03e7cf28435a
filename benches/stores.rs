//! What a question to a store in memory costs, boxed futures included, and what it costs to know a key.
//!
//! `cargo bench --bench stores`; see `support` for the arguments.

#[path = "cases/stores.rs"]
mod cases;
mod support;

fn main() {
    cases::run(&support::Bench::of_time());
}
