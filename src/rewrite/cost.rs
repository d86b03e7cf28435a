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

/// Adds the cost of the call to the usage in a stream: `"cost_usd":"0.0123"`, decimal text in dollars, computed from
/// the upstream's usage and the catalog's prices.
///
/// It appears in `message_delta` of Messages, and in the usage chunk of Chat Completions if the client asked for one.
/// If there are several, the last one states the whole cost, like the usage itself. Nothing is added if the model has
/// no price.
///
/// Clients ignore unknown members. It still changes the provider's bytes, so it is opt-in.
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
    /// Creates the rewrite.
    #[must_use]
    pub const fn new() -> Self {
        CostInUsage { _private: () }
    }
}

/// The rewriter of a [`CostInUsage`].
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
    /// The data of an event with the usage, with the cost added.
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
