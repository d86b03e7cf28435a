//! Measures the cost of an event of a stream and of a byte of a request, beside code that only scans the bytes.
//!
//! `cargo bench --bench sse`; see `support` for the arguments.

#[path = "cases/sse.rs"]
mod cases;
mod support;

fn main() {
    cases::run(&support::Bench::of_time());
}
