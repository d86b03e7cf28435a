use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::dialect::meter::{Reading, StreamMeter};
use crate::domain::dialect::Dialect;
use crate::wire::sse::{Block, EventTooLarge, Scanner};

/// Reads an event stream, and removes the usage chunk that only we asked for.
///
/// A client that did not ask must not get a chunk without choices: many clients index `choices[0]`. One scan does both.
/// Each chunk passes as it came or in part; it is copied only if an event crosses chunks.
pub(super) struct Stream {
    scanner: Scanner,
    meter: StreamMeter,
    pub(super) withholds: bool,
    /// The event just removed ended with a CR, and its LF may come as a separate block.
    after_cr: bool,
}

impl Stream {
    pub(super) fn new(dialect: Dialect, withholds: bool) -> Self {
        Stream { scanner: Scanner::new(), meter: StreamMeter::new(dialect), withholds, after_cr: false }
    }

    pub(super) fn reading(&self) -> Reading {
        self.meter.reading()
    }

    pub(super) fn error(&self) -> Option<Arc<str>> {
        self.meter.error()
    }

    pub(super) fn pending(&self) -> usize {
        self.scanner.pending().len()
    }

    /// The part of a chunk to pass on: whole events, including one that it completes, without ours. `None` means all of
    /// it.
    pub(super) fn hear(&mut self, chunk: &Bytes) -> Result<Option<Bytes>, EventTooLarge> {
        let Stream { scanner, meter, .. } = self;
        if !self.withholds {
            scanner.push(chunk, |block| meter.block(&block))?;
            return Ok(None);
        }
        // Until a block is removed, or one began before this chunk, what passes is a prefix of the chunk.
        let held = scanner.pending().len();
        let (mut prefix, mut copied) = (0, (held > 0).then(|| BytesMut::with_capacity(held + chunk.len())));
        scanner.push(chunk, |block| match &mut copied {
            _ if is_ours(&block, meter, &mut self.after_cr) => {
                copied.get_or_insert_with(|| chunk[..prefix].into());
            }
            Some(copied) => copied.extend_from_slice(block.raw()),
            None => prefix += block.raw().len(),
        })?;
        Ok(match copied {
            Some(copied) => Some(copied.freeze()),
            None if prefix == chunk.len() => None,
            None => Some(chunk.slice(..prefix)),
        })
    }

    /// Called at the end of the stream; returns what was held back. An unfinished event passes as it is, and the client
    /// notices what is missing as it would without us.
    pub(super) fn finish(&mut self) -> Bytes {
        let Stream { scanner, meter, .. } = self;
        let mut rest = BytesMut::new();
        let whole = scanner.finish(|block| {
            if !is_ours(&block, meter, &mut self.after_cr) {
                rest.extend_from_slice(block.raw());
            }
        });
        match (self.withholds, whole) {
            (false, _) => Bytes::new(),
            (true, Ok(())) => rest.freeze(),
            (true, Err(_)) => Bytes::copy_from_slice(scanner.pending()),
        }
    }
}

fn is_ours(block: &Block<'_>, meter: &mut StreamMeter, after_cr: &mut bool) -> bool {
    let is_rest = std::mem::take(after_cr) && block.raw() == b"\n";
    let is_usage = meter.look(block);
    *after_cr = is_usage && block.raw().ends_with(b"\r");
    is_usage || is_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;

    fn pass(chunks: &[&str], withholds: bool) -> (String, Reading) {
        let mut stream = Stream::new(Dialect::OpenAiChat, withholds);
        let mut out = Vec::new();
        for chunk in chunks {
            let chunk = Bytes::copy_from_slice(chunk.as_bytes());
            out.extend(stream.hear(&chunk).expect("small events").unwrap_or(chunk));
        }
        let rest = stream.finish();
        out.extend(rest);
        (String::from_utf8(out).expect("cut between characters"), stream.reading())
    }

    #[test]
    fn wherever_a_stream_is_cut_only_the_usage_chunk_is_withheld() {
        for end in ["\n", "\r\n", "\r"] {
            let before = format!("data: {{\"choices\":[{{}}],\"usage\":null}}{end}{end}: a comment{end}{end}");
            let ours = format!("{USAGE}{end}{end}");
            for after in [format!("data: [DONE]{end}{end}"), "data: [DONE]".to_owned(), "data: half".to_owned()] {
                let whole = format!("{before}{ours}{after}");
                for first in 0..whole.len() {
                    for second in [first, (first + 3).min(whole.len()), (first + 60).min(whole.len())] {
                        let chunks = [&whole[..first], &whole[first..second], &whole[second..]];
                        let (out, reading) = pass(&chunks, true);
                        assert_eq!(out, format!("{before}{after}"), "{chunks:?}");
                        assert_eq!(reading.usage.map(|usage| usage.input), Some(9));
                        assert_eq!(pass(&chunks, false).1, reading);
                    }
                }
            }
        }
    }

    #[test]
    fn a_chunk_without_usage_goes_on_as_it_is() {
        let mut stream = Stream::new(Dialect::OpenAiChat, true);
        let chunk = Bytes::from_static(b"data: {\"choices\":[{}]}\n\ndata: {\"ch");
        assert_eq!(stream.hear(&chunk).expect("small"), Some(chunk.slice(..24)));
        let (rest, next) = (Bytes::from_static(b"oices\":[]}\n\n"), chunk.slice(..24));
        assert_eq!(stream.hear(&rest).expect("small").as_deref(), Some(&b"data: {\"choices\":[]}\n\n"[..]));
        assert_eq!(stream.hear(&next).expect("small"), None, "not even cut");
    }
}
