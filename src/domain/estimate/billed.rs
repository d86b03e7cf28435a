use super::{CacheWrites, Inputs, ServerTool, server_tools};
use crate::domain::catalog::ModelCard;
use crate::domain::dialect::Dialect;
use crate::domain::usage::Usage;

/// The usage as it is billed, completed with what only the request says, since Chat Completions has no fields for it.
///
/// Searches are billed per call, and a long-lived cache write has a price of its own. The latter is asked for only in
/// requests that are themselves Chat Completions: a translation asks for no more than the usual time.
pub(crate) fn billed(inputs: &Inputs, card: &ModelCard, asked: Dialect, target: Dialect, mut usage: Usage) -> Usage {
    if target != Dialect::OpenAiChat {
        return usage;
    }
    if usage.web_searches == 0 && server_tools(inputs, card).iter().any(ServerTool::searches) {
        usage.web_searches = 1;
    }
    // Gateways in front of Claude state the long-lived part themselves.
    let is_told = usage.cache_write_1h > 0;
    if asked == target && !is_told && inputs.cache_writes == CacheWrites::OneHour {
        usage.cache_write_1h = std::mem::take(&mut usage.cache_write_5m);
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::{Catalog, Terms};
    use crate::domain::money::Money;

    fn cost(model: &str, inputs: &Inputs, usage: Usage) -> Option<Money> {
        let catalog = Catalog::builtin();
        let card = catalog.find(model).expect("a price");
        card.cost(&billed(inputs, card, Dialect::OpenAiChat, Dialect::OpenAiChat, usage), Terms::default())
    }

    fn usd(text: &str) -> Option<Money> {
        Some(text.parse().expect("an amount"))
    }

    #[test]
    fn a_search_that_no_usage_speaks_of_is_billed_once_a_call() {
        let usage = Usage { input: 26, output: 22, ..Usage::default() };
        let asked = Inputs { server_tools: vec![ServerTool::new("web_search_options", Some(1))], ..Inputs::default() };
        // 15 cents and 60 a million tokens, and 2.5 cents a search.
        assert_eq!(cost("gpt-4o-mini-search-preview", &Inputs::default(), usage), usd("0.0250171"));
        assert_eq!(cost("gpt-4o-mini-search-preview", &asked, usage), usd("0.0250171"));
        let plain = Usage { input: 1_000, output: 0, ..Usage::default() };
        assert_eq!(cost("gpt-5", &Inputs::default(), plain), usd("0.00125"));
    }

    #[test]
    fn what_is_to_be_kept_for_long_is_written_at_its_own_price() {
        let usage = Usage { input: 8, cache_write_5m: 4_012, output: 4, ..Usage::default() };
        let long = Inputs { cache_writes: CacheWrites::OneHour, ..Inputs::default() };
        let [short, long] = [Inputs::default(), long].map(|inputs| cost("gpt-5.6-sol", &inputs, usage));
        assert_eq!((short, long), (usd("0.020172"), usd("0.040232")));
        let (catalog, long) = (Catalog::builtin(), Inputs { cache_writes: CacheWrites::OneHour, ..Inputs::default() });
        let card = catalog.find("gpt-5.6-sol").expect("a price");
        let told = Usage { cache_write_5m: 12, cache_write_1h: 4_000, ..usage };
        assert_eq!(
            billed(&long, card, Dialect::OpenAiChat, Dialect::OpenAiChat, told),
            told,
            "it says itself how long"
        );
        let translated = billed(&long, card, Dialect::Anthropic, Dialect::OpenAiChat, usage);
        assert_eq!(card.cost(&translated, Terms::default()), short, "nobody has asked for long");
    }
}
