use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::{Authority, Uri};
use tollgate::domain::rejection::{Rejection, RejectionKind};
use tollgate::{Call, Gate};

/// Without virtual keys no page that a browser on this machine has open may call, or it would spend its owner's money: what a
/// browser sends says whose page it is, and a name that a page's owner made to point here is not one of this machine's.
pub(crate) struct Only;

#[async_trait]
impl Gate for Only {
    async fn admit(&self, parts: &mut Parts, _: &Call) -> Result<(), Rejection> {
        let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let origin = header(ORIGIN).map(|origin| origin.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority));
        let host = match parts.uri.authority() {
            Some(authority) => Some(Some(authority.clone())),
            None => header(HOST).map(|host| host.parse().ok()),
        };
        match [origin, host].iter().flatten().all(is_local) {
            true => Ok(()),
            false => Err(Rejection::new(
                RejectionKind::Unauthenticated,
                "without virtual keys only programs of this machine may call, and no web page; start with --mint name=me",
            )),
        }
    }
}

fn is_local(authority: &Option<Authority>) -> bool {
    let host = authority.as_ref().map(|authority| authority.host().trim_matches(['[', ']']));
    host.is_some_and(|host| {
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
