//! An audit trail that outlives the process: every call is written to local files before it may cost anything, and
//! again when it has closed.
//!
//! Use it if a crash, or a slow or unavailable sink, must not lose any record. Use it also if holds that a crash left
//! behind should be charged what their calls cost, not in full. [`AuditLayer::journaled`](crate::AuditLayer::journaled)
//! writes the journal, and delivers records to sinks.
//!
//! - **Lines.** A journal is a directory of segments, with one JSON text per line
//!   ([`docs::records`](crate::docs::records) has the format). Each line has a number, one more than that of the line
//!   before, and the SHA-256 of the line before. [`verify`] names the first line that is missing or was changed. A call
//!   has three kinds of line: an `intent` before its request is sent; a `seen` every two seconds while the call
//!   changes, and every 256 tokens of a stream; and a `final`. If a call goes on for so long that segments would be
//!   kept for it alone, its `intent` and latest `seen` are written again.
//! - **Durability.** A call waits until its intent is written, and its budgets are settled when its final is written.
//!   Neither waits for the disk: what is written is synced some 20 ms later, for all calls together. A crash of the
//!   process loses nothing that is written. A crash of the machine loses those milliseconds.
//! - **Crashes.** When the journal is opened, it finds the calls that have an intent and no final.
//!   [`Journal::settle_lost`] closes them as [`Lost`](crate::domain::outcome::End::Lost), and also corrects what their
//!   budgets forfeited.
//! - **Sinks** receive each final, in order, at least once. How far each sink has come is kept beside the segments. A
//!   sink that stalls holds up nobody else.
//! - **Content**, if a [`ContentLayer`](crate::ContentLayer) keeps any: one line for each body, with a hash that by
//!   itself reveals nothing of the body, and one line for each deletion. [`Seals`] proves what a sink has.
//! - **Events** ([`event`](crate::domain::event)) go the same way: [`Journal::events`] takes them, and
//!   [`Journal::notify`] adds the sinks that receive them. A sink that takes no events does not keep segments from
//!   being removed: the events that it has not had are saved beside the segments, 1,000 at most. While that fails,
//!   segments stay for as long as there is room. Somebody who was told that an upstream is down, or that records cannot
//!   be written, hears of the end of it after a restart too, and does not hear of the beginning again.
//! - **Hung disk.** If a write takes more than 5 seconds, or written lines are not on the disk after 10 seconds, the
//!   journal lets no call through until the disk moves again.
//! - **Full.** Segments have their full size from the beginning. If there is no room for the next one, no call is let
//!   through: the answer is 529, or 429 for OpenAI's clients. The finals of calls that were let through are written
//!   beyond that limit, as far as the disk has room. Content stops before calls do. If there is a sink of records, what
//!   all sinks of records have had is removed beyond [`keep_bytes`](JournalOptions::keep_bytes).
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
mod flush;
mod frame;
mod late;
mod line;
mod mend;
pub(crate) mod moments;
mod ongoing;
mod open;
mod outbox;
mod position;
mod pots;
mod queue;
mod recover;
mod release;
mod resume;
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
