//! Measures a call through the whole gateway, beside the bare upstream. There are no sockets.
//!
//! `cargo bench --bench stack`; see `support` for the arguments.

#[path = "cases/stack.rs"]
mod cases;
mod support;

fn main() {
    cases::run(&support::Bench::of_time());
}
