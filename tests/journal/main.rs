//! The journal: what is written before and after a call, what a crash leaves, what sinks get, and what is proved.

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod deaf;
mod directories;
mod events;
mod full;
mod killed;
mod long;
mod measured;
mod once;
mod proofs;
mod room;
mod shipping;
mod sinks;
mod site;
mod told;
mod torn;
mod writing;
