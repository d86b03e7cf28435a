use std::io;

use crate::body::BoxError;
use crate::domain::rejection::{Rejection, RejectionKind};

/// Tells a provider that never saw the request from one that may have worked on it.
pub(super) fn unreachable(error: &BoxError) -> Rejection {
    let timed_out =
        chain(&**error).any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut));
    let (unsent, refused) = (is_connect(&**error) || has_no_listener(&**error), is_refused(&**error));
    let internal = chain(&**error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let (kind, message) = match (timed_out, unsent) {
        _ if refused => (RejectionKind::UpstreamUnreachable, "the upstream took no more on that connection"),
        (true, true) => (RejectionKind::UpstreamTimeout, "the upstream could not be connected to in time"),
        (true, false) => (RejectionKind::UpstreamTimeout, "the upstream has gone silent before it answered"),
        (false, true) => (RejectionKind::UpstreamUnreachable, "the upstream could not be reached"),
        (false, false) => (RejectionKind::UpstreamUnreachable, "the upstream hung up without an answer"),
    };
    let rejection = Rejection::new(kind, message).internal(internal);
    if unsent || refused { rejection.nothing_sent() } else { rejection }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}

/// Nobody listens there, whichever client says so: of a connection that stands no system says that it was refused.
fn has_no_listener(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    chain(error).any(|e| e.downcast_ref::<io::Error>().is_some_and(is_refused))
}

/// Only hyper's own client says so; of another's error we must assume the worst.
#[cfg(feature = "upstream")]
fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|e| {
        e.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

/// Whether the server says that it has not begun with it: it refused the stream, or goes away with an older one as its last. Source:
/// RFC 9113 section 8.7. So servers end every connection that has carried so many streams, and every one when they are replaced.
#[cfg(feature = "upstream")]
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error)
        .filter_map(|e| e.downcast_ref::<h2::Error>())
        .any(|e| e.is_remote() && (e.is_go_away() || (e.is_reset() && e.reason() == Some(h2::Reason::REFUSED_STREAM))))
}

#[cfg(not(feature = "upstream"))]
fn is_refused(_error: &(dyn std::error::Error + 'static)) -> bool {
    false
}

#[cfg(not(feature = "upstream"))]
fn is_connect(_error: &(dyn std::error::Error + 'static)) -> bool {
    false
}
