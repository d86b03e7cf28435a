//! What is written down of content that is kept elsewhere, and its proof.

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

/// How long content waits for its lines.
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
    /// Of what is kept, under a salt that is not in here.
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

/// So many bodies are kept no longer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deleted {
    /// Because they came to their end before then; else somebody has deleted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Timestamp>,
    bodies: u64,
}

/// Writes down in a journal what a [`ContentLayer`](crate::ContentLayer) keeps. A clone is the same journal.
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

    /// Waits until a line of each is written. `false` if that could not be done.
    pub(crate) async fn seal(&self, contents: &[Content]) -> bool {
        let (done, written) = oneshot::channel();
        self.shared.queue.push(Item::Sealed(contents.iter().map(Sealed::of).collect(), done));
        matches!(tokio::time::timeout(PATIENCE, written).await, Ok(Ok(())))
    }

    /// Writes down that so many bodies were deleted: for who deletes them by call, key or user. What a layer deletes in time it
    /// writes down itself.
    pub fn deleted(&self, bodies: u64) {
        self.shared.queue.push(Item::Deleted(Deleted { before: None, bodies }));
    }

    pub(crate) fn deleted_before(&self, before: Timestamp, bodies: u64) {
        self.shared.queue.push(Item::Deleted(Deleted { before: Some(before), bodies }));
    }

    /// Whether what room there is had better be kept for records.
    pub(crate) fn is_short(&self) -> bool {
        self.shared.is_failing() || self.shared.sync.is_short()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// What a journal says of content that was kept: proves that what a sink has is that.
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

/// What is known of content that somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// It is what was kept, of that key, at that time.
    Holds,
    /// What was kept of it is not there any more.
    Missing,
    /// It is something else.
    Changed,
    /// The journal says nothing of it: it is older than its first line, or was never kept.
    NotWrittenDown,
}

impl Seals {
    /// All of a journal, in this directory or exported to this file. That it is whole is for [`verify`](super::verify) to say.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut seals = Seals { by_body: HashMap::new(), deleted_before: None, deleted_by_hand: 0 };
        each_line(path.as_ref(), |line| {
            match read(line).map(|line| line.said) {
                Some(Said::Content(sealed)) => {
                    // There is one of each; of more, whoever added them came later.
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

    /// How many bodies it says something of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_body.len()
    }

    /// Whether it says nothing of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_body.is_empty()
    }

    /// Which bodies of this call were to be kept, the request first, and when each had come to its end.
    #[must_use]
    pub fn of(&self, call: Uuid) -> Vec<(Side, Timestamp)> {
        let sealed = [Side::Request, Side::Answer].map(|side| self.by_body.get(&(call, side)));
        sealed.into_iter().flatten().map(|sealed| (sealed.side, sealed.at)).collect()
    }

    /// What had come to its end before then was deleted, since it was to be kept no longer. `None` where nothing was.
    #[must_use]
    pub fn deleted_before(&self) -> Option<Timestamp> {
        self.deleted_before
    }

    /// How many bodies somebody has deleted besides, by call, key or user: of which calls is not written down.
    #[must_use]
    pub fn deleted_by_hand(&self) -> u64 {
        self.deleted_by_hand
    }

    /// Whether this is what was kept.
    #[must_use]
    pub fn prove(&self, content: &Content) -> Proof {
        let Some(sealed) = self.by_body.get(&(content.call, content.side)) else { return Proof::NotWrittenDown };
        match (&content.body, &content.seal) {
            _ if *sealed != Sealed::of(content) => Proof::Changed,
            (Some(body), Some(seal)) if seal.fits(body) => Proof::Holds,
            (Some(_), _) => Proof::Changed,
            (None, Some(_)) if content.keep != Keep::Hashed => Proof::Missing,
            // A hash alone, or nothing at all.
            (None, _) => Proof::Holds,
        }
    }
}
