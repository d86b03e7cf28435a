//! The destination of the content that is kept of prompts and answers.
//!
//! Implement [`ContentSink`] to keep them in a place of your own; [`store::sqlite`](crate::store::sqlite) has a table
//! for them. [`Content::stored`] makes a [`Content`] of what you have kept, which
//! [`Seals`](crate::store::journal::Seals) can prove.
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
//!             tokio::fs::write(self.0.join(name), body).await.map_err(StoreError::unavailable)?;
//!         }
//!         Ok(())
//!     }
//!
//!     async fn delete_before(&self, _: Timestamp) -> Result<u64, StoreError> {
//!         Ok(0) // deleted elsewhere
//!     }
//! }
//! ```

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::content::Content;

/// Stores the bodies that are kept, and deletes them when they are due.
#[async_trait]
pub trait ContentSink: Send + Sync + 'static {
    /// Stores all of these, or fails.
    ///
    /// After an error the layer passes all of them again. A sink that may have stored some recognizes them by their
    /// call and side. A sink that has not answered within one minute plus one second per body is abandoned, and the
    /// layer passes the bodies again in the same way.
    ///
    /// # Errors
    /// When not all of them could be stored. If the error is [unavailable](StoreError::is_unavailable), the layer
    /// passes them again after a pause; otherwise they are lost.
    async fn write(&self, contents: &[Content]) -> Result<(), StoreError>;

    /// Permanently deletes the bodies whose [`at`](Content::at) is before `end`, and returns how many it deleted.
    ///
    /// It need not delete all of them at once: the layer asks again until nothing is left to delete. A sink that has
    /// not answered within a minute is abandoned, and asked again later.
    ///
    /// # Errors
    /// When they could not be deleted. The layer asks again later.
    async fn delete_before(&self, end: Timestamp) -> Result<u64, StoreError>;
}
