//! The destination of audit records.
//!
//! Implement [`AuditSink`] to write records to a place of your own; [`audit`](crate::audit) has sinks for `tracing`,
//! JSON lines and webhooks.
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

/// A write-only destination of audit records.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Writes all of these records, or fails.
    ///
    /// After an error all of them come again, so a sink that may have written some must recognize them by their id. A
    /// sink that has not answered within one minute plus one second per record is abandoned, and gets the records again
    /// in the same way.
    ///
    /// # Errors
    /// When not all of them could be written. What happens next depends on the error:
    ///
    /// - [Unavailable](StoreError::is_unavailable): the records are kept, and all of them come again after a pause.
    /// - Any other error, or a panic: they come again at once, in smaller parts. A record that is refused alone goes to
    ///   the log. If two were refused alone and none was taken, the remaining records of the batch go to the log too.
    /// - With a [journal](super::journal), there are two differences. The records come again one by one (after a panic,
    ///   only once several attempts have panicked), and only those that are refused alone go to the log.
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError>;

    /// Whether anybody reads what is written now. While nobody does, an [`AuditLayer`](crate::AuditLayer) without a
    /// journal makes no records for this sink. Returns `true` unless overridden.
    fn is_read(&self) -> bool {
        true
    }
}
