//! The body type of every answer that leaves one of our layers, and of every request that has been read.
//!
//! Use it when you write a service behind these layers: [`Body::new`] takes any HTTP body, and wrapping a `Body` again
//! costs nothing.
//!
//! ```
//! use tollgate::Body;
//! let body = Body::from("hello");
//! assert_eq!(http_body::Body::size_hint(&Body::new(body)).exact(), Some(5));
//! ```

mod budget;
mod coding;
mod covered;
mod gunzip;
mod reason;
mod secret;

pub(crate) use self::budget::{Budget, NoRoom, Share};
pub(crate) use self::coding::{accept_what_is_read, accepts_gzip, is_plain};
pub(crate) use self::covered::Covered;
pub(crate) use self::gunzip::Gunzip;
pub(crate) use self::reason::forget as forget_reason;
pub(crate) use self::secret::Secret;

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Any error of a body, boxed.
pub type BoxError = Box<dyn Error + Send + Sync>;

type Inner = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// An HTTP body: bytes already in memory, or any other body behind one box.
pub struct Body(Repr);

enum Repr {
    /// Separate from `Boxed`, so that the body of a request that was read needs no further allocation and can be taken
    /// back.
    Full(Option<Bytes>),
    Boxed(Inner),
}

impl Body {
    /// Wraps a body. A `Body` is returned unchanged.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut slot = Some(body);
        if let Some(own) = (&mut slot as &mut dyn Any).downcast_mut::<Option<Body>>()
            && let Some(own) = own.take()
        {
            return own;
        }
        match slot {
            Some(body) => Body(Repr::Boxed(Box::pin(ErrorInto { body }))),
            None => Body::empty(),
        }
    }

    /// Wraps a body of our own, whose error type needs no conversion.
    pub(crate) fn own<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Body(Repr::Boxed(Box::pin(body)))
    }

    /// An empty body.
    #[must_use]
    pub const fn empty() -> Self {
        Body(Repr::Full(None))
    }

    /// The bytes of a body that is completely in memory, without consuming it.
    pub(crate) fn in_memory(&self) -> Option<Bytes> {
        match &self.0 {
            Repr::Full(bytes) => Some(bytes.clone().unwrap_or_default()),
            Repr::Boxed(_) => None,
        }
    }

    /// Returns the bytes of a body that is completely in memory.
    ///
    /// # Errors
    /// Returns the body unchanged if it still has to be read.
    pub fn try_into_bytes(self) -> Result<Bytes, Body> {
        match self.0 {
            Repr::Full(bytes) => Ok(bytes.unwrap_or_default()),
            Repr::Boxed(_) => Err(self),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Repr::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Repr::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::Full(bytes) => bytes.is_none(),
            Repr::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Repr::Boxed(body) => body.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body(Repr::Full((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl fmt::Debug for Body {
    /// Shows only the length: the content is somebody's prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = http_body::Body::size_hint(self);
        f.debug_struct("Body").field("size", &hint.exact()).finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    struct ErrorInto<B> { #[pin] body: B }
}

impl<B> http_body::Body for ErrorInto<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
