//! Layers on the routes of an existing app: `cargo run --example existing_axum_app --features axum`
//!
//! The handler itself answers in Anthropic's format. The layer in front of it reads the body once, refuses malformed
//! requests in the client's dialect, counts the handler as one attempt, and meters its answer.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/serve.rs"]
mod serve;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tollgate::{Call, GatewayLayer};

/// Stands for a model server of your own.
async fn messages(call: Call) -> impl IntoResponse {
    let model = call.head().map_or("", |head| head.model()).to_owned();
    axum::Json(serde_json::json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": [{ "type": "text", "text": format!("call {} asked for {model}", call.id()) }],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 9, "output_tokens": 12 },
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let governed = GatewayLayer::new().on_close(|outcome| println!("{:?} {:?}", outcome.end, outcome.usage));
    let app = Router::new()
        .route("/v1/messages", post(messages))
        // Governs only the routes added above this line.
        .route_layer(governed)
        .route("/", get(|| async { "my existing service" }));

    let stop = serve::Stop::new()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("ANTHROPIC_BASE_URL=http://{}", listener.local_addr()?);
    serve::until(stop, listener, app).await?;
    Ok(())
}
