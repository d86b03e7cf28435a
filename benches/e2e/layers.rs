//! Serves the layers alone, as a program: the example gateway without its log.

use std::error::Error;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tollgate::upstream::Provider;
use tollgate::{Dialect, Gateway};

use super::serve::{self, Stop};

/// The argument that makes this program serve the layers, in front of an upstream that speaks the client's dialect. The
/// upstream's URL follows.
pub(crate) const ROLE: &str = "--serve-layers";
/// The same, in front of an upstream that speaks Chat Completions.
pub(crate) const TRANSLATING: &str = "--serve-translating";

pub(crate) fn serve(role: &str, upstream: &str) -> Result<(), Box<dyn Error>> {
    Runtime::new()?.block_on(async {
        let gateway = Gateway::builder();
        let gateway = match role {
            TRANSLATING => gateway.upstream("openai", Dialect::OpenAiChat, Provider::openai("x")?.base_url(upstream)?),
            _ => gateway.upstream("anthropic", Dialect::Anthropic, Provider::anthropic("x")?.base_url(upstream)?),
        };
        let gateway = gateway.build().expect("a gateway");
        let stop = Stop::new()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("listening http://{}", listener.local_addr()?);
        serve::until(stop, listener, Router::new().fallback_service(gateway)).await?;
        Ok(())
    })
}
