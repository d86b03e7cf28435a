use std::env;

/// Pseudo-random numbers, the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// Returns the seeds to run: the given ones, or the one in `TOLLGATE_SEED`. What this prints shows when the test fails.
pub(crate) fn seeds(given: &[u64]) -> Vec<u64> {
    let chosen = env::var("TOLLGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or_else(|| given.to_vec(), |seed| vec![seed]);
    eprintln!("seeds: {seeds:?}; one of them alone by TOLLGATE_SEED");
    seeds
}
