//! What an event costs on its way through, and a byte of a request: next to code that does nothing but look.
//!
//! `cargo bench --bench sse`; see `support` for the arguments.

#[path = "cases/sse.rs"]
mod cases;
mod support;

fn main() {
    cases::run(&support::Bench::of_time());
}
