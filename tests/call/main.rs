//! The life of a call: it opens once, and closes once, whatever happens to its bodies and its futures.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod closing;
mod cutting;
mod dropped_futures;
mod ends;
mod leaving;
