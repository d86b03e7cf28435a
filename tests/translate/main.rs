//! Answers of one dialect as answers of another.

mod corpus;
mod read;
mod requests;
mod streams;
