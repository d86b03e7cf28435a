use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame};

use crate::body::{Body, BoxError};

/// Tells when a body has ended, from what hyper does with it (measured with 1.12):
///
/// | inner body | polled to `None`? |
/// |---|---|
/// | reports `is_end_stream` | no: seen after each frame |
/// | unknown length | yes |
/// | exact `size_hint` that never reports the end | no: dropped once Content-Length is written, so bytes are counted |
/// | answer to HEAD, or 204, 304 | never polled at all |
/// | already over at construction | never polled |
///
/// If a body is dropped in any other case, its reader has left.
#[derive(Debug)]
pub(crate) struct Ending {
    left: Option<u64>,
    done: bool,
    /// The body's last answer to `is_end_stream`.
    said: bool,
}

impl Ending {
    pub(crate) fn new(bodiless: bool, body: &Body) -> Self {
        let (left, said) = (body.size_hint().exact(), body.is_end_stream());
        Ending { left, done: bodiless || said || left == Some(0), said }
    }

    /// Whether an answer of `status` to `method` has no body on the wire, whatever its body object holds.
    pub(crate) fn is_bodiless(method: &Method, status: StatusCode) -> bool {
        method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
    }

    /// Whether the body has ended, after it returned `polled`.
    pub(crate) fn after(&mut self, polled: Option<&Result<Frame<Bytes>, BoxError>>, body: &Body) -> bool {
        match polled {
            None => self.done = true,
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                // Nothing follows trailers (RFC 9110 section 6.5).
                self.said = body.is_end_stream();
                self.done |= frame.is_trailers() || self.said || self.left == Some(0);
            }
            Some(Err(_)) => {}
        }
        self.done
    }

    /// Whether the body itself reports its end. Cached: in a stack of bodies, each would ask all below it.
    pub(crate) fn is_said(&self) -> bool {
        self.said
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }
}
