//! The built-in table of models, and the cost of calls by it.

use proptest::prelude::*;
use tollgate::Dialect;
use tollgate::dialect::meter;
use tollgate::domain::catalog::{Catalog, ModelCard, Prices, Terms};
use tollgate::domain::money::{Money, Price};
use tollgate::domain::usage::Usage;
use tollgate::wire::sse::Scanner;

fn price(dollars: &str) -> Price {
    dollars.parse().expect("plain decimal")
}

fn prices([input, output, read, write_5m, write_1h]: [&str; 5]) -> Prices {
    Prices::new(price(input), price(output))
        .cache_read(price(read))
        .cache_write(price(write_5m))
        .cache_write_1h(price(write_1h))
}

fn card(model: &str) -> ModelCard {
    Catalog::builtin().find(model).unwrap_or_else(|| panic!("{model} is in the table")).clone()
}

const PLAIN: Terms = Terms { fast: false, flex: false, us: false };

#[test]
fn spot_prices_are_those_that_were_published() {
    for (model, window, output, expected) in [
        ("claude-opus-5-5", 1_000_000, 128_000, ["4", "20", "0.2", "5", "8"]),
        ("claude-sonnet-4-5-20250929", 200_000, 64_000, ["3", "15", "0.3", "3.75", "6"]),
        ("claude-haiku-5-5", 1_000_000, 128_000, ["0.1", "0.5", "0.01", "0.125", "0.2"]),
        ("gpt-5.6", 922_000, 128_000, ["4", "20", "0.4", "5", "10"]),
        // Without a write rate, the input rate is used. Without a read rate too, it is used for both.
        ("gpt-5", 272_000, 128_000, ["1.25", "10", "0.125", "1.25", "1.25"]),
        ("gpt-4", 8_192, 4_096, ["30", "60", "30", "30", "30"]),
    ] {
        let card = card(model);
        assert_eq!((card.context_window, card.max_output, card.prices), (window, output, prices(expected)), "{model}");
    }
    let opus = card("claude-opus-5-5");
    assert_eq!((opus.us, opus.fast, opus.long), (1_100_000, Some(2_000_000), None));
    assert_eq!(opus.web_search, Some(Money::from_nanos(10_000_000)));
    assert_eq!((card("claude-sonnet-5").us, card("claude-sonnet-5").fast), (1_100_000, None));
    assert_eq!(card("claude-haiku-4-5").us, 1_000_000);

    let long = card("claude-haiku-5-5").long.expect("a tier");
    assert_eq!((long.above, long.prices), (100_000, prices(["0.5", "2.5", "0.05", "0.625", "1"])));
    let long = card("gpt-6-sol").long.expect("a tier");
    assert_eq!((long.above, long.prices), (272_000, prices(["4", "15", "0.4", "5", "10"])));
    // Each provider's rows say whether the provider writes its cache unasked.
    assert!(!opus.caches_unasked && card("gpt-5.6").caches_unasked);
}

#[test]
fn a_rate_that_nothing_states_is_the_input_rate_of_its_tier() {
    let card = card("gpt-5.4");
    assert_eq!(card.prices, prices(["2.5", "15", "0.25", "2.5", "2.5"]));
    assert_eq!(card.long.expect("a tier").prices, prices(["5", "22.5", "0.5", "5", "5"]));
}

#[test]
fn a_name_is_found_with_a_date_and_never_by_its_beginning() {
    let catalog = Catalog::builtin();
    let found = |model| catalog.find(model).map(|card| card.name.to_string());
    for (model, name) in [
        ("claude-haiku-4-5-20251001", Some("claude-haiku-4-5-20251001")),
        ("claude-sonnet-5-20260101", Some("claude-sonnet-5")),
        ("claude-sonnet-5-latest", Some("claude-sonnet-5")),
        ("gpt-5-2030-01-01", Some("gpt-5")),
        // These are in the table under their full names, each with its own price.
        ("gpt-4o-2024-05-13", Some("gpt-4o-2024-05-13")),
        ("gpt-5.1-chat-latest", Some("gpt-5.1-chat-latest")),
        ("claude-sonnet", None),
        ("claude-sonnet-5-mini", None),
        ("CLAUDE-SONNET-5", None),
        ("gpt-5-2030-01-01-2030-01-01", None),
        ("ft:gpt-4o-2024-08-06:house::1", None),
        ("", None),
    ] {
        assert_eq!(found(model).as_deref(), name, "{model}");
    }
}

