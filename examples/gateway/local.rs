use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::{Call, Gate};

/// Without virtual keys no page that a browser on this machine has open may call, or it would spend its owner's money: what a
/// browser sends says whose page it is, and a name that a page's owner made to point here is not one of this machine's. What
/// else runs here calls as it likes: editors say an origin of a scheme that no page has, and containers a name of Docker's.
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
        "without virtual keys only programs of this machine may call, and {stranger} is none; start with --mint name=me"
    );
    Err(Rejection::new(RejectionKind::InvalidRequest, what))
}

fn may_say(origin: &str) -> bool {
    match origin.split_once("://") {
        Some(("http" | "https", authority)) => host(authority).is_some_and(|host| is_this(&host)),
        Some(_) => true,
        // `null` is a page's that does not say whose it is.
        None => false,
    }
}

/// By a name of this machine, or one that containers have for it.
fn is_local(authority: &str) -> bool {
    host(authority)
        .is_some_and(|host| matches!(&*host, "host.docker.internal" | "gateway.docker.internal") || is_this(&host))
}

fn host(authority: &str) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    Some(authority.host().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase())
}

/// No network says where these are.
fn is_this(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
