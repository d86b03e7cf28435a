//! `ContentLayer`: what is kept of prompts and answers, and what is not.

#[path = "../support/mod.rs"]
mod support;

mod keeping;
mod proofs;
mod redacting;
mod rows;
mod site;
mod stalling;
