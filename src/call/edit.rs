use std::sync::Arc;

use bytes::Bytes;

use super::Call;
use crate::dialect::head::Head;
use crate::domain::catalog::Abilities;
use crate::domain::dialect::{Dialect, Endpoint, Operation};
use crate::domain::rejection::Rejection;
use crate::wire::json::Kind;
use crate::wire::splice::{Splice, quote};

/// The changes that layers want in the request, applied in one splice nearest the wire.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edits {
    max_tokens: Option<u64>,
    usage: bool,
}

impl Edits {
    pub(super) fn cap_max_tokens(&mut self, tokens: u64) {
        self.max_tokens = Some(self.max_tokens.map_or(tokens, |t| t.min(tokens)));
    }

    /// The lowest of the caps and the client's own limit.
    pub(super) fn max_tokens(self, asked: Option<u64>) -> Option<u64> {
        // Written out: an iterator over the two compiles to thousands of instructions.
        match (self.max_tokens, asked) {
            (Some(cap), Some(asked)) => Some(cap.min(asked)),
            (cap, asked) => cap.or(asked),
        }
    }

    pub(super) fn ask_for_usage(&mut self) {
        self.usage = true;
    }

    /// Whether we ask for usage and the client did not. Only Chat Completions streams have the option; Anthropic always
    /// states usage.
    pub(super) fn asks_for_usage(self, head: &Head, abilities: impl FnOnce() -> Abilities) -> bool {
        let is_stream = head.dialect() == Dialect::OpenAiChat && head.is_stream();
        self.usage && is_stream && !head.includes_usage() && abilities().usage_option
    }

    pub(super) fn apply(
        self,
        endpoint: Endpoint,
        head: &Head,
        model: Option<&str>,
        body: &Bytes,
        // Looked up only if needed.
        abilities: impl Fn() -> Abilities,
        most: impl FnOnce() -> u64,
    ) -> Result<Bytes, Rejection> {
        head.require_of(body)?;
        let mut splice = Splice::new();
        if let Some(model) = model
            && *model != *head.model()
        {
            splice.replace(head.spans.model.span.clone(), quote(model));
        }
        if endpoint.operation == Operation::Generate {
            self.cap(head, &mut splice, &abilities, most);
        }
        if self.asks_for_usage(head, &abilities) {
            include_usage(head, &mut splice);
        }
        splice.apply(body).map_err(|e| {
            Rejection::misconfigured(format!("the request body is not the one that the call's head was read from: {e}"))
        })
    }

    fn cap(self, head: &Head, splice: &mut Splice, abilities: impl FnOnce() -> Abilities, most: impl FnOnce() -> u64) {
        let Some(cap) = self.max_tokens else { return };
        let mut stated = false;
        for (asked, span) in head.spans.max_tokens.iter().flatten() {
            stated |= asked.is_some();
            if asked.is_some_and(|asked| asked > cap) {
                splice.replace(span.clone(), cap.to_string());
            }
        }
        if stated {
            // A server that knows only the old name ignores the new one, and the hold depends on the limit.
            let [old, new] = &head.spans.max_tokens;
            let (None | Some((None, _)), Some((Some(asked), _))) = (old, new) else { return };
            if head.dialect() == Dialect::OpenAiChat && !abilities().completion_tokens {
                let least = cap.min(*asked).to_string();
                match old {
                    Some((_, null)) => splice.replace(null.clone(), least),
                    None => splice.insert_member(&head.spans.root, "max_tokens", least.as_bytes()),
                };
            }
            return;
        }
        // The same number goes to every target, and a server rejects a limit above its model's maximum.
        let cap = cap.min(most());
        match head.spans.max_tokens.iter().flatten().next() {
            // Present, but null.
            Some((_, null)) => splice.replace(null.clone(), cap.to_string()),
            None => {
                let name = match head.dialect() {
                    Dialect::OpenAiResponses => "max_output_tokens",
                    // A server that knows only `max_tokens` ignores or rejects the other name.
                    Dialect::OpenAiChat if abilities().completion_tokens => "max_completion_tokens",
                    Dialect::Anthropic | Dialect::OpenAiChat => "max_tokens",
                };
                splice.insert_member(&head.spans.root, name, cap.to_string().as_bytes())
            }
        };
    }
}

fn include_usage(head: &Head, splice: &mut Splice) {
    match (&head.spans.stream_options, &head.spans.include_usage) {
        (_, Some(value)) => splice.replace(value.span.clone(), "true"),
        (Some(options), None) if matches!(options.kind, Kind::Object { .. }) => {
            splice.insert_member(options, "include_usage", b"true")
        }
        (Some(other), None) => splice.replace(other.span.clone(), r#"{"include_usage":true}"#),
        (None, None) => splice.insert_member(&head.spans.root, "stream_options", br#"{"include_usage":true}"#),
    };
}

impl Call {
    /// The body to send upstream: `body` with this call's edits and its target's model. All other bytes are unchanged.
    ///
    /// # Errors
    /// `Misconfigured` if `body` is not the body whose head was read.
    pub fn edited(&self, body: &Bytes) -> Result<Bytes, Rejection> {
        let Some(head) = self.head() else { return Ok(body.clone()) };
        let edits = self.state().edits;
        let model = self.wire_model();
        let (model, abilities) = (model.map(|model| &**model), || self.abilities(head));
        edits.apply(self.endpoint(), head, model, body, abilities, || self.max_output())
    }

    /// The model that the upstream request names.
    pub(super) fn wire_model(&self) -> Option<&Arc<str>> {
        self.target().map(|target| &target.model).or_else(|| self.model())
    }

    /// That model's maximum of output tokens, if known.
    pub(super) fn max_output(&self) -> u64 {
        let card = self.wire_model().and_then(|model| self.catalog().find(model));
        card.map_or(u64::MAX, |card| card.max_output)
    }

    /// What that model accepts in a request in the client's dialect.
    pub(super) fn abilities(&self, head: &Head) -> Abilities {
        let model = self.wire_model().map_or(head.model(), |model| &**model);
        self.catalog().abilities(model, head.dialect())
    }
}
