//! The destination of events.
//!
//! Implement [`EventSink`] to notify people in a way of your own; [`audit`](crate::audit) has sinks for Slack and
//! webhooks. Events are written to a [journal](super::journal) and delivered from there, so a crash or an unavailable
//! sink loses none.
//!
//! ```
//! use async_trait::async_trait;
//! use tollgate::domain::event::Event;
//! use tollgate::store::StoreError;
//! use tollgate::store::event::EventSink;
//!
//! /// To standard error.
//! struct ToStderr;
//!
//! #[async_trait]
//! impl EventSink for ToStderr {
//!     async fn tell(&self, event: &Event) -> Result<(), StoreError> {
//!         eprintln!("{event}");
//!         Ok(())
//!     }
//! }
//! ```

use async_trait::async_trait;

use super::StoreError;
use crate::domain::event::Event;

/// Receives events, one after the other.
#[async_trait]
pub trait EventSink: Send + Sync + 'static {
    /// Delivers this event, or fails. After an error the event comes again, so a sink that may have delivered it must
    /// recognize it by its id. A sink that has not answered within a minute is abandoned, and gets the event again in
    /// the same way.
    ///
    /// # Errors
    /// When the event could not be delivered. If a retry may help, the event comes again after a pause.
    async fn tell(&self, event: &Event) -> Result<(), StoreError>;
}
