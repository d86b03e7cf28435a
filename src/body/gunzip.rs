use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::Frame;

use super::{Body, BoxError};

/// The most that is decoded at once, besides what the decoder itself holds: a few bytes may decode to a thousand times
/// as many.
const PIECE: usize = 64 << 10;

/// A gzip decoder that returns, piece by piece, everything that can be decoded so far. Nothing waits in it for more
/// input.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: MultiGzDecoder<Capped>,
    /// Not decoded yet.
    rest: Bytes,
    /// Whether any input has arrived.
    has_begun: bool,
    /// The error, returned once everything decoded before it has been returned.
    failed: Option<io::Error>,
}

impl Gunzip {
    /// Creates a decoder that outputs at most `cap` bytes in total, so that a small answer cannot fill the memory.
    pub(crate) fn new(cap: usize) -> Self {
        let decoder = MultiGzDecoder::new(Capped { out: Vec::new(), left: cap });
        Gunzip { decoder, rest: Bytes::new(), has_begun: false, failed: None }
    }

    /// Takes one chunk. Call [`piece`](Self::piece) until it returns nothing before the next chunk.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.has_begun |= !chunk.is_empty();
        self.rest = chunk;
    }

    /// The next decoded piece; empty if the next chunk is needed.
    ///
    /// # Errors
    /// If the bytes are no gzip, or decode to more than the cap.
    pub(crate) fn piece(&mut self) -> io::Result<Vec<u8>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let decoded = self.decode();
        let out = std::mem::take(&mut self.decoder.get_mut().out);
        match decoded {
            Err(error) if out.is_empty() => Err(error),
            decoded => {
                self.failed = decoded.err();
                Ok(out)
            }
        }
    }

    fn decode(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            if self.decoder.get_ref().out.len() >= PIECE {
                return Ok(());
            }
            match self.decoder.write(&self.rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                taken => self.rest.advance(taken),
            }
            if self.rest.is_empty() {
                self.decoder.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the input and returns what was held back. Without any input that is nothing: an answer without bytes is
    /// valid, whatever encoding its headers name.
    ///
    /// # Errors
    /// If the compressed stream is incomplete.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<u8>> {
        if self.has_begun {
            self.decoder.try_finish()?;
        }
        Ok(std::mem::take(&mut self.decoder.get_mut().out))
    }

    /// Whether an answer is encoded in gzip, by either of its names, in any case (RFC 9110 section 8.4.1).
    pub(crate) fn is_needed(headers: &HeaderMap) -> bool {
        headers
            .get(header::CONTENT_ENCODING)
            .map(HeaderValue::as_bytes)
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"))
    }

    /// `body`, decoded as it arrives.
    pub(crate) fn body(body: Body, cap: usize) -> Body {
        Body::own(GunzipBody { inner: body, decoder: Some(Gunzip::new(cap)), trailers: None, plain: Plain::Fails })
    }

    /// Like [`body`](Self::body), but a body that does not start like gzip passes unchanged.
    pub(crate) fn body_or_plain(body: Body, cap: usize) -> Body {
        Body::own(GunzipBody { inner: body, decoder: Some(Gunzip::new(cap)), trailers: None, plain: Plain::MayCome })
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
    plain: Plain,
}

/// What happens to bytes that are no gzip.
enum Plain {
    Fails,
    /// They pass if the body starts with them.
    MayCome,
    Passes,
}

impl http_body::Body for GunzipBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if matches!(this.plain, Plain::Passes) {
                return Pin::new(&mut this.inner).poll_frame(cx);
            }
            let Some(decoder) = &mut this.decoder else { return Poll::Ready(this.trailers.take().map(Ok)) };
            let mut out = decoder.piece();
            if out.as_ref().is_ok_and(Vec::is_empty) {
                out = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            match data.first() {
                                // gzip always starts with this byte, and text never does (RFC 1952 section 2.3.1).
                                Some(&first) if matches!(this.plain, Plain::MayCome) && first != 0x1f => {
                                    this.plain = Plain::Passes;
                                    return Poll::Ready(Some(Ok(Frame::data(data))));
                                }
                                Some(_) => this.plain = Plain::Fails,
                                None => {}
                            }
                            decoder.push(data);
                            continue;
                        }
                        Err(trailers) => {
                            // What was held back is sent before the trailers, after which nothing is read.
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
            }
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
    use std::io::{self, Write};

    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{Gunzip, PIECE};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("to memory");
        encoder.finish().expect("to memory")
    }

    /// The pieces that one chunk decodes to.
    fn push(decoder: &mut Gunzip, chunk: &[u8]) -> (Vec<Vec<u8>>, io::Result<()>) {
        let mut pieces = Vec::new();
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.piece() {
                Ok(piece) if piece.is_empty() => return (pieces, Ok(())),
                Ok(piece) => pieces.push(piece),
                Err(error) => return (pieces, Err(error)),
            }
        }
    }

    fn decoded(decoder: &mut Gunzip, chunk: &[u8]) -> Vec<u8> {
        let (pieces, end) = push(decoder, chunk);
        end.expect("valid gzip");
        pieces.concat()
    }

    #[test]
    fn any_split_decodes_to_the_same_bytes() {
        let packed = [gzip(b"data: one\n\n"), gzip(b"data: two\n\n")].concat();
        for cut in 0..=packed.len() {
            let mut decoder = Gunzip::new(1 << 20);
            let mut out = decoded(&mut decoder, &packed[..cut]);
            out.extend(decoded(&mut decoder, &packed[cut..]));
            out.extend(decoder.finish().expect("whole"));
            assert_eq!(out, b"data: one\n\ndata: two\n\n");
        }
    }

    #[test]
    fn a_small_chunk_that_unpacks_to_much_is_given_out_in_pieces() {
        let zeros = vec![0; 8 << 20];
        let (pieces, end) = push(&mut Gunzip::new(8 << 20), &gzip(&zeros));
        end.expect("valid gzip");
        assert!(pieces.iter().all(|piece| piece.len() <= 4 * PIECE));
        assert_eq!(pieces.concat(), zeros);
    }

    #[test]
    fn an_answer_that_unpacks_beyond_the_cap_is_an_error_once_what_it_allows_is_given_out() {
        let packed = gzip(&vec![b'a'; 1 << 20]);
        let (pieces, end) = push(&mut Gunzip::new(1 << 19), &packed);
        assert!(end.is_err());
        let given = pieces.concat().len();
        assert!(given <= 1 << 19 && given > (1 << 19) - PIECE, "{given}");
    }

    #[test]
    fn half_an_answer_is_an_error_at_the_end() {
        let packed = gzip(b"hello hello hello");
        let mut decoder = Gunzip::new(1 << 16);
        decoded(&mut decoder, &packed[..packed.len() - 9]);
        assert!(decoder.finish().is_err());
    }
}