#[test]
fn a_card_of_ones_own_stands_over_the_table_and_leaves_other_clones_alone() {
    let builtin = Catalog::builtin();
    let ours = builtin.clone().with(ModelCard::new("gpt-5", Prices::new(price("1"), price("2"))).context_window(9));
    assert_eq!(ours.find("gpt-5-2025-08-07").map(|card| card.context_window), Some(272_000));
    assert_eq!(ours.find("gpt-5").map(|card| card.context_window), Some(9));
    assert_eq!(builtin.find("gpt-5").map(|card| card.context_window), Some(272_000));
    assert_eq!(ours.models().count(), builtin.models().count());

    let only = Catalog::empty().with(ModelCard::new("house", Prices::new(price("1"), price("2"))));
    assert_eq!(only.models().map(|card| &*card.name).collect::<Vec<_>>(), ["house"]);
    assert!(Catalog::empty().find("gpt-5").is_none());
}

#[test]
fn models_are_listed_by_name() {
    let catalog = Catalog::builtin();
    let names: Vec<_> = catalog.models().map(|card| card.name.clone()).collect();
    assert!(names.is_sorted() && names.len() > 140, "{}", names.len());
}

#[test]
fn every_class_of_tokens_has_its_price() {
    let usage = Usage {
        input: 1_000,
        cache_read: 10_000,
        cache_write_5m: 2_000,
        cache_write_1h: 3_000,
        output: 500,
        reasoning: 400,
        ..Usage::default()
    };
    // 4 + 2 + 10 + 24 + 10 thousandths. Reasoning is part of the output.
    assert_eq!(card("claude-opus-5-5").cost(&usage, PLAIN), "0.05".parse().ok());
}

#[test]
fn the_tier_counts_all_input_and_prices_every_token() {
    let haiku = card("claude-haiku-5-5");
    let usage = |cache_read| Usage { input: 1_000, cache_read, output: 1_000, ..Usage::default() };
    // At the threshold the cost is 0.0001 + 0.00099 + 0.0005.
    assert_eq!(haiku.cost(&usage(99_000), PLAIN), "0.00159".parse().ok());
    // One token above it, all tokens cost five times as much.
    assert_eq!(haiku.cost(&usage(99_001), PLAIN), "0.00795005".parse().ok());
}

#[test]
fn searches_are_priced_a_use_and_no_multiplier_touches_them() {
    let usage = |web_searches| Usage { output: 1_000, web_searches, ..Usage::default() };
    let opus = card("claude-opus-5-5");
    assert_eq!(opus.cost(&usage(3), Terms { fast: true, us: true, ..Terms::default() }), "0.074".parse().ok());
    // The table has no search price for this model.
    let haiku = card("claude-haiku-4-5");
    assert_eq!(haiku.cost(&usage(0), PLAIN), "0.005".parse().ok());
    assert_eq!(haiku.cost(&usage(1), PLAIN), None);
}

#[test]
fn multipliers_multiply_each_other_and_a_fast_mode_without_a_price_has_none() {
    let usage = Usage { output: 1_000, ..Usage::default() };
    let cost = |fast, us| card("claude-opus-5-5").cost(&usage, Terms { fast, us, ..Terms::default() });
    assert_eq!(
        [cost(false, false), cost(false, true), cost(true, false), cost(true, true)],
        ["0.02", "0.022", "0.04", "0.044"].map(|dollars| dollars.parse().ok())
    );
    assert_eq!(card("claude-sonnet-5").cost(&usage, Terms { fast: true, ..Terms::default() }), None);
}

#[test]
fn a_cost_that_cannot_be_said_is_none() {
    let usage = Usage { output: u64::MAX, ..Usage::default() };
    assert_eq!(card("claude-opus-5-5").cost(&usage, PLAIN), None);
    let usage = Usage { web_searches: u64::MAX, ..Usage::default() };
    assert_eq!(card("claude-opus-5-5").cost(&usage, PLAIN), None);
}

