//! The bound on a request's input and the ceiling of its cost, rule by rule.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tollgate::domain::catalog::{Catalog, ModelCard, Prices, Terms};
use tollgate::domain::estimate::{CacheWrites, Inputs, ServerTool, Unbounded, ceiling, likely_input, proven_input};
use tollgate::domain::money::{Money, Price};
use tollgate::domain::usage::Usage;

fn card(model: &str) -> ModelCard {
    Catalog::builtin().find(model).unwrap_or_else(|| panic!("{model} is in the table")).clone()
}

/// A context window of 200,000 tokens. Per million tokens: 3 dollars for input, 15 for output, 0.30 for cache reads,
/// 3.75 and 6 for cache writes. A search costs one cent.
fn sonnet() -> ModelCard {
    card("claude-sonnet-4-5")
}

fn inputs(fill: impl FnOnce(&mut Inputs)) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.text_bytes = 10_000;
    fill(&mut inputs);
    inputs
}

fn bound(fill: impl FnOnce(&mut Inputs)) -> Result<u64, &'static str> {
    proven_input(&inputs(fill), &sonnet()).map_err(|unbounded| unbounded.field)
}

fn cost(card: &ModelCard, input: u64, output: u64, fill: impl FnOnce(&mut Inputs)) -> Result<String, &'static str> {
    let cost = ceiling(&inputs(fill), card, input, output);
    cost.map(|cost| cost.to_string()).map_err(|unbounded| unbounded.field)
}

