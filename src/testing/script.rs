use std::time::Duration;

/// What the simulated provider does with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub(super) status: u16,
    pub(super) unreachable: bool,
    pub(super) deltas: u64,
    /// In the place of as many deltas of the provider's own.
    pub(super) text: Option<String>,
    pub(super) head_delay: Duration,
    pub(super) delay: Duration,
    pub(super) pings: u64,
    pub(super) tool: bool,
    pub(super) format: bool,
    pub(super) usage: Usage,
    pub(super) gzip: bool,
    pub(super) crlf: bool,
    pub(super) html: bool,
    pub(super) json: bool,
    pub(super) fault: Option<(Fault, u64)>,
}

/// What an answer says of its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// A quarter of the request's bytes as input, and one output token for each delta.
    Counted,
    Stated {
        input: u64,
        output: u64,
    },
    LeftOut,
}

/// A fault in the middle of an answer, after some deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection breaks off.
    Abort,
    /// The stream ends in order, but without its final mark.
    End,
    /// An error event in the provider's own form.
    Error,
    /// Bytes that form no event.
    Garbage,
    /// Silence, for ever.
    Stall,
}

impl Script {
    /// Creates a script for a successful answer of nine deltas, without delays.
    #[must_use]
    pub fn new() -> Self {
        Script {
            status: 200,
            unreachable: false,
            deltas: 9,
            text: None,
            head_delay: Duration::ZERO,
            delay: Duration::ZERO,
            pings: 0,
            tool: false,
            format: false,
            usage: Usage::Counted,
            gzip: false,
            crlf: false,
            html: false,
            json: false,
            fault: None,
        }
    }

    /// Answers with an error of this status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Cannot be reached: fails the request as a refused connection would, so that a dispatch tries its next target.
    /// The request is not [received](super::Simulated::received). Behind a listener, where a connection has been made
    /// by then, it is answered with an empty 502.
    #[must_use]
    pub fn unreachable(mut self) -> Self {
        self.unreachable = true;
        self
    }

    /// Produces this many deltas, of one token each.
    #[must_use]
    pub fn deltas(mut self, deltas: u64) -> Self {
        (self.deltas, self.text) = (deltas, None);
        self
    }

    /// Answers with exactly this text, in deltas of one word each, which count as one token each. A request
    /// that asks for fewer tokens cuts it.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Waits before the head of the answer.
    #[must_use]
    pub fn head_delay(mut self, delay: Duration) -> Self {
        self.head_delay = delay;
        self
    }

    /// Waits before each delta.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends this many pings before the first delta.
    #[must_use]
    pub fn pings(mut self, pings: u64) -> Self {
        self.pings = pings;
        self
    }

    /// Calls the first tool of the request, unless the request brings a tool's result already.
    #[must_use]
    pub fn tool(mut self) -> Self {
        self.tool = true;
        self
    }

    /// Follows the format of the request, if it asks for one by a schema: answers `{"city":"Paris"}` in two deltas.
    /// Tools are called with the same arguments.
    #[must_use]
    pub fn format(mut self) -> Self {
        self.format = true;
        self
    }

    /// States this many input and output tokens, and puts as many on the bill, whatever the answer's deltas.
    #[must_use]
    pub fn usage(mut self, input: u64, output: u64) -> Self {
        self.usage = Usage::Stated { input, output };
        self
    }

    /// Leaves out the usage.
    #[must_use]
    pub fn without_usage(mut self) -> Self {
        self.usage = Usage::LeftOut;
        self
    }

    /// Compresses the answer, whatever the request accepts.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Ends the lines of a stream with CR LF.
    #[must_use]
    pub fn crlf(mut self) -> Self {
        self.crlf = true;
        self
    }

    /// Answers with a web page, as a proxy in between would.
    #[must_use]
    pub fn html(mut self) -> Self {
        self.html = true;
        self
    }

    /// Answers in JSON, even where a stream was asked for.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.json = true;
        self
    }

    /// Has this fault after this many deltas.
    #[must_use]
    pub fn fault(mut self, fault: Fault, after: u64) -> Self {
        self.fault = Some((fault, after));
        self
    }

    /// Reads the first `sim:` directive in a request's body: words separated by commas, without spaces. Returns `None`
    /// without a directive; unknown words are ignored.
    ///
    /// - `status=529`, `deltas=200`, `pings=2`
    /// - `first=50`, `delay=5`: milliseconds before the head, and before each delta
    /// - `tool`, `format`, `nousage`, `gzip`, `crlf`, `html`, `json`, `unreachable`
    /// - faults, after this many deltas: `abort=3`, `end=3`, `error=3`, `garbage=3`, `stall=3`
    #[must_use]
    pub fn directive(body: &[u8]) -> Option<Self> {
        let start = memchr::memmem::find(body, b"sim:")? + b"sim:".len();
        let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'=' | b',');
        let end = body[start..].iter().position(|b| !is_word(b)).map_or(body.len(), |len| start + len);
        let words = std::str::from_utf8(&body[start..end]).ok()?;
        Some(words.split(',').fold(Script::new(), |script, word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let n: u64 = value.parse().unwrap_or(0);
            match key {
                "status" => script.status(u16::try_from(n).unwrap_or(500)),
                "unreachable" => script.unreachable(),
                "deltas" => script.deltas(n),
                "first" => script.head_delay(Duration::from_millis(n)),
                "delay" => script.delay(Duration::from_millis(n)),
                "pings" => script.pings(n),
                "tool" => script.tool(),
                "format" => script.format(),
                "nousage" => script.without_usage(),
                "gzip" => script.gzip(),
                "crlf" => script.crlf(),
                "html" => script.html(),
                "json" => script.json(),
                "abort" => script.fault(Fault::Abort, n),
                "end" => script.fault(Fault::End, n),
                "error" => script.fault(Fault::Error, n),
                "garbage" => script.fault(Fault::Garbage, n),
                "stall" => script.fault(Fault::Stall, n),
                _ => script,
            }
        }))
    }
}

impl Script {
    /// How many deltas the answer has, if nothing cuts it.
    pub(super) fn length(&self) -> u64 {
        self.text.as_deref().map_or(self.deltas, |text| words(text).count() as u64)
    }

    /// The text of the answer, of up to `most` deltas.
    pub(super) fn words(&self, most: u64) -> Vec<&str> {
        const WORDS: [&str; 9] = ["Hello", ",", " I", " am", " simulated", ":", " no", " provider", " was asked."];
        let count = usize::try_from(self.length().min(most)).unwrap_or(usize::MAX);
        match &self.text {
            Some(text) => words(text).take(count).collect(),
            None => WORDS.into_iter().cycle().take(count).collect(),
        }
    }

    /// The input tokens of a request of this many bytes.
    pub(super) fn input(&self, bytes: usize) -> u64 {
        match self.usage {
            Usage::Stated { input, .. } => input,
            Usage::Counted | Usage::LeftOut => (bytes as u64).div_ceil(4),
        }
    }

    /// The output tokens of an answer of this many deltas.
    pub(super) fn output(&self, deltas: usize) -> u64 {
        match self.usage {
            Usage::Stated { output, .. } => output,
            Usage::Counted | Usage::LeftOut => deltas as u64,
        }
    }

    pub(super) fn states_usage(&self) -> bool {
        self.usage != Usage::LeftOut
    }
}

/// Each with the white space behind it, so that together they are the text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}
