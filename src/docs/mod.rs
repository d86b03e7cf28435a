//! The long texts: how the house is built, and why the layers stand in their order; and every header.

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("headers.md")]
pub mod headers {}

#[doc = include_str!("ordering.md")]
pub mod ordering {}
