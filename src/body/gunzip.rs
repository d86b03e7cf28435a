use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::Frame;

use super::{Body, BoxError};

/// A gzip decoder that gives out, chunk by chunk, all that can be decoded so far.
///
/// Used by whoever must read an answer that came compressed: nothing waits in it for more input.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: MultiGzDecoder<Capped>,
}

impl Gunzip {
    /// A decoder whose whole output may not exceed `cap` bytes, so that a small answer cannot unpack into all memory.
    pub(crate) fn new(cap: usize) -> Self {
        Gunzip { decoder: MultiGzDecoder::new(Capped { out: Vec::new(), left: cap }) }
    }

    /// Decodes one chunk.
    ///
    /// # Errors
    /// When the bytes are no gzip, or unpack to more than the cap.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        self.decoder.write_all(chunk)?;
        self.decoder.flush()?;
        Ok(std::mem::take(&mut self.decoder.get_mut().out))
    }

    /// The end of input: what was still held back.
    ///
    /// # Errors
    /// When the compressed stream stopped half-way.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<u8>> {
        self.decoder.try_finish()?;
        Ok(std::mem::take(&mut self.decoder.get_mut().out))
    }

    /// Whether an answer came in gzip, under either of its names, in any case (RFC 9110 section 8.4.1).
    pub(crate) fn is_needed(headers: &HeaderMap) -> bool {
        headers
            .get(header::CONTENT_ENCODING)
            .map(HeaderValue::as_bytes)
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"))
    }

    /// `body`, decoded as it comes.
    pub(crate) fn body(body: Body, cap: usize) -> Body {
        Body::own(GunzipBody { inner: body, decoder: Some(Gunzip::new(cap)), trailers: None })
    }
}

#[derive(Debug)]
struct Capped {
    out: Vec<u8>,
    left: usize,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| io::Error::other("compressed answer unpacks to more than the limit"))?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct GunzipBody {
    inner: Body,
    decoder: Option<Gunzip>,
    trailers: Option<Frame<Bytes>>,
}

impl http_body::Body for GunzipBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let Some(decoder) = &mut this.decoder else { return Poll::Ready(this.trailers.take().map(Ok)) };
            let out = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => decoder.push(&data),
                    Err(trailers) => {
                        // What was held back goes before them: after trailers nothing is read.
                        this.trailers = Some(trailers);
                        let rest = decoder.finish();
                        this.decoder = None;
                        rest
                    }
                },
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => {
                    let rest = decoder.finish();
                    this.decoder = None;
                    rest
                }
            };
            match out {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(e) => {
                    this.decoder = None;
                    return Poll::Ready(Some(Err(e.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::Gunzip;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("to memory");
        encoder.finish().expect("to memory")
    }

    #[test]
    fn any_split_decodes_to_the_same_bytes() {
        let packed = gzip(b"data: one\n\ndata: two\n\n");
        for cut in 0..=packed.len() {
            let mut decoder = Gunzip::new(1 << 20);
            let mut out = decoder.push(&packed[..cut]).expect("valid gzip");
            out.extend(decoder.push(&packed[cut..]).expect("valid gzip"));
            out.extend(decoder.finish().expect("whole"));
            assert_eq!(out, b"data: one\n\ndata: two\n\n");
        }
    }

    #[test]
    fn an_answer_that_unpacks_beyond_the_cap_is_an_error() {
        let packed = gzip(&vec![b'a'; 1 << 20]);
        assert!(Gunzip::new(1 << 16).push(&packed).is_err());
    }

    #[test]
    fn half_an_answer_is_an_error_at_the_end() {
        let packed = gzip(b"hello hello hello");
        let mut decoder = Gunzip::new(1 << 16);
        decoder.push(&packed[..packed.len() - 9]).expect("a prefix");
        assert!(decoder.finish().is_err());
    }
}
