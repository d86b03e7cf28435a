//! The words that came with a status on the wire: they are those of that status, and of whoever said it.

use http::Extensions;

#[cfg(feature = "upstream")]
pub(super) fn of(extensions: &Extensions) -> Option<&[u8]> {
    extensions.get::<hyper::ext::ReasonPhrase>().map(hyper::ext::ReasonPhrase::as_bytes)
}

#[cfg(feature = "upstream")]
pub(crate) fn forget(extensions: &mut Extensions) {
    extensions.remove::<hyper::ext::ReasonPhrase>();
}

// Without hyper nobody has read or will write them.

#[cfg(not(feature = "upstream"))]
pub(super) fn of(_: &Extensions) -> Option<&[u8]> {
    None
}

#[cfg(not(feature = "upstream"))]
pub(crate) fn forget(_: &mut Extensions) {}
