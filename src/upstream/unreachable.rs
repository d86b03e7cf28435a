use std::error::Error;
use std::{fmt, io};

use crate::body::BoxError;
use crate::domain::rejection::{Rejection, RejectionKind};

/// An error of an HTTP client that is certain to have sent nothing of the request, so that another upstream may be tried:
/// it could not look up the host, or the proxy refused the connection.
///
/// ```
/// use tollgate::upstream::NotSent;
/// let error = NotSent::new("the proxy answered 503");
/// assert_eq!(error.to_string(), "nothing of the request was sent");
/// ```
#[derive(Debug)]
pub struct NotSent(BoxError);

impl NotSent {
    /// Wraps the client's own error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        NotSent(error.into())
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing of the request was sent")
    }
}

impl Error for NotSent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Distinguishes a provider that never saw the request from one that may have worked on it.
pub(super) fn unreachable(error: &BoxError) -> Rejection {
    let timed_out =
        chain(&**error).any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut));
    let says_so = chain(&**error).any(|e| e.is::<NotSent>());
    let (unsent, refused) = (says_so || is_connect(&**error) || has_no_listener(&**error), is_refused(&**error));
    let internal = chain(&**error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let (kind, message) = match (timed_out, unsent) {
        _ if refused => (RejectionKind::UpstreamUnreachable, "the upstream refused the request without processing it"),
        (true, true) => (RejectionKind::UpstreamTimeout, "the connection to the upstream timed out"),
        (true, false) => (RejectionKind::UpstreamTimeout, "the upstream stopped responding before it answered"),
        (false, true) => (RejectionKind::UpstreamUnreachable, "the upstream could not be reached"),
        (false, false) => (RejectionKind::UpstreamUnreachable, "the upstream closed the connection without an answer"),
    };
    let rejection = Rejection::new(kind, message).internal(internal);
    if unsent || refused { rejection.nothing_sent() } else { rejection }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e| (**e).source())
}

/// Nobody listens at that address. This holds for any client: an established connection never reports "refused".
fn has_no_listener(error: &(dyn Error + 'static)) -> bool {
    let is_refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    chain(error).any(|e| e.downcast_ref::<io::Error>().is_some_and(is_refused))
}

/// Only hyper's own client reports this; for other clients' errors we must assume the worst.
#[cfg(feature = "upstream")]
fn is_connect(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|e| {
        e.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

/// Whether the server states that it has not processed the request: it refused the stream, or closes the connection
/// after an older one (RFC 9113 section 8.7). Servers end a connection that way after a number of streams, and when
/// they are replaced.
#[cfg(feature = "upstream")]
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|e| e.downcast_ref::<h2::Error>())
        .any(|e| e.is_remote() && (e.is_go_away() || (e.is_reset() && e.reason() == Some(h2::Reason::REFUSED_STREAM))))
}

#[cfg(not(feature = "upstream"))]
fn is_refused(_error: &(dyn Error + 'static)) -> bool {
    false
}

#[cfg(not(feature = "upstream"))]
fn is_connect(_error: &(dyn Error + 'static)) -> bool {
    false
}
