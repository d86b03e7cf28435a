use std::sync::{Arc, LazyLock};

use crate::domain::money::{Money, Price};

use super::card::{LongContext, ModelCard, Prices};

/// Output tokens a second that none of these models is taken to reach. No provider states one, so it is an assumption:
/// what others have published of these models' speeds in 2026 goes up to 218, of gpt-5.4-mini. Tiers that are sold as
/// faster no budget pays for, where they are asked for.
const TOP_SPEED: u64 = 500;

/// Which list it is, as each row's card says: the source and the date in the head of the table.
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
        // What the tier does not state is as below it; what neither states follows from the tier's other rates.
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

/// `Some(None)` where the column states nothing, `None` where it states what cannot be read.
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
