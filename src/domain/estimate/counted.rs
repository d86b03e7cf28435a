use super::{Inputs, ModelCard, added, bounded, server_tools};

/// A count may be short by one part in this many: providers change their tokenizers, and call their own counts
/// estimates.
const SHORT: u64 = 20;

/// The most input tokens that the provider should bill for a request for which `counted` were counted: a twentieth
/// more, and the prompts that it adds itself. This is no bound; it is as good as the count.
///
/// `None` if no count is enough: the request refers to something outside it, or has a tool that the provider runs.
#[must_use]
pub fn counted_input(inputs: &Inputs, card: &ModelCard, counted: u64) -> Option<u64> {
    if inputs.references > 0 || !server_tools(inputs, card).is_empty() {
        return None;
    }
    bounded(inputs).ok()?;
    let tokens = [counted.div_ceil(SHORT), added(inputs)].into_iter().fold(counted, u64::saturating_add);
    Some(tokens.min(card.context_window))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Catalog;
    use crate::domain::estimate::ServerTool;

    #[test]
    fn a_count_stands_for_all_but_what_nobody_has_sent() {
        let catalog = Catalog::builtin();
        let card = catalog.find("claude-haiku-4-5").expect("a card");
        let plain = Inputs { text_bytes: 90_000, ..Inputs::default() };
        assert_eq!(counted_input(&plain, card, 20_001), Some(21_002), "a twentieth more, rounded up");
        assert_eq!(counted_input(&Inputs { prompted: true, ..plain.clone() }, card, 20_000), Some(22_024));
        assert_eq!(counted_input(&plain, card, u64::MAX), Some(card.context_window));
        assert_eq!(counted_input(&Inputs { references: 1, ..plain.clone() }, card, 20_000), None);
        assert_eq!(counted_input(&Inputs { audio: true, ..plain.clone() }, card, 20_000), None);
        let server_tools = vec![ServerTool::new("web_search_20250305", Some(1))];
        assert_eq!(counted_input(&Inputs { server_tools, ..plain }, card, 20_000), None);
    }
}
