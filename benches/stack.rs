//! What a call through the whole gateway costs, above the upstream that answers it: time and allocations, no sockets.
//!
//! `cargo bench --bench stack`; see `support` for the arguments.

#[path = "cases/stack.rs"]
mod cases;
mod support;

fn main() {
    cases::run(&support::Bench::of_time());
}
