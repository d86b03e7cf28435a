//! What the journal records about content that is kept elsewhere, and the proof of it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Shared;
use super::chain::LineHash;
use super::line::{Said, read};
use super::queue::Item;
use super::verify::each_line;
use crate::domain::content::{Content, Keep, LeftOut, Side};

/// How long content waits for its lines to be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body is about to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    call: Uuid,
    side: Side,
    keep: Keep,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOut>,
    bytes: u64,
    at: Timestamp,
    is_whole: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<Uuid>,
    /// The hash of what is kept, with a salt that is not in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<LineHash>,
}

impl Sealed {
    fn of(content: &Content) -> Self {
        let &Content { call, side, keep, left_out, bytes, at, is_whole, key_id, .. } = content;
        let hash = content.seal.map(|seal| LineHash::from_bytes(*seal.hash()));
        Sealed { call, side, keep, left_out, bytes, at, is_whole, key_id, hash }
    }
}

/// The journal's record of a deletion.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deleted {
    /// The bodies ended before this time and were deleted by retention. `None`: somebody deleted them by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Timestamp>,
    bodies: u64,
}

/// Records in a journal what a [`ContentLayer`](crate::ContentLayer) keeps. Clones share the journal.
#[derive(Clone)]
pub struct Sealer {
    shared: Arc<Shared>,
}

impl Sealer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.has_sealer.store(true, Ordering::Relaxed);
        shared.sync.look();
        Sealer { shared }
    }

    /// Waits until a line for each body is written. Returns `false` if that failed.
    pub(crate) async fn seal(&self, contents: &[Content]) -> bool {
        let (done, written) = oneshot::channel();
        self.shared.queue.push(Item::Sealed(contents.iter().map(Sealed::of).collect(), done));
        matches!(tokio::time::timeout(PATIENCE, written).await, Ok(Ok(())))
    }

    /// Records that this many bodies were deleted. Call it after a deletion by call, key or user. The layer itself
    /// records what it deletes by retention.
    pub fn deleted(&self, bodies: u64) {
        self.shared.queue.push(Item::Deleted(Deleted { before: None, bodies }));
    }

    pub(crate) fn deleted_before(&self, before: Timestamp, bodies: u64) {
        self.shared.queue.push(Item::Deleted(Deleted { before: Some(before), bodies }));
    }

    /// Whether the room that is left should be kept for records.
    pub(crate) fn is_short(&self) -> bool {
        self.shared.is_failing() || self.shared.sync.is_short()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// What a journal says about content that was kept. It proves that a sink still has exactly that.
///
/// ```no_run
/// # async fn of(call: uuid::Uuid, sqlite: tollgate::store::sqlite::Sqlite) -> Result<(), Box<dyn std::error::Error>> {
/// use tollgate::store::journal::{Proof, Seals};
/// let seals = Seals::read("journal")?;
/// for content in sqlite.contents().find(call).await? {
///     assert_eq!(seals.prove(&content), Proof::Holds);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Seals {
    by_body: HashMap<(Uuid, Side), Sealed>,
    deleted_before: Option<Timestamp>,
    deleted_by_hand: u64,
}

/// What the journal says about a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// The body is what was kept, of that key and at that time.
    Holds,
    /// The body that was kept is not there any more.
    Missing,
    /// The body or its data is different.
    Changed,
    /// The journal says nothing about the body: the body is older than the journal's first line, or was never kept.
    NotWrittenDown,
}

impl Seals {
    /// Reads a whole journal, in this directory or exported to this file. It does not check that the journal is
    /// unbroken; [`verify`](super::verify) does.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut seals = Seals { by_body: HashMap::new(), deleted_before: None, deleted_by_hand: 0 };
        each_line(path.as_ref(), |line| {
            match read(line).map(|line| line.said) {
                Some(Said::Content(sealed)) => {
                    // There is one line per body. Any further line was added later by somebody.
                    seals.by_body.entry((sealed.call, sealed.side)).or_insert(sealed);
                }
                Some(Said::ContentDeleted(Deleted { before: None, bodies })) => {
                    seals.deleted_by_hand = seals.deleted_by_hand.saturating_add(bodies);
                }
                Some(Said::ContentDeleted(Deleted { before, .. })) => {
                    seals.deleted_before = seals.deleted_before.max(before);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(seals)
    }

    /// The number of bodies that the journal describes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_body.len()
    }

    /// Whether the journal describes no body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_body.is_empty()
    }

    /// Which bodies of this call were to be kept, the request first, and when each had ended.
    #[must_use]
    pub fn of(&self, call: Uuid) -> Vec<(Side, Timestamp)> {
        let sealed = [Side::Request, Side::Answer].map(|side| self.by_body.get(&(call, side)));
        sealed.into_iter().flatten().map(|sealed| (sealed.side, sealed.at)).collect()
    }

    /// Bodies that ended before this time were deleted, because their retention was over. `None` if none was.
    #[must_use]
    pub fn deleted_before(&self) -> Option<Timestamp> {
        self.deleted_before
    }

    /// How many other bodies were deleted, by call, key or user. The journal does not say of which calls.
    #[must_use]
    pub fn deleted_by_hand(&self) -> u64 {
        self.deleted_by_hand
    }

    /// Compares a body with what was kept.
    #[must_use]
    pub fn prove(&self, content: &Content) -> Proof {
        let Some(sealed) = self.by_body.get(&(content.call, content.side)) else { return Proof::NotWrittenDown };
        match (&content.body, &content.seal) {
            _ if *sealed != Sealed::of(content) => Proof::Changed,
            (Some(body), Some(seal)) if seal.fits(body) => Proof::Holds,
            (Some(_), _) => Proof::Changed,
            (None, Some(_)) if content.keep != Keep::Hashed => Proof::Missing,
            // Only a hash was kept, or nothing at all.
            (None, _) => Proof::Holds,
        }
    }
}
