//! Changes event streams on their way to the client, block by block.
//!
//! Reach for it to redact, to watermark, to cut off: implement [`Rewriter`], a machine without I/O, and [`Rewrite`], which
//! makes one for each stream that wants it.
//!
//! **Event streams alone are rewritten: an answer in JSON passes as it is.** A client chooses which of the two it gets, so what
//! must never reach one is not kept from it by a rewriter alone: refuse what asks for no stream by a
//! [`Gate`](crate::Gate), or change JSON answers in a layer of your own.
//!
//! - **Reads:** the head of the answer, and the call. **Adds** nothing to the call.
//! - **Answers:** a rewriter that fails ends the stream with an error event in the client's dialect. A stream that should be
//!   rewritten and comes in a coding that cannot be decoded, any but gzip, is a 502.
//! - **Where:** outside of dispatch, so that it sees the client's dialect; inside of limits and budgets.
//!
//! Order, pings and comments survive; nothing is buffered but an unfinished event; a rewritten answer has no `content-length`,
//! and comes decoded if it was compressed.
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

/// Decides, by the head of an answer, whether its stream is rewritten.
pub trait Rewrite: Send + Sync + 'static {
    /// The machine that rewrites one stream.
    type Rewriter: Rewriter;

    /// A machine for this stream, or `None` to let it pass untouched. Asked for event streams only: JSON answers are never
    /// rewritten.
    fn begin(&self, call: &Call, head: &Parts) -> Option<Self::Rewriter>;
}

/// Rewrites one stream: blocks in, bytes out, no I/O.
pub trait Rewriter: Send + Unpin + 'static {
    /// One block of the stream. What the client shall see goes to `out`: whole blocks, [`Block::raw`] to pass this one on.
    ///
    /// # Errors
    /// Ends the stream, with this rejection as its last event.
    fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection>;

    /// The upstream's stream is over; what is still held back goes to `out`.
    ///
    /// # Errors
    /// As for [`block`](Self::block).
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
