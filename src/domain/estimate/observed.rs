use super::family::Family;
use super::{Inputs, ModelCard, bounded, server_tools};

/// What a provider billed for a request that another request continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// The billed input tokens, cached ones included.
    pub input: u64,
    /// How many bytes the continuation has in common with it.
    pub bytes: u64,
    media_bytes: u64,
    /// The images that are inside the request.
    images: u64,
    documents: u64,
    tool_references: u64,
    /// Whether its documents were marked for citations.
    cited: bool,
}

impl Observation {
    /// An observation: `input` tokens were billed for a request with these inputs, and `bytes` of it recur in the next.
    /// `None` if it says nothing about the next request: a reference may point to something else by then, and a tool
    /// that the provider runs reads things that nobody sent.
    #[must_use]
    pub fn new(inputs: &Inputs, card: &ModelCard, input: u64, bytes: u64) -> Option<Self> {
        let says_nothing = inputs.references > 0 || !server_tools(inputs, card).is_empty() || bounded(inputs).is_err();
        let Inputs { media_bytes, documents, tool_references, cited, .. } = *inputs;
        let images = inputs.images.saturating_sub(inputs.remote_images);
        (!says_nothing).then_some(Observation { input, bytes, media_bytes, images, documents, tool_references, cited })
    }
}

/// The most input tokens that the provider can bill for a request that continues `seen`: what it billed then, and what
/// is new by the rules of [`proven_input`](super::proven_input). `None` if these rules have no bound for what is new.
#[must_use]
pub fn observed_input(inputs: &Inputs, card: &ModelCard, seen: &Observation) -> Option<u64> {
    // The bound of a document of unknown length is the window; that is for `proven_input`.
    if inputs.references > 0 || inputs.documents > seen.documents || !server_tools(inputs, card).is_empty() {
        return None;
    }
    // The earlier request was billed without the marks.
    if inputs.cited && !seen.cited {
        return None;
    }
    bounded(inputs).ok()?;
    let new = |now: u64, then: u64| now.checked_sub(then);
    let body = inputs.text_bytes.saturating_add(inputs.media_bytes);
    let bytes = new(new(body, seen.bytes)?, new(inputs.media_bytes, seen.media_bytes)?)?;
    // An image that the provider fetches may have changed, and be much larger than the one that was billed.
    let here = inputs.images.saturating_sub(inputs.remote_images);
    let images = new(here, seen.images)?.saturating_add(inputs.remote_images);
    let images = images.saturating_mul(Family::of(&card.name).image_tokens());
    let repeated = new(inputs.tool_references, seen.tool_references)?.saturating_mul(inputs.longest_tool);
    // No mark stands for less than a byte.
    let marks = if inputs.cited { bytes } else { 0 };
    let tokens = [bytes, marks, images, repeated].into_iter().fold(seen.input, u64::saturating_add);
    Some(tokens.min(card.context_window))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Catalog;
    use crate::domain::estimate::ServerTool;

    #[test]
    fn what_was_billed_stands_for_what_is_known_and_the_rest_is_bounded_by_its_bytes() {
        let catalog = Catalog::builtin();
        let card = catalog.find("claude-haiku-4-5").expect("a card");
        let then = Inputs { text_bytes: 90_000, media_bytes: 10_000, images: 1, ..Inputs::default() };
        let seen = Observation::new(&then, card, 30_000, 99_990).expect("it says something");
        let text = |text_bytes| Inputs { text_bytes, ..then.clone() };
        assert_eq!(observed_input(&text(90_500), card, &seen), Some(30_510));
        assert_eq!(observed_input(&text(9_000_000), card, &seen), Some(card.context_window));
        assert_eq!(observed_input(&text(80_000), card, &seen), None, "it cannot be its continuation");
        let fetched = Inputs { images: 3, remote_images: 2, ..text(90_500) };
        for known in [&then, &fetched] {
            let seen = Observation::new(known, card, 30_000, 99_990).expect("it says something");
            let all = observed_input(&fetched, card, &seen).expect("bounded") - 30_510;
            assert_eq!(all, 2 * Family::of(&card.name).image_tokens(), "each may be as large as any, whatever it was");
        }
        let more = Inputs { images: 2, media_bytes: 15_000, ..text(90_500) };
        let image = observed_input(&more, card, &seen).expect("bounded") - 30_510;
        assert!((1_000..10_000).contains(&image), "{image} tokens of an image, and not its 5,000 bytes");
        for unlike in [
            Inputs { documents: 1, ..text(90_500) },
            Inputs { references: 1, ..text(90_500) },
            Inputs { images: 0, ..text(90_500) },
            Inputs { audio: true, ..text(90_500) },
            Inputs { cited: true, ..text(90_500) },
            Inputs { server_tools: vec![ServerTool::new("web_search_20250305", Some(1))], ..text(90_500) },
        ] {
            assert_eq!(observed_input(&unlike, card, &seen), None, "{unlike:?}");
        }
        let cited = |text_bytes| Inputs { cited: true, ..text(text_bytes) };
        let marked = Observation::new(&cited(90_000), card, 30_000, 99_990).expect("it says something");
        assert_eq!(observed_input(&cited(90_500), card, &marked), Some(31_020), "what is new may be marked");
        let referring = Inputs { references: 1, ..then.clone() };
        assert_eq!(Observation::new(&referring, card, 1, 1), None);
    }
}
