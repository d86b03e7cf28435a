//! How often the cases of the other benches allocate.
//!
//! `cargo bench --bench allocations`; see `support` for the arguments. A program of its own: whoever counts stands in
//! front of the allocator, and in every time that is taken there.

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
