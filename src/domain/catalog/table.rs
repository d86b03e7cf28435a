use std::sync::{Arc, LazyLock};

use crate::domain::money::{Money, Price};

use super::card::{LongContext, ModelCard, Prices};

/// A speed in output tokens per second that none of these models is expected to reach. No provider states one, so it is
/// an assumption: speeds that others published for these models in 2026 go up to 218, for gpt-5.4-mini. Tiers that are
/// sold as faster are not paid for from a budget when a request asks for them.
const TOP_SPEED: u64 = 500;

/// The name of the price list on each card: the source and version in the head of the table.
static VERSION: LazyLock<Arc<str>> = LazyLock::new(|| "litellm-1.109.1".into());

const TABLE: &str = include_str!("models.txt");

/// The rows of the table; its columns are explained at its head. A test reads every row.
pub(super) fn cards() -> impl Iterator<Item = ModelCard> {
    rows().filter_map(card)
}

fn rows() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#'))
}

fn card(row: &str) -> Option<ModelCard> {
    let columns: Vec<&str> = row.split(' ').collect();
    let &[provider, name, window, max_output, ref rest @ ..] = columns.as_slice() else { return None };
    let &[input, output, read, write_5m, write_1h, above, ref rest @ ..] = rest else { return None };
    let &[long_input, long_output, long_read, long_5m, long_1h, search, us, fast, flex] = rest else { return None };

    let base = [price(input)?, price(output)?, price(read)?, price(write_5m)?, price(write_1h)?];
    let long = [price(long_input)?, price(long_output)?, price(long_read)?, price(long_5m)?, price(long_1h)?];

    let mut card = ModelCard::new(name, prices(base)?);
    card.context_window = tokens(window)?.unwrap_or(u64::MAX);
    card.max_output = tokens(max_output)?.unwrap_or(u64::MAX);
    if let Some(above) = tokens(above)? {
        // What the long tier does not state is as in the base tier; what neither states follows from the tier's other
        // rates.
        let mut long = long.into_iter().zip(base).map(|(long, base)| long.or(base));
        let prices = prices(std::array::from_fn(|_| long.next().flatten()))?;
        card.long = Some(LongContext { above, prices });
    }
    card.web_search = stated(search, |text| text.parse::<Money>().ok())?;
    card.us = millionths(us)?.unwrap_or(card.us);
    card.fast = millionths(fast)?;
    card.flex = millionths(flex)?.unwrap_or(card.flex);
    card.top_speed = TOP_SPEED;
    card.price_version = VERSION.clone();
    card.caches_unasked = provider == "openai";
    Some(card)
}

/// Input, output, cache read, short-lived and long-lived cache write.
fn prices([input, output, read, write_5m, write_1h]: [Option<Price>; 5]) -> Option<Prices> {
    let prices = Prices::new(input?, output?);
    let prices = prices.cache_read(read.unwrap_or(prices.input)).cache_write(write_5m.unwrap_or(prices.input));
    Some(prices.cache_write_1h(write_1h.unwrap_or(prices.cache_write_5m)))
}

/// `Some(None)` if the column is empty, `None` if it cannot be parsed.
fn stated<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { read(text).map(Some) }
}

fn price(text: &str) -> Option<Option<Price>> {
    stated(text, |text| text.parse().ok())
}

fn tokens(text: &str) -> Option<Option<u64>> {
    stated(text, |text| text.parse().ok())
}

/// A price in millionths of a dollar is, digit for digit, a factor in millionths.
fn millionths(text: &str) -> Option<Option<u32>> {
    stated(text, |text| u32::try_from(text.parse::<Price>().ok()?.picos()).ok())
}

#[cfg(test)]
mod tests {
    use super::{cards, rows};

    #[test]
    fn every_row_of_the_table_is_read() {
        assert_eq!(cards().count(), rows().count());
        assert!(cards().count() > 140);
    }
}
