//! Where audit records go.
//!
//! Reach for it to write them to a place of your own; [`audit`](crate::audit) has sinks for `tracing`, JSON lines and webhooks.
//!
//! ```
//! use async_trait::async_trait;
//! use tollgate::domain::audit::AuditRecord;
//! use tollgate::store::StoreError;
//! use tollgate::store::audit::AuditSink;
//!
//! /// To standard error.
//! struct ToStderr;
//!
//! #[async_trait]
//! impl AuditSink for ToStderr {
//!     async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
//!         for record in records {
//!             eprintln!("{}", serde_json::to_string(record).map_err(StoreError::broken)?);
//!         }
//!         Ok(())
//!     }
//! }
//! ```

use async_trait::async_trait;

use super::StoreError;
use crate::domain::audit::AuditRecord;

/// Takes records. Write only.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Writes all of these, or fails. After an error all of them come again, so a sink that may have written some tells
    /// them apart by their id. One that has not answered for a minute, and a second for each of them, is let go of, and asked again in the same way.
    ///
    /// # Errors
    /// When they could not all be written; they are kept, and come again after a pause. Where that
    /// [helps nothing](StoreError::is_unavailable), or after a panic, they come again at once in parts (by a
    /// [journal](super::journal), after some panics, one by one), and those that are refused alone are in the log. So is, without
    /// a journal, the rest of those of which none was taken and two were refused alone.
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError>;

    /// Whether anybody reads what is written now: while nobody does, an [`AuditLayer`](crate::AuditLayer) without a journal makes
    /// no records for it. `true`, unless overridden.
    fn is_read(&self) -> bool {
        true
    }
}
