//! A provider that produces many tokens for each event, as with thinking that is not shown. How many it has produced
//! when it is left follows from the time alone.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tollgate::Body;
use tollgate::testing::{Script, Simulated};
use tower::{ServiceExt, service_fn};

use crate::site::Client;

/// The prompt that is answered so. Others are answered as their directive says.
pub(crate) const THINK: &str = "think";
/// The events of such an answer.
const DELTAS: u32 = 20;

/// The simulated provider, for calls that ask it to think: it goes on for as long as it may, as fast as the model can
/// be at most, and produces before that what it may produce in the second before it notices that nobody listens.
pub(crate) fn thinking(provider: &Simulated) -> impl Client + use<> {
    let provider = provider.clone();
    service_fn(move |request: Request<Body>| {
        let provider = provider.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await.expect("in memory").to_bytes();
            let ask: Value = serde_json::from_slice(&bytes).expect("JSON");
            if ask["messages"][0]["content"] == THINK {
                let most = ["max_tokens", "max_completion_tokens"].iter().filter_map(|name| ask[name].as_u64()).min();
                // For this request: the provider takes it without waiting.
                provider.script(script(most.expect("a limit"), ask["stream"] == true));
            }
            provider.oneshot(Request::from_parts(parts, Body::from(bytes))).await
        }
    })
}

fn script(most: u64, is_stream: bool) -> Script {
    let takes = Duration::from_millis(most.saturating_sub(500) * 1_000 / 500);
    let script = Script::new().deltas(DELTAS.into()).usage(30, most);
    match is_stream {
        true => script.delay(takes / DELTAS),
        false => script.head_delay(takes),
    }
}
