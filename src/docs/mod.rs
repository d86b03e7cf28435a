//! Guides and reference pages: what tollgate promises, where its limits are, how it is designed, how to order its
//! layers, every header, every member of a record, and how to run it.

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
