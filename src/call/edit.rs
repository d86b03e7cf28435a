use std::sync::Arc;

use bytes::Bytes;

use super::Call;
use crate::dialect::head::Head;
use crate::domain::catalog::Abilities;
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

    /// Whether the wish for usage is ours. Only Chat Completions streams have the option; Anthropic always states usage.
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
        // Looked up for the few that need them.
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
        splice
            .apply(body)
            .map_err(|e| Rejection::misconfigured(format!("the body is not the one whose head was read: {e}")))
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
            // A server that knows only the old name takes no notice of the other, and money is held by it.
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
        // One number goes to every target, and a server refuses a limit beyond what its model gives.
        let cap = cap.min(most());
        match head.spans.max_tokens.iter().flatten().next() {
            // Named and left open.
            Some((_, null)) => splice.replace(null.clone(), cap.to_string()),
            None => {
                let name = match head.dialect() {
                    Dialect::OpenAiResponses => "max_output_tokens",
                    // A server that knows only the other name takes no notice of this one, or refuses it.
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
    /// The body that goes upstream: `body` with the edits of this call and the model of its target, every other byte as
    /// it was.
    ///
    /// # Errors
    /// `Misconfigured` when `body` is not the one whose head was read.
    pub fn edited(&self, body: &Bytes) -> Result<Bytes, Rejection> {
        let Some(head) = self.head() else { return Ok(body.clone()) };
        let edits = self.state().edits;
        let model = self.wire_model();
        let (model, abilities) = (model.map(|model| &**model), || self.abilities(head));
        edits.apply(self.endpoint(), head, model, body, abilities, || self.max_output())
    }

    /// The model that the request names where it goes.
    pub(super) fn wire_model(&self) -> Option<&Arc<str>> {
        self.target().map(|target| &target.model).or_else(|| self.model())
    }

    /// The most output tokens that it gives, as far as that is known.
    pub(super) fn max_output(&self) -> u64 {
        let card = self.wire_model().and_then(|model| self.catalog().find(model));
        card.map_or(u64::MAX, |card| card.max_output)
    }

    /// What that takes of a request in the client's dialect.
    pub(super) fn abilities(&self, head: &Head) -> Abilities {
        let model = self.wire_model().map_or(head.model(), |model| &**model);
        self.catalog().abilities(model, head.dialect())
    }
}