fn dollars(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

#[test]
fn text_is_a_token_a_byte_at_most_and_never_more_than_the_window() {
    assert_eq!(bound(|_| {}), Ok(10_000));
    assert_eq!(bound(|it| it.text_bytes = 5_000_000), Ok(200_000));
    assert_eq!(bound(|it| it.text_bytes = u64::MAX), Ok(200_000));
}

#[test]
fn tools_and_formats_add_the_prompt_that_the_provider_writes() {
    assert_eq!(bound(|it| it.prompted = true), Ok(11_024));
    assert_eq!(bound(|it| it.cited = true), Ok(21_024));
    assert_eq!(bound(|it| (it.prompted, it.defined_tools) = (true, 2)), Ok(15_120));
}

#[test]
fn an_image_is_what_its_model_scales_it_to() {
    assert_eq!(bound(|it| it.images = 3), Ok(14_800));
    assert_eq!(bound(|it| it.images = 1_000), Ok(200_000));
    let one = inputs(|it| it.images = 1);
    for (model, tokens) in [("claude-opus-4-7", 4_784), ("gpt-5", 24_600), ("gpt-4o-mini", 48_169)] {
        assert_eq!(proven_input(&one, &card(model)), Ok(10_000 + tokens), "{model}");
    }
}

#[test]
fn media_bytes_are_no_text() {
    assert_eq!(bound(|it| (it.images, it.media_bytes) = (1, 9_000_000)), Ok(11_600));
}

#[test]
fn documents_and_references_may_fill_the_window() {
    assert_eq!(bound(|it| it.documents = 1), Ok(200_000));
    assert_eq!(bound(|it| it.references = 1), Ok(200_000));
    let unknown = ModelCard::new("house", Prices::new(Price::from_picos(1), Price::from_picos(1)));
    assert_eq!(proven_input(&inputs(|_| {}), &unknown), Ok(10_000));
    let refused = proven_input(&inputs(|it| it.documents = 1), &unknown);
    assert_eq!(refused.map_err(|unbounded| unbounded.field), Err("model"));
}

#[test]
fn a_tool_that_is_referred_to_is_repeated() {
    assert_eq!(bound(|it| (it.tool_references, it.longest_tool) = (3, 500)), Ok(11_500));
}

#[test]
fn a_server_tool_may_read_a_window_for_every_use() {
    let tools = |tools: &[(&str, Option<u64>)]| {
        let tools: Vec<_> = tools.iter().map(|(kind, max_uses)| ServerTool::new(*kind, *max_uses)).collect();
        bound(|it| it.server_tools = tools)
    };
    // One pass per use, and one more for the answer.
    assert_eq!(tools(&[("web_search_20250305", Some(3))]), Ok(800_000));
    assert_eq!(tools(&[("web_search_20250305", Some(3)), ("web_fetch_20250910", Some(2))]), Ok(1_200_000));
    // This version may be called from code, and `max_uses` does not count the passes of code.
    assert_eq!(tools(&[("web_search_20260209", Some(3))]), Ok(2_800_000));
    assert_eq!(tools(&[("web_search_20250305", Some(0))]), Ok(200_000));
    for unbounded in
        ["web_search_20250305", "web_fetch_20250910", "code_execution_20260120", "mcp_toolset", "tomorrows_tool"]
    {
        assert_eq!(tools(&[(unbounded, None)]), Err("tools"), "{unbounded}");
    }
    // These have an unknown fee, or use another model's tokens. A number of uses does not bound their cost.
    for unbounded in ["code_execution_20260120", "advisor_20260301", "file_search", "tomorrows_tool"] {
        assert_eq!(tools(&[(unbounded, Some(1))]), Err("tools"), "{unbounded}");
    }
    assert_eq!(tools(&[("web_search_20250305", Some(u64::MAX))]), Err("model"));
}

#[test]
fn what_the_dialect_found_unbounded_stays_so_and_so_does_audio() {
    assert_eq!(bound(|it| it.audio = true), Err("messages"));
    assert_eq!(cost(&sonnet(), 1, 1, |it| it.audio = true), Err("messages"));
    let tier = tollgate::dialect::head::Head::read(
        br#"{"model":"m","service_tier":"priority","messages":[]}"#,
        tollgate::Dialect::OpenAiChat,
    );
    let unbounded: Option<Unbounded> = tier.expect("a head").inputs().unbounded;
    assert!(unbounded.is_some());
    assert_eq!(bound(|it| it.unbounded = unbounded), Err("service_tier"));
    assert_eq!(cost(&sonnet(), 1, 1, |it| it.unbounded = unbounded), Err("service_tier"));
}

#[test]
fn input_is_priced_as_the_dearest_class_that_is_asked_for() {
    let price = |writes| cost(&sonnet(), 1_000_000, 0, |it| it.cache_writes = writes);
    assert_eq!(price(CacheWrites::None), dollars("3.00"));
    assert_eq!(price(CacheWrites::FiveMinutes), dollars("3.75"));
    assert_eq!(price(CacheWrites::OneHour), dollars("6.00"));
    // OpenAI writes its cache unasked, and charges for it since GPT-5.6.
    let sol = |writes| cost(&card("gpt-6-sol"), 100_000, 0, |it| it.cache_writes = writes);
    assert_eq!(sol(CacheWrites::None), dollars("0.25"));
    assert_eq!(sol(CacheWrites::OneHour), dollars("0.50"));
    assert_eq!(cost(&card("gpt-5"), 100_000, 0, |_| {}), dollars("0.125"));
}

#[test]
fn a_long_conversation_costs_more_only_above_its_threshold() {
    let haiku = card("claude-haiku-5-5");
    assert_eq!(cost(&haiku, 100_000, 1_000, |_| {}), dollars("0.0105"));
    assert_eq!(cost(&haiku, 100_001, 1_000, |_| {}), dollars("0.0525005"));
    // If the higher tier is cheaper, the ceiling is the base price, since the call may stay below the tier.
    let price = Price::from_picos;
    let odd = ModelCard::new("odd", Prices::new(price(1_000), price(0))).long(10, Prices::new(price(1), price(0)));
    assert_eq!(cost(&odd, 11, 0, |_| {}), dollars("0.000000011"));
}

#[test]
fn searches_cost_their_price_for_every_use() {
    let search = |it: &mut Inputs| it.server_tools = vec![ServerTool::new("web_search_20250305", Some(5))];
    assert_eq!(cost(&sonnet(), 0, 0, search), dollars("0.05"));
    // Fetching is free. A search with a model whose search price is not in the table is refused.
    assert_eq!(
        cost(&sonnet(), 0, 0, |it| it.server_tools = vec![ServerTool::new("web_fetch_20250910", Some(5))]),
        dollars("0.00")
    );
    assert_eq!(cost(&card("claude-haiku-4-5"), 0, 0, search), Err("tools"));
    let options = |it: &mut Inputs| it.server_tools = vec![ServerTool::new("web_search_options", Some(1))];
    assert_eq!(cost(&card("gpt-4"), 0, 0, options), Err("web_search_options"));
    assert_eq!(cost(&card("gpt-4o-search-preview"), 0, 0, options), dollars("0.025"));
    // This model searches even if it is not asked to.
    assert_eq!(cost(&card("gpt-4o-search-preview"), 0, 0, |_| {}), dollars("0.025"));
    assert_eq!(proven_input(&inputs(|_| {}), &card("gpt-4o-search-preview")), Ok(256_000));
}

#[test]
fn terms_multiply_and_fast_needs_a_price() {
    let opus = card("claude-opus-5-5");
    let fast_us = Terms { fast: true, us: true, ..Terms::default() };
    assert_eq!(cost(&opus, 1_000, 1_000, |it| it.terms = fast_us), dollars("0.0528"));
    assert_eq!(cost(&sonnet(), 1, 1, |it| it.terms = fast_us), Err("speed"));
    assert_eq!(cost(&opus, u64::MAX, u64::MAX, |_| {}), Err("max_tokens"));
}

#[test]
fn a_guess_follows_the_models_tokenizer() {
    let guess = |model, fill: fn(&mut Inputs)| likely_input(&inputs(fill), model);
    assert_eq!(guess("claude-opus-5-5", |_| {}), 3_846);
    assert_eq!(guess("claude-sonnet-4-5", |_| {}), 3_030);
    assert_eq!(guess("gpt-5", |_| {}), 2_500);
    assert_eq!(guess("gpt-5", |it| it.images = 2), 4_500);
    assert_eq!(guess("gpt-5", |it| it.text_bytes = u64::MAX), u64::MAX / 40);
}

/// Requests that are refused have no ceiling to check, so the test also checks how many were not refused.
#[test]
fn whatever_is_billed_within_the_bound_costs_no_more_than_the_ceiling() {
    let (all, bounded) = (AtomicUsize::new(0), AtomicUsize::new(0));
    proptest!(|(
        parts in prop::array::uniform4(0..400_000_u64),
        output in 0..100_000_u64,
        writes in prop::sample::select(vec![CacheWrites::None, CacheWrites::FiveMinutes, CacheWrites::OneHour]),
        searches in 0..4_u64,
        terms in (any::<bool>(), any::<bool>()),
        model in 0..1_000_usize,
    )| {
        let catalog = Catalog::builtin();
        let card = catalog.models().nth(model % catalog.models().count()).expect("a model");
        let terms = Terms { fast: terms.0, us: terms.1, ..Terms::default() };
        let inputs = inputs(|it| {
            (it.cache_writes, it.terms) = (writes, terms);
            it.server_tools = if searches > 0 { vec![ServerTool::new("web_search_1", Some(searches))] } else { vec![] };
        });
        let [input, cache_read, short, long] = parts;
        let usage = Usage {
            input,
            cache_read,
            cache_write_5m: if writes >= CacheWrites::FiveMinutes || card.caches_unasked { short } else { 0 },
            cache_write_1h: if writes == CacheWrites::OneHour { long } else { 0 },
            output,
            web_searches: searches,
            ..Usage::default()
        };
        // If fewer tokens are billed than the bound, they may fall below the threshold of the higher tier.
        for bound in [usage.total_input(), usage.total_input() + 300_000] {
            all.fetch_add(1, Ordering::Relaxed);
            if let Ok(ceiling) = ceiling(&inputs, card, bound, output) {
                bounded.fetch_add(1, Ordering::Relaxed);
                prop_assert!(card.cost(&usage, terms).is_some_and(|cost| cost <= ceiling && cost >= Money::ZERO));
            }
        }
    });
    let (all, bounded) = (all.into_inner(), bounded.into_inner());
    assert!(bounded * 4 > all, "only {bounded} of {all} had a ceiling");
}
