//! Translation of requests, answers, streams and errors between the dialects.

#![expect(clippy::needless_pass_by_value, reason = "what is written by `json!` is given away")]

mod answers;
mod attempts;
mod bounds;
mod caching;
mod conversations;
mod corpus;
mod errors;
mod fields;
mod gateway;
mod late;
mod make;
mod pauses;
mod read;
mod requests;
mod round_trips;
mod rows;
mod schemas;
mod servers;
#[path = "../support/skip.rs"]
mod skip;
mod streams;
mod to_chat;
mod to_messages;
mod turns;
mod usage;
