//! The gate of a gateway without virtual keys.

use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::{Call, Gate};

/// Refuses calls from web pages that this machine does not serve.
///
/// Without virtual keys, any page that is open in a local browser could otherwise spend the owner's money.
///
/// - `origin`: a browser states the origin of a page. An `http` or `https` origin has to be on `localhost`, a name
///   below `localhost`, or a loopback address. `null` is refused. Any other scheme may call: editors use schemes of
///   their own. A request without the header may call: most programs send none.
/// - `host`: has to be such a name or address too, or a name that Docker gives to this machine. A foreign domain that
///   was made to point here (DNS rebinding) is refused.
pub(crate) struct Only;

#[async_trait]
impl Gate for Only {
    async fn admit(&self, parts: &mut Parts, _: &Call) -> Result<(), Rejection> {
        may_call(parts)
    }

    fn decide(&self, parts: &mut Parts, _: &Call) -> Option<Result<(), Rejection>> {
        Some(may_call(parts))
    }
}

fn may_call(parts: &Parts) -> Result<(), Rejection> {
    let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = parts.uri.authority().map(Authority::as_str).or(header(HOST));
    let stranger = match (header(ORIGIN), host) {
        (Some(origin), _) if !may_say(origin) => origin,
        (_, Some(host)) if !is_local(host) => host,
        _ => return Ok(()),
    };
    let what = format!(
        "without virtual keys, only programs on this machine may call, and {stranger} is not on it; start the gateway with --mint name=me to make a key"
    );
    Err(Rejection::new(RejectionKind::NotPermitted, what))
}

fn may_say(origin: &str) -> bool {
    match origin.split_once("://") {
        Some(("http" | "https", authority)) => host(authority).is_some_and(|host| is_this(&host)),
        Some(_) => true,
        // Browsers send `null` for a page without an origin of its own, such as a sandboxed frame.
        None => false,
    }
}

/// Whether the host is a name of this machine, or one that containers have for it.
fn is_local(authority: &str) -> bool {
    host(authority)
        .is_some_and(|host| matches!(&*host, "host.docker.internal" | "gateway.docker.internal") || is_this(&host))
}

fn host(authority: &str) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    Some(authority.host().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase())
}

/// Whether the host is this machine by definition, without a DNS lookup.
fn is_this(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
