//! Changes event streams on their way to the client, block by block.
//!
//! Use it to redact, to watermark or to cut off answers: implement [`Rewriter`], a state machine without I/O, and
//! [`Rewrite`], which creates one for each stream that needs it.
//!
//! **Only event streams are rewritten; a JSON answer passes unchanged.** The client chooses which of the two it gets.
//! So a rewriter alone cannot keep content from a client: also refuse requests without streaming in a
//! [`Gate`](crate::Gate), or change JSON answers in a layer of your own.
//!
//! - **Reads:** the head of the answer, and the call. **Adds** nothing to the call.
//! - **Answers:** a rewriter that fails ends the stream with an error event in the client's dialect. If a stream is to
//!   be rewritten and has another encoding than gzip, the answer is a 502.
//! - **Where:** outside of the dispatch, so that it sees the client's dialect; inside of limits and budgets.
//!
//! Order, pings and comments are kept, and only an unfinished event is buffered. A rewritten answer has no
//! `content-length`, and is sent uncompressed.
//!
//! ```
//! use bytes::BytesMut;
//! use http::response::Parts;
//! use tollgate::rewrite::{Rewrite, RewriteLayer, Rewriter};
//! use tollgate::wire::sse::Block;
//! use tollgate::{Call, Rejection};
//!
//! /// Drops the comments that proxies send to keep a connection alive.
//! struct Quiet;
//!
//! impl Rewrite for Quiet {
//!     type Rewriter = Quiet;
//!     fn begin(&self, _call: &Call, _head: &Parts) -> Option<Quiet> {
//!         Some(Quiet)
//!     }
//! }
//! impl Rewriter for Quiet {
//!     fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection> {
//!         if block.data().is_some() {
//!             out.extend_from_slice(block.raw());
//!         }
//!         Ok(())
//!     }
//! }
//! let layer = RewriteLayer::new(Quiet);
//! ```

mod body;
mod cost;
mod future;
mod layer;
mod service;
mod usage;

pub use self::cost::{CostInUsage, CostWriter};
pub use self::future::RewriteFuture;
pub use self::layer::RewriteLayer;
pub use self::service::RewriteService;
pub use self::usage::WithholdUsage;

pub(crate) use self::body::rewrite;

use std::sync::Arc;

use bytes::BytesMut;
use http::response::Parts;

use crate::call::Call;
use crate::domain::rejection::Rejection;
use crate::wire::sse::Block;

/// Decides, from the head of an answer, whether its stream is rewritten.
pub trait Rewrite: Send + Sync + 'static {
    /// The state machine that rewrites one stream.
    type Rewriter: Rewriter;

    /// Returns a rewriter for this stream, or `None` to pass it unchanged. Called only for event streams; JSON answers
    /// are never rewritten.
    fn begin(&self, call: &Call, head: &Parts) -> Option<Self::Rewriter>;
}

/// Rewrites one stream: blocks in, bytes out, no I/O.
pub trait Rewriter: Send + Unpin + 'static {
    /// Handles one block of the stream. Write to `out` what the client gets, in whole blocks; [`Block::raw`] passes the
    /// block unchanged.
    ///
    /// # Errors
    /// Ends the stream with this rejection as its last event.
    fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection>;

    /// Called at the end of the upstream's stream. Write to `out` what is still held back.
    ///
    /// # Errors
    /// See [`block`](Self::block).
    fn finish(&mut self, _out: &mut BytesMut) -> Result<(), Rejection> {
        Ok(())
    }
}

impl<R: Rewrite + ?Sized> Rewrite for Arc<R> {
    type Rewriter = R::Rewriter;

    fn begin(&self, call: &Call, head: &Parts) -> Option<R::Rewriter> {
        (**self).begin(call, head)
    }
}

impl<R: Rewriter + ?Sized> Rewriter for Box<R> {
    fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection> {
        (**self).block(block, out)
    }

    fn finish(&mut self, out: &mut BytesMut) -> Result<(), Rejection> {
        (**self).finish(out)
    }
}
