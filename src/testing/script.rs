use std::time::Duration;

/// What the simulated provider does with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub(super) status: u16,
    pub(super) deltas: u64,
    pub(super) head_delay: Duration,
    pub(super) delay: Duration,
    pub(super) pings: u64,
    pub(super) tool: bool,
    pub(super) format: bool,
    pub(super) usage: bool,
    pub(super) gzip: bool,
    pub(super) crlf: bool,
    pub(super) html: bool,
    pub(super) json: bool,
    pub(super) fault: Option<(Fault, u64)>,
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
            deltas: 9,
            head_delay: Duration::ZERO,
            delay: Duration::ZERO,
            pings: 0,
            tool: false,
            format: false,
            usage: true,
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

    /// Produces this many deltas, of one token each.
    #[must_use]
    pub fn deltas(mut self, deltas: u64) -> Self {
        self.deltas = deltas;
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

    /// Leaves out the usage.
    #[must_use]
    pub fn without_usage(mut self) -> Self {
        self.usage = false;
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
    /// - `tool`, `format`, `nousage`, `gzip`, `crlf`, `html`, `json`
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

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}
