//! Compares the table with the list that it was taken from. The list is not part of this repository. `TOLLGATE_PRICES`
//! names its file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use tollgate::domain::catalog::{Catalog, ModelCard, Prices};
use tollgate::domain::money::{Money, Price};

use crate::skip;

/// The list's entry of one model. Numbers stay text, since most prices are not exact as binary fractions.
type Said = BTreeMap<String, Box<RawValue>>;

/// The unit of numbers here is a billionth of a billionth.
const ONE: u128 = 1_000_000_000_000_000_000;
const MILLION: u128 = 1_000_000;

#[test]
fn every_row_of_the_table_says_what_the_list_says_that_it_was_taken_from() {
    let Some(path) = std::env::var_os("TOLLGATE_PRICES") else {
        return skip::skip(
            "prices",
            "the table of prices is not compared with its source, since TOLLGATE_PRICES is not set",
        );
    };
    let text = std::fs::read_to_string(path).expect("a readable file");
    let list: BTreeMap<String, Said> = serde_json::from_str(&text).expect("models by name");
    let catalog = Catalog::builtin();
    for card in catalog.models() {
        let said = list.get(&*card.name).unwrap_or_else(|| panic!("{} is in no list", card.name));
        assert_eq!(*card, as_said(card, said), "{}", card.name);
    }
    let is_ours = |said: &Said| {
        let is = |name: &str, words: &[&str]| said.get(name).is_some_and(|said| words.contains(&said.get()));
        is("litellm_provider", &[r#""anthropic""#, r#""openai""#]) && is("mode", &[r#""chat""#])
    };
    let listed: BTreeSet<_> = list.iter().filter(|(_, said)| is_ours(said)).map(|(name, _)| &**name).collect();
    let missing: Vec<_> =
        listed.into_iter().filter(|name| !catalog.models().any(|card| *card.name == **name)).collect();
    // A sandbox for code, which is sold per session.
    assert_eq!(missing, ["openai/container"]);
}

/// Returns the card with all values from the list. Values that the list does not have stay as they are.
fn as_said(card: &ModelCard, said: &Said) -> ModelCard {
    let mut card = card.clone();
    let is_anthropic = said["litellm_provider"].get() == r#""anthropic""#;
    let whole = |name| decimal(said, name).map_or(u64::MAX, |units| exactly(units, ONE));
    (card.context_window, card.max_output) = (whole("max_input_tokens"), whole("max_output_tokens"));

    let hour = if is_anthropic { "1hr" } else { "12hr" };
    let rates = |above: &str| {
        [
            format!("input_cost_per_token{above}"),
            format!("output_cost_per_token{above}"),
            format!("cache_read_input_token_cost{above}"),
            format!("cache_creation_input_token_cost{above}"),
            format!("cache_creation_input_token_cost_above_{hour}{above}"),
        ]
        .map(|name| decimal(said, &name))
    };
    let base = rates("");
    card.prices = prices(base);
    let mut above =
        said.keys().filter_map(|name| name.strip_prefix("input_cost_per_token_above_")?.strip_suffix("k_tokens"));
    match (above.next(), &mut card.long) {
        (None, long) => assert!(long.is_none(), "{}: no tier is listed", card.name),
        (Some(_), None) => panic!("{}: a tier is listed", card.name),
        (Some(thousand), Some(long)) => {
            long.above = thousand.parse::<u64>().expect("a number") * 1_000;
            let mut base = base.into_iter();
            let tier = rates(&format!("_above_{thousand}k_tokens"));
            long.prices = prices(tier.map(|rate| rate.or(base.next().flatten())));
        }
    }
    assert_eq!(above.next(), None, "{}: several tiers", card.name);

    let inner = |name: &str| said.get(name).map(|said| serde_json::from_str::<Said>(said.get()).expect("an object"));
    let searches = inner("search_context_cost_per_query").unwrap_or_default();
    let dearest = searches.keys().filter_map(|name| decimal(&searches, name)).max();
    card.web_search = dearest.map(|units| Money::from_nanos(i64::try_from(units / 1_000_000_000).expect("an amount")));

    let entry = inner("provider_specific_entry").unwrap_or_default();
    let factor = |units: u128| u32::try_from(units.div_ceil(ONE / MILLION)).expect("a factor");
    let us = decimal(&entry, "us").or_else(|| decimal(said, "regional_processing_uplift_multiplier_us"));
    card.us = us.map_or(1_000_000, factor);
    // For a service tier, the list has each rate, and the table has one factor that covers all of them.
    let tier = |ending: &str| {
        let rates = said.keys().filter(|name| name.contains("token")).filter_map(|name| {
            let (rate, plain) = (decimal(said, name)?, decimal(said, name.strip_suffix(ending)?)?);
            (plain > 0).then(|| (rate * ONE).div_ceil(plain))
        });
        rates.max().map(factor)
    };
    card.fast = if is_anthropic { decimal(&entry, "fast").map(factor) } else { tier("_priority") };
    card.flex = tier("_flex").unwrap_or(1_000_000);
    card
}

/// Builds prices from those for input, output, cache reads, short-lived and long-lived cache writes. A missing price is
/// derived from another one.
fn prices([input, output, read, write, write_long]: [Option<u128>; 5]) -> Prices {
    let (input, output) = (input.expect("a price"), output.expect("a price"));
    let write = write.unwrap_or(input);
    let [input, output, read, write, write_long] =
        [input, output, read.unwrap_or(input), write, write_long.unwrap_or(write)].map(price);
    Prices::new(input, output).cache_read(read).cache_write(write).cache_write_1h(write_long)
}

fn price(units: u128) -> Price {
    // The list has dollars per token, and `parse` reads dollars per million tokens.
    let micros = exactly(units, MILLION);
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000).parse().expect("a price")
}

/// Divides by `unit`, and asserts that nothing remains.
fn exactly(units: u128, unit: u128) -> u64 {
    assert_eq!(units % unit, 0, "{units} in parts of {unit}");
    u64::try_from(units / unit).expect("not as much")
}

/// Reads a number of the list, in billionths of billionths. `null` counts as missing.
fn decimal(said: &Said, name: &str) -> Option<u128> {
    let text = said.get(name)?.get();
    if text == "null" {
        return None;
    }
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number: u128 = format!("{whole}{fraction}").parse().unwrap_or_else(|_| panic!("{name}: {text}"));
    let exponent: i32 = exponent.parse().expect("an exponent");
    let places = 18 + exponent - i32::try_from(fraction.len()).expect("a few");
    let power = 10_u128.pow(places.unsigned_abs());
    match places < 0 {
        false => Some(number * power),
        true => {
            assert_eq!(number % power, 0, "{name}: {text} has more digits than are read");
            Some(number / power)
        }
    }
}
