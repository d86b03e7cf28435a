//! Storms: a thousand calls at once through the whole governed stack, stores that fail in the middle, clients that hang
//! up anywhere, and attempts to get around authentication and budgets.

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod calls;
mod canaries;
mod charges;
mod corners;
mod door;
mod dying_store;
mod endings;
mod every_byte;
mod every_ending;
mod every_poll;
mod guarded;
mod in_process;
mod late;
mod limits;
mod network;
mod oracle;
mod panics;
mod priced;
mod seeded;
mod shown;
mod simulation;
mod site;
mod sockets;
mod sqlite;
mod surface;
mod thinking;
mod watched;
mod weather;
mod whole;
