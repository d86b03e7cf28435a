//! Counts the allocations of the cases of the other benches.
//!
//! `cargo bench --bench allocations`; see `support` for the arguments. It is a separate program because the counting
//! allocator would slow down every measured time.

mod cases {
    pub(crate) mod sse;
    pub(crate) mod stack;
    pub(crate) mod stores;
}
mod support;

fn main() {
    let bench = support::Bench::of_allocations(|calls| allocation_counter::measure(calls).count_total);
    cases::stack::run(&bench);
    cases::stores::run(&bench);
    cases::sse::run(&bench);
}
