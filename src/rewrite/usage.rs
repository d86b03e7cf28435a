use bytes::BytesMut;
use http::response::Parts;

use super::{Rewrite, Rewriter};
use crate::call::Call;
use crate::dialect::meter::is_usage_chunk;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::Rejection;
use crate::wire::sse::Block;

/// Removes the usage chunk from a Chat Completions stream if only [`Call::ask_for_usage`] has asked for it.
///
/// A client that did not ask must not get a chunk without choices: many clients index `choices[0]`.
/// [`MeterLayer`](crate::MeterLayer) removes it itself; use this if something else reads the stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct WithholdUsage {
    /// The chunk just removed ended with a CR, and its LF may come as a separate block.
    after_cr: bool,
}

impl WithholdUsage {
    /// Creates the rewrite.
    #[must_use]
    pub const fn new() -> Self {
        WithholdUsage { after_cr: false }
    }
}

impl Rewrite for WithholdUsage {
    type Rewriter = WithholdUsage;

    fn begin(&self, call: &Call, _head: &Parts) -> Option<WithholdUsage> {
        (call.dialect() == Dialect::OpenAiChat && call.withholds_usage()).then_some(WithholdUsage::new())
    }
}

impl Rewriter for WithholdUsage {
    fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection> {
        let is_rest = std::mem::take(&mut self.after_cr) && block.raw() == b"\n";
        if block.data().is_some_and(is_usage_chunk) {
            self.after_cr = block.raw().ends_with(b"\r");
        } else if !is_rest {
            out.extend_from_slice(block.raw());
        }
        Ok(())
    }
}
