use crate::dialect::canon::MOST_KEPT;
use crate::wire::json::{Escaped, Out, Raw, members};
use crate::wire::sse::Block;

/// The content of a streamed answer, reassembled so that the API accepts it back, with everything in a block, known
/// here or not.
///
/// A paused answer is continued by sending it back as it came. Some results of the provider's own tools are encrypted.
#[derive(Default)]
pub(crate) struct Content {
    /// The completed blocks.
    blocks: Out,
    open: Option<Open>,
    /// About how large it is.
    size: usize,
}

/// A block as it began, with its deltas. Text is escaped.
#[derive(Default)]
struct Open {
    start: String,
    text: String,
    thinking: String,
    signature: String,
    input: String,
    citations: Vec<String>,
}

impl Content {
    /// One event of a stream.
    pub(crate) fn event(&mut self, event: &Block<'_>) {
        let Some(json) = event.data().map(String::from_utf8_lossy) else { return };
        let data = Raw::new(&json);
        match data.member("type").and_then(Raw::text).unwrap_or_default().as_str() {
            "content_block_start" => {
                self.close();
                let start = data.member("content_block").map(|block| block.as_str().to_owned());
                self.size += start.as_ref().map_or(0, String::len);
                self.open = start.map(|start| Open { start, ..Open::default() });
            }
            "content_block_delta" => {
                let (delta, open) = (data.member("delta"), self.open.as_mut());
                self.size += delta.map_or(0, |delta| delta.as_str().len());
                delta.zip(open).into_iter().for_each(|(delta, open)| open.delta(delta));
            }
            "content_block_stop" => self.close(),
            _ => {}
        }
    }

    /// Whether it is more than may be kept.
    pub(crate) fn is_too_large(&self) -> bool {
        self.size > MOST_KEPT
    }

    /// The content of a whole answer.
    pub(crate) fn whole(&mut self, json: &str) {
        let content = Raw::new(json).member("content").into_iter().flat_map(Raw::elements);
        content.for_each(|block| _ = self.blocks.raw(block.as_str()));
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.write(&mut self.blocks);
        }
    }

    /// The request that continues this answer. `None` if `request` was not written by
    /// [`write`](crate::dialect::anthropic::request::write).
    pub(crate) fn behind(&self, request: &[u8]) -> Option<Vec<u8>> {
        // Its messages are last.
        let front = request.strip_suffix(b"]}")?;
        Some([front, br#",{"role":"assistant","content":["#, self.blocks.as_str().as_bytes(), b"]}]}"].concat())
    }
}

impl Open {
    fn delta(&mut self, delta: Raw<'_>) {
        for (key, value) in delta.members() {
            let known = match &*key {
                "text" => &mut self.text,
                "thinking" => &mut self.thinking,
                "signature" => &mut self.signature,
                "partial_json" => &mut self.input,
                "citation" => {
                    self.citations.push(value.as_str().to_owned());
                    continue;
                }
                _ => continue,
            };
            known.push_str(value.text().unwrap_or_default().as_str());
        }
    }

    fn write(&self, out: &mut Out) {
        out.open('{');
        let mut cites = false;
        for (key, value) in Raw::new(&self.start).members() {
            let said = match &*key {
                "text" => &self.text,
                "thinking" => &self.thinking,
                "signature" => &self.signature,
                "input" if !self.input.is_empty() => {
                    // A model wrote it: anything but an object could inject more into the request than an input.
                    let input = Escaped::join(&[&self.input]);
                    let input = input.decoded();
                    let is_object = members(input.as_bytes(), |_, _| {});
                    out.key("input").raw(if is_object { &input } else { value.as_str() });
                    continue;
                }
                "citations" => {
                    cites = true;
                    self.cite(value, out);
                    continue;
                }
                _ => {
                    out.key(Escaped::new(&key).as_str()).raw(value.as_str());
                    continue;
                }
            };
            let began = value.text().unwrap_or_default();
            out.key(&key).text(&Escaped::join(&[began.as_str(), said]));
        }
        if !cites && !self.citations.is_empty() {
            self.cite(Raw::new("[]"), out);
        }
        out.close('}');
    }

    fn cite(&self, began: Raw<'_>, out: &mut Out) {
        out.key("citations").open('[');
        began.elements().for_each(|citation| _ = out.raw(citation.as_str()));
        self.citations.iter().for_each(|citation| _ = out.raw(citation));
        out.close(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_is_no_object_is_not_written_into_the_next_request() {
        let start = r#"{"type":"server_tool_use","name":"web_search","input":{},"a\"b":1}"#;
        for (input, written) in
            [(r#"{\"q\": 1}"#, r#"{"q": 1}"#), (r#"{}}],\"model\":\"other\""#, "{}"), (r#"{\"q\":"#, "{}")]
        {
            let open = Open { start: start.to_owned(), input: input.to_owned(), ..Open::default() };
            let mut out = Out::default();
            open.write(&mut out);
            let expected = format!(r#"{{"type":"server_tool_use","name":"web_search","input":{written},"a\"b":1}}"#);
            assert_eq!(out.finish(), expected);
        }
    }
}
