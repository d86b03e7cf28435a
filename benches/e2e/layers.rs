//! The layers alone, as a program: what the example gateway is without its log.

use std::error::Error;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tollgate::upstream::Provider;
use tollgate::{Dialect, Gateway};

use super::serve::{self, Stop};

/// The argument that makes this program serve them, before the URL of the upstream.
pub(crate) const ROLE: &str = "--serve-layers";

pub(crate) fn serve(upstream: &str) -> Result<(), Box<dyn Error>> {
    Runtime::new()?.block_on(async {
        let provider = Provider::anthropic("x")?.base_url(upstream)?;
        let gateway = Gateway::builder().upstream("anthropic", Dialect::Anthropic, provider).build();
        let stop = Stop::new()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("listening http://{}", listener.local_addr()?);
        serve::until(stop, listener, Router::new().fallback_service(gateway)).await?;
        Ok(())
    })
}
