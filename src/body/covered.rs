use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::{Body, BoxError, Secret};

/// A body in which a secret is masked. Its length does not change. A possible beginning of the secret is held back
/// until more arrives.
pub(crate) struct Covered {
    inner: Body,
    secret: Secret,
    held: Bytes,
    /// Sent after what was held back.
    next: Option<Result<Frame<Bytes>, BoxError>>,
    is_over: bool,
}

impl Covered {
    pub(crate) fn body(inner: Body, secret: Secret) -> Body {
        Body::own(Covered { inner, secret, held: Bytes::new(), next: None, is_over: false })
    }

    fn cover(&mut self, data: &[u8]) -> Bytes {
        let mut all = BytesMut::with_capacity(self.held.len() + data.len());
        all.extend_from_slice(&self.held);
        all.extend_from_slice(data);
        let begins = self.secret.cover(&mut all);
        self.held = all.split_off(all.len() - begins).freeze();
        all.freeze()
    }
}

impl http_body::Body for Covered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(next) = this.next.take() {
                return Poll::Ready(Some(next));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let out = match ready!(Pin::new(&mut this.inner).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.cover(&data),
                ended => {
                    this.is_over = !matches!(ended, Some(Ok(_)));
                    this.next = match ended {
                        Some(Ok(Err(mut trailers))) => {
                            trailers.trailers_mut().into_iter().for_each(|trailers| this.secret.leave(trailers));
                            Some(Ok(trailers))
                        }
                        Some(Err(error)) => Some(Err(error)),
                        _ => None,
                    };
                    std::mem::take(&mut this.held)
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.next.is_none() && (self.is_over || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, held) = (self.inner.size_hint(), self.held.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        inner.upper().into_iter().for_each(|upper| hint.set_upper(upper + held));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::{BodyExt, Channel};

    use super::super::secret::tests::{KEY, secret};
    use super::*;

    #[tokio::test]
    async fn wherever_a_body_is_cut_it_is_covered_and_as_long_as_it_was() {
        for spelled in [KEY, r"sk-proj-a\u002fb\u002Bc"] {
            let text = format!("sk-{spelled} sk-proj");
            for cut in 0..=text.len() {
                let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
                let (first, second) = text.split_at(cut);
                for piece in [first, second] {
                    sender.send_data(Bytes::copy_from_slice(piece.as_bytes())).await.expect("room");
                }
                sender.abort(std::io::Error::other("reset"));
                let mut body = Covered::body(Body::new(body), secret());
                let mut all = Vec::new();
                let end = loop {
                    assert!(!body.is_end_stream(), "its error is yet to come");
                    match body.frame().await {
                        Some(Ok(frame)) => all.extend(frame.into_data().expect("data")),
                        end => break end,
                    }
                };
                assert!(end.is_some_and(|end| end.is_err()), "it broke off");
                assert_eq!(String::from_utf8_lossy(&all), format!("sk-{} sk-proj", "*".repeat(spelled.len())));
            }
        }
    }

    /// Pieces with a known length.
    struct Measured(std::collections::VecDeque<Bytes>);

    impl http_body::Body for Measured {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
        }
    }

    #[tokio::test]
    async fn while_bytes_are_held_it_has_not_ended_and_is_as_long_as_it_says() {
        let text = "so sk-proj";
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let pieces = [first, second].map(|piece| Bytes::from_static(piece.as_bytes()));
            let mut body = Covered::body(Body::new(Measured(pieces.into())), secret());
            let mut left = text.len() as u64;
            while left > 0 {
                assert!(!body.is_end_stream(), "{left} of {text} cut at {cut}");
                assert_eq!(body.size_hint().exact(), Some(left), "cut at {cut}");
                let frame = body.frame().await.expect("more").expect("whole");
                left -= frame.into_data().expect("data").len() as u64;
            }
            assert!(body.frame().await.is_none());
            assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
        }
    }

    #[tokio::test]
    async fn trailers_that_repeat_it_are_left_out() {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
        let (echo, sum) = (http::HeaderName::from_static("x-echo"), http::HeaderName::from_static("x-sum"));
        let said = [(echo, KEY.parse().expect("a value")), (sum, http::HeaderValue::from_static("1"))];
        sender.send_data(Bytes::from_static(b"sk-")).await.expect("room");
        sender.send_trailers(said.into_iter().collect()).await.expect("room");
        drop(sender);
        let all = Covered::body(Body::new(body), secret()).collect().await.expect("whole");
        assert_eq!(
            all.trailers().map(|trailers| trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>()),
            Some(vec!["x-sum"])
        );
        assert_eq!(all.to_bytes(), "sk-");
    }
}
