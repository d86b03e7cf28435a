//! Where events go.
//!
//! Reach for it to tell people in a way of your own; [`audit`](crate::audit) has sinks for Slack and webhooks. Events are written
//! to a [journal](super::journal) and handed on from it, so that none is lost to a crash, or to a sink that is down.
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

/// Hears of events, one after the other.
#[async_trait]
pub trait EventSink: Send + Sync + 'static {
    /// Tells of this one, or fails. After an error it comes again, so a sink that may have told of it knows it by its id. One
    /// that has not answered for a minute is let go of, and asked again in the same way.
    ///
    /// # Errors
    /// When nobody could be told; where coming back may help, it comes back after a pause.
    async fn tell(&self, event: &Event) -> Result<(), StoreError>;
}
