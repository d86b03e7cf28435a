use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Request, header};
use http_body::Frame;
use http_body_util::LengthLimitError;

use super::IngestLayer;
use crate::body::{Body, BoxError, NoRoom, Share};
use crate::call::{Call, DISCARD, discard, discard_begun};
use crate::dialect::head::Head;
use crate::domain::dialect::Operation;
use crate::domain::rejection::{Rejection, RejectionKind};

/// Returns the request with its body in memory, if it has a head to read.
///
/// Not an `async fn`: its future would store the request twice, once as passed and once taken apart.
pub(super) fn read<B>(
    layer: IngestLayer,
    request: Request<B>,
) -> impl Future<Output = Result<Request<Body>, Rejection>> + Send
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut parts, body) = request.into_parts();
    async move {
        let call = Call::of_parts(&parts).cloned().ok_or_else(|| {
            Rejection::misconfigured("a layer between two tollgate layers dropped the request's extensions")
        })?;
        if !call.endpoint().has_head() {
            return Ok(Request::from_parts(parts, Body::new(body)));
        }
        let bytes = layer.read(&mut parts, pin!(body), &call).await?;
        Ok(Request::from_parts(parts, Body::from(bytes)))
    }
}

impl IngestLayer {
    /// Reads a body and sets the call's head.
    pub(crate) async fn read<B>(
        &self,
        parts: &mut Parts,
        mut body: Pin<&mut B>,
        call: &Call,
    ) -> Result<Bytes, Rejection>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        call.check_placed()?;
        if let Err(rejection) = self.check(parts, body.size_hint().lower()) {
            discard(&parts.headers, body, self.unread(&rejection)).await;
            return Err(rejection);
        }
        // A layer further out has counted what it has read. The head is no proof of that, since a host may have set it.
        match take(body.as_mut(), self, self.share(call), call.in_memory()).await {
            Ok(bytes) => {
                call.set_in_memory(bytes.len());
                let bytes = Call::unedited(parts, bytes);
                call.set_head(Head::read(&bytes, call.dialect())?);
                // Checked before any work is done for the call.
                call.check_model()?;
                if let Some(counter) = &self.counter
                    && call.endpoint().operation == Operation::Generate
                    && let Some(tokens) = counter.count(call, &bytes).await
                {
                    call.set_counted_input(tokens);
                }
                // The body is in memory now, however it was sent.
                parts.headers.remove(header::TRANSFER_ENCODING);
                if declared(&parts.headers) != Some(bytes.len()) {
                    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
                }
                Ok(bytes)
            }
            Err(rejection) => {
                if rejection.kind() != RejectionKind::ClientTooSlow {
                    // A client that waits for `100 Continue` has already been asked for its body.
                    discard_begun(body, self.unread(&rejection)).await;
                }
                Err(rejection)
            }
        }
    }

    /// The caller's share of the room for bodies, if the caller is known.
    fn share(&self, call: &Call) -> Share {
        match call.principal() {
            Some(principal) => Share::of(&self.budget, (principal.key, &*principal.name)),
            None => Share::none(&self.budget),
        }
    }

    /// Checks a request before its body is read.
    fn check(&self, parts: &Parts, length: u64) -> Result<(), Rejection> {
        if parts.method != Method::POST {
            return Err(Rejection::only("POST"));
        }
        if is_coded(&parts.headers) {
            return Err(Rejection::new(
                RejectionKind::InvalidRequest,
                "send the request body uncompressed: this gateway does not accept its content-encoding",
            ));
        }
        if length > self.max_body as u64 {
            return Err(too_large(self.max_body));
        }
        Ok(())
    }

    /// How much of a refused body is still read. A body that is too large is read to its end without storing it, since
    /// most clients read the answer only after sending everything.
    fn unread(&self, rejection: &Rejection) -> u64 {
        let more = if rejection.kind() == RejectionKind::TooLarge { self.max_body as u64 } else { 0 };
        DISCARD.saturating_add(more)
    }
}

async fn take<B>(
    mut body: Pin<&mut B>,
    &IngestLayer { max_body, idle, .. }: &IngestLayer,
    mut share: Share,
    mut counted: usize,
) -> Result<Bytes, Rejection>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let declared = body.size_hint();
    // Most bodies of a few kilobytes arrive as one frame, which is then kept as it is.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    // Polling a body that has reported its end could wait for its connection.
    while !body.is_end_stream()
        && let Some(frame) = next(body.as_mut(), idle).await?
    {
        let Ok(data) = frame.map_err(broken_off)?.into_data() else { continue };
        if data.len() > max_body - first.len() - rest.len() {
            return Err(too_large(max_body));
        }
        let known = data.len().min(counted);
        counted -= known;
        share.grow(data.len() - known).map_err(no_room)?;
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            // Only announced bytes reserve at most one megabyte.
            let announced = usize::try_from(declared.exact().unwrap_or(0)).unwrap_or(0).min(1 << 20);
            rest.reserve(announced.max(first.len() + data.len()));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(share.guard(bytes))
}

/// The next frame. Most are available at once, and need no timer.
async fn next<B: http_body::Body>(
    mut body: Pin<&mut B>,
    idle: Duration,
) -> Result<Option<Result<Frame<B::Data>, B::Error>>, Rejection> {
    let mut alarm = pin!(None);
    poll_fn(|cx| {
        if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
            return Poll::Ready(Ok(frame));
        }
        if alarm.is_none() {
            alarm.set(Some(tokio::time::sleep(idle)));
        }
        let Some(alarm) = alarm.as_mut().as_pin_mut() else { return Poll::Pending };
        alarm.poll(cx).map(|()| {
            let message = format!("no request body data arrived for {} seconds", idle.as_secs_f64());
            Err(Rejection::new(RejectionKind::ClientTooSlow, message))
        })
    })
    .await
}

/// The length stated in the request's headers.
fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_coded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn too_large(max_body: usize) -> Rejection {
    Rejection::new(RejectionKind::TooLarge, format!("the request body is larger than {max_body} bytes"))
}

fn no_room(why: NoRoom) -> Rejection {
    let message = match why {
        NoRoom::AtAll => "the gateway's memory for request bodies is full; try again in a moment",
        NoRoom::ForCaller => {
            "this key's other requests already use their share of the gateway's memory for request bodies; try again when \
             some of them have finished"
        }
    };
    Rejection::new(RejectionKind::Busy, message).retry_after(Duration::from_secs(1))
}

fn is_beyond_a_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_beyond_a_limit)
}

fn broken_off(error: impl Into<BoxError>) -> Rejection {
    let error = error.into();
    tracing::debug!(%error, "a request body was cut off");
    // A host's own limit, as set by tower-http and axum.
    if is_beyond_a_limit(&*error) {
        return Rejection::new(RejectionKind::TooLarge, "the request body is larger than this service accepts");
    }
    Rejection::new(RejectionKind::InvalidRequest, "the request body was cut off before it was complete")
}
