//! Compares the cost of a call with exact arithmetic. It is never less, and less than a billionth of a dollar more.

use tollgate::domain::catalog::{ModelCard, Prices, Terms};
use tollgate::domain::money::{Money, Price};
use tollgate::domain::usage::Usage;

/// The random number generator SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of up to `bits` bits. All sizes are equally likely, so small numbers are as frequent as large ones.
    fn up_to(&mut self, bits: u32) -> u64 {
        let bits = self.next() % u64::from(bits + 1);
        self.next() & ((1 << bits) - 1)
    }

    fn price(&mut self) -> Price {
        // Up to 1,100 dollars per million tokens.
        Price::from_picos(self.up_to(30))
    }

    fn prices(&mut self) -> Prices {
        let prices = Prices::new(self.price(), self.price()).cache_read(self.price());
        prices.cache_write(self.price()).cache_write_1h(self.price())
    }
}

/// The exact cost in millionths of millionths of a pico-dollar, in which every cost is a whole number.
fn exactly(usage: &Usage, prices: &Prices, us: u32, fast: u32) -> u128 {
    let line = |tokens: u64, price: Price| u128::from(tokens) * u128::from(price.picos());
    let picos = line(usage.input, prices.input)
        + line(usage.output, prices.output)
        + line(usage.cache_read, prices.cache_read)
        + line(usage.cache_write_5m, prices.cache_write_5m)
        + line(usage.cache_write_1h, prices.cache_write_1h);
    picos * u128::from(us) * u128::from(fast)
}

#[test]
fn ten_million_costs_are_exact_but_for_one_rounding_up() {
    /// A billionth of a dollar in these units.
    const NANO: u128 = 1_000 * 1_000_000 * 1_000_000;
    let mut random = Random(20_261_125);
    let mut rounded = 0;
    for case in 0..10_000_000_u32 {
        let (base, long, above) = (random.prices(), random.prices(), random.up_to(20));
        let (us, fast) = (1_000_000 + (random.next() % 200_000) as u32, 1_000_000 + (random.next() % 6_000_000) as u32);
        let card = ModelCard::new("m", base).long(above, long).us(us).fast(fast);
        let usage = Usage {
            input: random.up_to(20),
            output: random.up_to(18),
            cache_read: random.up_to(20),
            cache_write_5m: random.up_to(17),
            cache_write_1h: random.up_to(17),
            ..Usage::default()
        };
        let bits = random.next();
        let terms = Terms { fast: bits & 1 == 1, us: bits & 2 == 2, ..Terms::default() };
        let prices = if usage.total_input() > above { long } else { base };
        let one = 1_000_000;
        let due = exactly(&usage, &prices, if terms.us { us } else { one }, if terms.fast { fast } else { one });
        let cost: Money = card.cost(&usage, terms).expect("a sum that can be said");
        let recorded = u128::try_from(cost.nanos()).expect("no less than nothing") * NANO;
        assert!(recorded >= due && recorded - due < NANO, "case {case}: {usage:?} under {terms:?} by {card:?}: {cost}");
        rounded += u32::from(recorded > due);
    }
    assert!(rounded > 1_000_000, "{rounded} of them were no whole billionths");
}
