use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{Body, BoxError};

/// The shortest that is looked for. What is shorter is a word that a server wants in the place of a key (`none`, `ollama`), and
/// may stand in any message.
const SHORTEST: usize = 8;

/// What a provider is called with, and nobody is to read in an error of it. Travels with an answer that is yet to be translated,
/// whose words may spell it out only once they are decoded.
#[derive(Clone)]
pub(crate) struct Secret(Arc<[u8]>);

impl Secret {
    /// `None` for what is too short to be one.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= SHORTEST).then(|| Secret(secret.into()))
    }

    /// Puts an asterisk in the place of each of its bytes, wherever it stands whole, as it is or as JSON may escape it. Returns
    /// how much of the end may be its beginning.
    fn cover(&self, text: &mut [u8]) -> usize {
        let mut at = 0;
        while at < text.len() {
            match self.is_at(&text[at..]) {
                Found::Whole(len) => {
                    text[at..at + len].fill(b'*');
                    at += len;
                }
                Found::Begins => return text.len() - at,
                Found::Other => at += 1,
            }
        }
        0
    }

    fn is_at(&self, text: &[u8]) -> Found {
        let mut at = 0;
        for byte in &*self.0 {
            match spelled(&text[at..], *byte) {
                Found::Whole(len) => at += len,
                other => return other,
            }
        }
        Found::Whole(at)
    }

    /// The same text without it; `None` where it is not in there.
    pub(crate) fn covered(&self, text: &str) -> Option<String> {
        let mut covered = text.as_bytes().to_vec();
        self.cover(&mut covered);
        if covered == text.as_bytes() { None } else { String::from_utf8(covered).ok() }
    }

    /// Whether it is in there.
    fn is_in(&self, value: &[u8]) -> bool {
        let mut covered = value.to_vec();
        self.cover(&mut covered);
        covered != value
    }

    /// Removes the headers that repeat it.
    pub(crate) fn leave(&self, headers: &mut HeaderMap) {
        let named =
            |(name, value): (&http::HeaderName, &http::HeaderValue)| self.is_in(value.as_bytes()).then(|| name.clone());
        let names: Vec<_> = headers.iter().filter_map(named).collect();
        names.into_iter().for_each(|name| _ = headers.remove(name));
    }

    /// Forgets the words that came with a status, if they repeat it.
    pub(crate) fn leave_reason(&self, extensions: &mut http::Extensions) {
        #[cfg(feature = "upstream")]
        if extensions.get::<hyper::ext::ReasonPhrase>().is_some_and(|reason| self.is_in(reason.as_bytes())) {
            super::forget_reason(extensions);
        }
        #[cfg(not(feature = "upstream"))]
        let _ = extensions;
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

enum Found {
    /// All of it, in so many bytes.
    Whole(usize),
    /// The text ends before it is known.
    Begins,
    Other,
}

/// Whether `text` begins with `byte`, as it is or as JSON may escape it.
fn spelled(text: &[u8], byte: u8) -> Found {
    match *text {
        [] | [b'\\'] => Found::Begins,
        [b'\\', next, ..] if next == byte && matches!(byte, b'/' | b'"' | b'\\') => Found::Whole(2),
        [b'\\', b'u', a, b, c, d, ..] => {
            let code = std::str::from_utf8(&[a, b, c, d]).ok().and_then(|hex| u32::from_str_radix(hex, 16).ok());
            if code == Some(byte.into()) { Found::Whole(6) } else { Found::Other }
        }
        [b'\\', b'u', ..] => Found::Begins,
        [first, ..] if first == byte => Found::Whole(1),
        _ => Found::Other,
    }
}

/// A body in which a secret is covered. As long as it was; what may be the beginning of the secret waits for what comes next.
pub(crate) struct Covered {
    inner: Body,
    secret: Secret,
    held: Bytes,
    /// What comes behind what was held.
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

    use super::*;

    const KEY: &str = "sk-proj-a/b+c";

    fn secret() -> Secret {
        Secret::new(KEY.as_bytes()).expect("it is long enough")
    }

    #[test]
    fn a_secret_is_covered_as_it_is_and_as_json_escapes_it_and_what_is_like_it_is_not() {
        let stars = |len| "*".repeat(len);
        for spelled in [KEY, r"sk-proj-a\/b+c", r"sk-proj-a\u002Fb\u002bc", r"\u0073k-proj-a/b+c"] {
            let text = format!("key {spelled}, sk-sk-proj-a and {spelled}{spelled}");
            let len = spelled.len();
            let expected = format!("key {}, sk-sk-proj-a and {}", stars(len), stars(2 * len));
            assert_eq!(secret().covered(&text), Some(expected));
        }
        for other in ["", "sk-proj-a/b+", r"sk-proj-a\u002", "sk-proj-a/b-c", r"C:\users\u00e9", "é"] {
            assert_eq!(secret().covered(other), None, "{other}");
        }
        assert!(Secret::new(b"ollama").is_none(), "it is a word");
    }

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

    /// Pieces whose length is known.
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
