//! The long-form documentation.
//!
//! - [`promises`]: what the crate promises, with the tests that prove it; [`limits`]: where that ends.
//! - [`design`]: how the crate is built; [`ordering`]: why the layers stand in their order.
//! - [`headers`]: every header; [`records`]: every member of an audit record.
//! - [`operations`]: starting, stopping, and what to do when something is wrong.

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("headers.md")]
pub mod headers {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("ordering.md")]
pub mod ordering {}

#[doc = include_str!("promises.md")]
pub mod promises {}

#[doc = include_str!("records.md")]
pub mod records {}
