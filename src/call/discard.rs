use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::{HeaderMap, header};

/// The most bytes of a refused body that are read and discarded.
pub(crate) const DISCARD: u64 = 1 << 20;

/// Reads what a client is still sending, up to `most` bytes or one second. Otherwise the kernel answers unread bytes
/// with a reset, and the client loses the refusal. Reads nothing if the client waits for `100 Continue` before it sends
/// its body.
pub(crate) async fn discard<B>(headers: &HeaderMap, body: B, most: u64)
where
    B: http_body::Body<Data: Buf>,
{
    if !headers.contains_key(header::EXPECT) {
        discard_begun(body, most).await;
    }
}

/// The same for a client whose body has been read in part.
pub(crate) async fn discard_begun<B>(body: B, most: u64)
where
    B: http_body::Body<Data: Buf>,
{
    if body.is_end_stream() {
        return;
    }
    let read = async {
        let mut body = pin!(body);
        let mut left = most;
        while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let taken = frame.data_ref().map_or(0, |data| data.remaining() as u64);
            match left.checked_sub(taken) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), read).await;
}
