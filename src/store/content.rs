//! Where what prompts and answers held goes, if it is kept.
//!
//! Reach for it to keep it in a place of your own; [`store::sqlite`](crate::store::sqlite) has a table for it.
//!
//! ```
//! use async_trait::async_trait;
//! use jiff::Timestamp;
//! use tollgate::domain::content::Content;
//! use tollgate::store::StoreError;
//! use tollgate::store::content::ContentSink;
//!
//! /// One file a body.
//! struct Files(std::path::PathBuf);
//!
//! #[async_trait]
//! impl ContentSink for Files {
//!     async fn write(&self, contents: &[Content]) -> Result<(), StoreError> {
//!         for content in contents {
//!             let name = format!("{}-{}", content.call, content.side.as_str());
//!             let body = content.body.as_deref().unwrap_or_default();
//!             std::fs::write(self.0.join(name), body).map_err(StoreError::unavailable)?;
//!         }
//!         Ok(())
//!     }
//!
//!     async fn delete_before(&self, _: Timestamp) -> Result<u64, StoreError> {
//!         Ok(0) // somebody else's care
//!     }
//! }
//! ```

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::content::Content;

/// Takes what is kept of bodies, and lets go of it.
#[async_trait]
pub trait ContentSink: Send + Sync + 'static {
    /// Keeps all of these, or fails. After an error all of them come again: a sink that may have kept some tells them apart
    /// by their call and side. One that has not answered for a minute, and a second for each of them, is let go of, and asked
    /// again in the same way.
    ///
    /// # Errors
    /// When not all could be kept. Where the store is [unavailable](StoreError::is_unavailable) they come again after a
    /// pause, else they are lost.
    async fn write(&self, contents: &[Content]) -> Result<(), StoreError>;

    /// Deletes what came to its end before then, for good, and says of how many bodies. It need not delete all at once: it is
    /// asked again until there is nothing. One that has not answered for a minute is let go of, and asked again later.
    ///
    /// # Errors
    /// When it could not be deleted; it is asked again later.
    async fn delete_before(&self, end: Timestamp) -> Result<u64, StoreError>;
}
