//! An audit trail that outlives the process: every call is written to local files before it may cost anything, and again
//! when it has closed.
//!
//! Reach for it where a record may not be lost to a crash, or to a sink that is slow or down; and where holds that a crash
//! left should be charged what their calls cost, not whole. [`AuditLayer::journaled`](crate::AuditLayer::journaled) writes
//! it, and hands records on to sinks.
//!
//! - **Lines.** A journal is a directory of segments of one JSON text a line ([`docs::records`](crate::docs::records) says what
//!   stands in them). Each has a number, one more than the line before, and the SHA-256 of that line: [`verify`] names the first
//!   that is missing or was changed. Of a call there are an `intent`, before its request is sent, a `seen` every two seconds
//!   while it goes on, and every 256 tokens of a stream, and a `final`. Of one that goes on for so long that segments would be
//!   kept for it alone, the `intent` and how it stands are said again.
//! - **Durability.** A call waits until its intent is written, and its budgets are told how it ended when its final is; not
//!   until that is on the disk, which is some 20 ms later, for all calls together. A crash of the process loses nothing that
//!   is written, one of the machine those milliseconds.
//! - **Crashes.** Calls that have an intent and no final are found when the journal is opened, and closed as
//!   [`Lost`](crate::domain::outcome::End::Lost) by [`Journal::settle_lost`], which also corrects what their budgets forfeited.
//! - **Sinks** are told of each final, in order, at least once; how far each has come is kept beside the segments. One that
//!   stalls holds up nobody.
//! - **Content**, where a [`ContentLayer`](crate::ContentLayer) keeps any: a line of each body, with a hash that tells
//!   nothing of it by itself, and of what was deleted; [`Seals`] proves what a sink has.
//! - **Events** that somebody should hear of ([`event`](crate::domain::event)) go the same way: [`Journal::events`] takes them,
//!   [`Journal::notify`] says who hears. A sink that takes none keeps no segment from going: what it has not had, 1,000 of them
//!   at most, is kept beside. Whoever was told of an upstream that is down, or of records that cannot be written, hears of the
//!   end of it after a restart too, and not of the beginning again.
//! - **Hung.** A disk that has not ended a write for 5 seconds, or on which what is written has not been for 10, is one that
//!   takes nothing: no call is let through until it moves.
//! - **Full.** Segments are as large from the beginning as they will be. If there is no room for the next, no call is let
//!   through: 529, or 429 for OpenAI's clients. The ends of those that were go beyond, as far as the disk has room; what is no
//!   record stops before. What all sinks of records have had is removed beyond
//!   [`keep_bytes`](JournalOptions::keep_bytes), if there is one that takes records.
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("tollgate-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! use tollgate::AuditLayer;
//! use tollgate::audit::TracingSink;
//! use tollgate::store::journal::{Journal, verify};
//! # use tollgate::store::memory::MemoryBudgets;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("tollgate-doc-{}", std::process::id()));
//! # let budgets = MemoryBudgets::new();
//!
//! let mut journal = Journal::at(&dir).open()?;
//! journal.settle_lost(&budgets).await?; // the store that the `BudgetLayer` gets
//! let audit = AuditLayer::journaled(journal.ship("log", TracingSink::new())?);
//! // … a clone of it in the stack, and at any time, from any process:
//! audit.flush().await;
//! let report = verify(&dir, &[])?;
//! assert!(report.broken.is_none());
//! # Ok(()) }
//! # main()?; std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calls;
mod carry;
mod chain;
mod ends;
mod error;
mod events;
mod fit;
mod frame;
mod late;
mod line;
mod mend;
mod moments;
mod ongoing;
mod open;
mod outbox;
mod position;
mod pots;
mod queue;
mod recover;
mod release;
mod seal;
mod segment;
mod shared;
mod ship;
mod spare;
mod sync;
mod tail;
mod trail;
mod verify;
mod writer;

pub use self::chain::{Head, LineHash, NotAHead};
pub use self::error::JournalError;
pub use self::events::{Events, UpstreamWatch};
pub(crate) use self::line::{Intent, Seen};
pub use self::open::{Corrected, Journal, JournalOptions};
pub(crate) use self::queue::Witness;
pub use self::seal::{Proof, Sealer, Seals};
pub(crate) use self::trail::{Trail, Trails};
pub use self::verify::{Anchor, AnchorState, Break, Fault, Report, export, verify, verify_export};

use self::shared::Shared;
