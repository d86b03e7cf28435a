use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::Frame;

use super::{Body, BoxError};

/// Most that is decoded at once, beyond what the decoder itself holds: a few bytes may be a thousand times as many.
const PIECE: usize = 64 << 10;

/// A gzip decoder that gives out, piece by piece, all that can be decoded so far.
///
/// Used by whoever must read an answer that came compressed: nothing waits in it for more input.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: MultiGzDecoder<Capped>,
    /// What is not decoded yet.
    rest: Bytes,
    /// Whether anything has come.
    has_begun: bool,
    /// Why it goes no further: told once all is given out that came before.
    failed: Option<io::Error>,
}

impl Gunzip {
    /// A decoder whose whole output may not exceed `cap` bytes, so that a small answer cannot unpack into all memory.
    pub(crate) fn new(cap: usize) -> Self {
        let decoder = MultiGzDecoder::new(Capped { out: Vec::new(), left: cap });
        Gunzip { decoder, rest: Bytes::new(), has_begun: false, failed: None }
    }

    /// Takes one chunk, to be asked for in [`piece`](Self::piece)s to its end before the next.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.has_begun |= !chunk.is_empty();
        self.rest = chunk;
    }

    /// The next piece of what is decoded; empty where there is no more of it before the next chunk.
    ///
    /// # Errors
    /// When the bytes are no gzip, or unpack to more than the cap.
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

    /// The end of input: what was still held back. Of no input at all that is nothing: an answer of no bytes is one, whatever
    /// coding its head names.
    ///
    /// # Errors
    /// When the compressed stream stopped half-way.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<u8>> {
        if self.has_begun {
            self.decoder.try_finish()?;
        }
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
        Body::own(GunzipBody { inner: body, decoder: Some(Gunzip::new(cap)), trailers: None, plain: Plain::Fails })
    }

    /// The same, but for what is called gzip and does not begin as one, which passes as it is.
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

/// What of bytes that are no gzip.
enum Plain {
    Fails,
    /// They pass, where they begin so.
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
                                // No text begins with this byte, and all of gzip does (RFC 1952 section 2.3.1).
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

    /// What comes of one chunk, in pieces.
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
