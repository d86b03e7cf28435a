//! The shared data types: plain data that every layer uses, without I/O.
//!
//! You need them to write a gate, a router or an observer: a [`Target`](target::Target), an
//! [`Outcome`](outcome::Outcome) and a [`Rejection`](rejection::Rejection) are defined here.
//!
//! ```
//! use tollgate::domain::usage::Usage;
//! let usage = Usage { input: 9, cache_read: 8_000, cache_write_5m: 1_200, output: 50, ..Usage::default() };
//! assert_eq!(usage.total_input(), 9_209);
//! ```

pub mod attribution;
pub mod audit;
pub mod bucket;
pub mod budget;
pub mod catalog;
pub mod clock;
pub mod content;
pub mod dialect;
pub mod estimate;
pub mod event;
pub mod key;
pub mod ledger;
pub mod limit;
pub mod money;
pub mod outcome;
pub(crate) mod pattern;
pub mod principal;
pub mod rejection;
pub mod scope;
pub(crate) mod short;
pub mod target;
pub mod usage;
pub mod window;
