//! The reason phrase that came with a status: it belongs to that status, and to whoever sent it.

use http::Extensions;

#[cfg(feature = "upstream")]
pub(super) fn of(extensions: &Extensions) -> Option<&[u8]> {
    extensions.get::<hyper::ext::ReasonPhrase>().map(hyper::ext::ReasonPhrase::as_bytes)
}

#[cfg(feature = "upstream")]
pub(crate) fn forget(extensions: &mut Extensions) {
    extensions.remove::<hyper::ext::ReasonPhrase>();
}

// Without hyper, nothing has read a reason phrase or will write one.

#[cfg(not(feature = "upstream"))]
pub(super) fn of(_: &Extensions) -> Option<&[u8]> {
    None
}

#[cfg(not(feature = "upstream"))]
pub(crate) fn forget(_: &mut Extensions) {}
