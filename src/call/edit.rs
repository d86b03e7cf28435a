use bytes::Bytes;

use crate::dialect::head::Head;
use crate::domain::dialect::{Dialect, Endpoint, Operation};
use crate::domain::rejection::Rejection;
use crate::wire::json::Kind;
use crate::wire::splice::{Splice, quote};

/// What the layers want changed in the request, applied in one splice nearest the wire.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edits {
    max_tokens: Option<u64>,
    usage: bool,
}

impl Edits {
    pub(super) fn cap_max_tokens(&mut self, tokens: u64) {
        self.max_tokens = Some(self.max_tokens.map_or(tokens, |t| t.min(tokens)));
    }

    /// The least of the caps, and of what the client asked for.
    pub(super) fn max_tokens(self, asked: Option<u64>) -> Option<u64> {
        // Spelled out: an iterator over the two compiles to thousands of instructions.
        match (self.max_tokens, asked) {
            (Some(cap), Some(asked)) => Some(cap.min(asked)),
            (cap, asked) => cap.or(asked),
        }
    }

    pub(super) fn ask_for_usage(&mut self) {
        self.usage = true;
    }

    pub(super) fn asks_for_usage(self) -> bool {
        self.usage
    }

    pub(super) fn apply(
        self,
        endpoint: Endpoint,
        head: &Head,
        model: Option<&str>,
        body: &Bytes,
    ) -> Result<Bytes, Rejection> {
        head.require_of(body)?;
        let mut splice = Splice::new();
        if let Some(model) = model
            && *model != *head.model()
        {
            splice.replace(head.spans.model.span.clone(), quote(model));
        }
        if endpoint.operation == Operation::Generate {
            self.cap(head, &mut splice);
        }
        self.include_usage(head, &mut splice);
        splice
            .apply(body)
            .map_err(|e| Rejection::misconfigured(format!("the body is not the one whose head was read: {e}")))
    }

    fn cap(self, head: &Head, splice: &mut Splice) {
        let Some(cap) = self.max_tokens else { return };
        let mut stated = false;
        for (asked, span) in head.spans.max_tokens.iter().flatten() {
            stated |= asked.is_some();
            if asked.is_some_and(|asked| asked > cap) {
                splice.replace(span.clone(), cap.to_string());
            }
        }
        if stated {
            return;
        }
        match head.spans.max_tokens.iter().flatten().next() {
            // Named and left open.
            Some((_, null)) => splice.replace(null.clone(), cap.to_string()),
            None => splice.insert_member(&head.spans.root, key(head.dialect()), cap.to_string().as_bytes()),
        };
    }

    /// Only Chat Completions streams have the option; Anthropic always states usage.
    fn include_usage(self, head: &Head, splice: &mut Splice) {
        if !self.usage || head.dialect() != Dialect::OpenAiChat || !head.is_stream() || head.includes_usage() {
            return;
        }
        match (&head.spans.stream_options, &head.spans.include_usage) {
            (_, Some(value)) => splice.replace(value.span.clone(), "true"),
            (Some(options), None) if matches!(options.kind, Kind::Object { .. }) => {
                splice.insert_member(options, "include_usage", b"true")
            }
            (Some(other), None) => splice.replace(other.span.clone(), r#"{"include_usage":true}"#),
            (None, None) => splice.insert_member(&head.spans.root, "stream_options", br#"{"include_usage":true}"#),
        };
    }
}

fn key(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "max_tokens",
        // The one that all of its models take.
        Dialect::OpenAiChat => "max_completion_tokens",
        Dialect::OpenAiResponses => "max_output_tokens",
    }
}
