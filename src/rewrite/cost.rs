use bytes::{Bytes, BytesMut};
use http::response::Parts;
use memchr::memmem;

use super::{Rewrite, Rewriter};
use crate::call::Call;
use crate::domain::dialect::Dialect;
use crate::domain::rejection::Rejection;
use crate::wire::json::{self, Found, Kind, Limits};
use crate::wire::splice::Splice;
use crate::wire::sse::{Block, encode};

/// Says in the usage of a stream what the call has cost: `"cost_usd":"0.0123"`, decimal text in dollars, by the upstream's
/// own usage and the catalogue's prices.
///
/// In `message_delta` of Messages and in the usage chunk of Chat Completions, where the client asked for one. Of several
/// the last is the whole cost, as it is with the usage itself. Clients ignore members that they do not know; still it is a
/// change of the provider's bytes, so nobody gets it unasked. Nothing is said where the model has no price.
///
/// ```
/// use tollgate::GatewayLayer;
/// use tollgate::rewrite::CostInUsage;
/// let layer = GatewayLayer::new().rewrite(CostInUsage::new());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CostInUsage {
    _private: (),
}

impl CostInUsage {
    /// The rewrite.
    #[must_use]
    pub const fn new() -> Self {
        CostInUsage { _private: () }
    }
}

/// The machine of a [`CostInUsage`].
#[derive(Debug)]
pub struct CostWriter {
    call: Call,
}

impl Rewrite for CostInUsage {
    type Rewriter = CostWriter;

    fn begin(&self, call: &Call, _head: &Parts) -> Option<CostWriter> {
        let is_known = matches!(call.dialect(), Dialect::Anthropic | Dialect::OpenAiChat);
        is_known.then(|| {
            call.follow_cost();
            CostWriter { call: call.clone() }
        })
    }
}

impl Rewriter for CostWriter {
    fn block(&mut self, block: &Block<'_>, out: &mut BytesMut) -> Result<(), Rejection> {
        match self.with_cost(block) {
            Some(data) => {
                let event = block.event().and_then(|event| std::str::from_utf8(event).ok());
                encode(out, event, &data);
            }
            None => out.extend_from_slice(block.raw()),
        }
        Ok(())
    }
}

impl CostWriter {
    /// The data of an event that says what was used in the end, with what it cost.
    fn with_cost(&self, block: &Block<'_>) -> Option<Bytes> {
        let data = block.data().filter(|data| memmem::find(data, br#""usage""#).is_some())?;
        let [usage, cost] = json::index(data, &[&["usage"], &["usage", "cost_usd"]], Limits::default()).ok()?.found;
        let usage: Found = usage.filter(|usage| cost.is_none() && matches!(usage.kind, Kind::Object { .. }))?;
        let cost = format!("\"{}\"", self.call.cost_so_far()?);
        let mut splice = Splice::new();
        splice.insert_member(&usage, "cost_usd", cost.as_bytes());
        splice.apply(&Bytes::copy_from_slice(data)).ok()
    }
}