proptest! {
    #[test]
    fn a_cost_is_its_exact_sum_rounded_up_once(
        classes in prop::array::uniform5((0..2_000_000_u64, 0..50_000_000_u64)),
        us in 1_000_000..3_000_000_u32,
        fast in 1_000_000..9_000_000_u32,
    ) {
        let [input, read, short, long, output] = classes;
        let prices = Prices::new(Price::from_picos(input.1), Price::from_picos(output.1))
            .cache_read(Price::from_picos(read.1))
            .cache_write(Price::from_picos(short.1))
            .cache_write_1h(Price::from_picos(long.1));
        let usage = Usage {
            input: input.0, cache_read: read.0, cache_write_5m: short.0, cache_write_1h: long.0, output: output.0,
            ..Usage::default()
        };
        let cost = ModelCard::new("m", prices).us(us).fast(fast).cost(&usage, Terms { fast: true, us: true, ..Terms::default() });
        let picos: u128 = classes.iter().map(|(tokens, picos)| u128::from(*tokens) * u128::from(*picos)).sum();
        let exact = picos * u128::from(us) * u128::from(fast);
        let nanos = cost.and_then(|cost| u128::try_from(cost.nanos()).ok()).expect("it can be said");
        let unit = 1_000 * 1_000_000 * 1_000_000;
        prop_assert!(nanos * unit >= exact && nanos * unit < exact + unit);
    }
}

#[test]
fn every_price_says_of_which_list_it_is() {
    let table = include_str!("../../src/domain/catalog/models.txt");
    assert!(table.contains("LiteLLM, release 1.109.1 "), "the version below is the table's own");
    assert!(Catalog::builtin().models().all(|card| &*card.price_version == "litellm-1.109.1"));
    let prices = Prices::new("1".parse().expect("a price"), "2".parse().expect("a price"));
    let own = ModelCard::new("own", prices);
    assert_eq!(&*own.price_version, "house");
    assert_eq!(&*own.price_version("contract of 2026-11").price_version, "contract of 2026-11");
}

#[test]
fn an_answer_is_priced_by_the_tier_speed_and_region_that_served_it() {
    let cost = |model: &str, dialect, answer: &str, asked| {
        let usage = meter::answer(dialect, answer.as_bytes()).usage.expect("stated");
        let mut stream = meter::StreamMeter::new(dialect);
        let event = match dialect {
            Dialect::Anthropic => format!("data: {{\"type\":\"message_start\",\"message\":{answer}}}\n\n"),
            _ => format!("data: {answer}\n\ndata: [DONE]\n\n"),
        };
        Scanner::new().push(event.as_bytes(), |block| stream.block(&block)).expect("small");
        assert_eq!(stream.reading().usage, Some(usage), "a stream says the same");
        let json = serde_json::to_string(&usage).expect("JSON");
        assert_eq!(serde_json::from_str::<Usage>(&json).expect("its own"), usage);
        Catalog::builtin().find(model).expect("a price").cost(&usage, asked).expect("an amount").to_string()
    };
    let asked = Terms::default();
    for (tier, dollars) in [
        (r#""default""#, "0.00125"),
        (r#""priority""#, "0.0025"),
        (r#""flex""#, "0.000625"),
        (r#""on_demand""#, "0.00125"),
        (r#""ultrafast""#, "0.0075"),
        ("null", "0.00125"),
    ] {
        let usage = r#""choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":0}"#;
        let answer = format!(r#"{{"service_tier":{tier},{usage}}}"#);
        assert_eq!(cost("gpt-5", Dialect::OpenAiChat, &answer, asked), dollars, "{tier}");
    }
    let fast = Terms { fast: true, ..asked };
    for (said, asked, dollars) in [
        (r#""speed":"fast""#, asked, "0.008"),
        (r#""speed":"standard""#, asked, "0.004"),
        (r#""speed":"standard""#, fast, "0.004"),
        (r#""speed":null"#, fast, "0.008"),
        (r#""inference_geo":"us""#, asked, "0.0044"),
        (r#""inference_geo":"us","speed":"fast""#, asked, "0.0088"),
        (r#""inference_geo":"not_available","service_tier":"priority""#, asked, "0.004"),
    ] {
        let answer = format!(r#"{{"usage":{{"input_tokens":1000,"output_tokens":0,{said}}}}}"#);
        assert_eq!(cost("claude-opus-5-5", Dialect::Anthropic, &answer, asked), dollars, "{said}");
    }
}
