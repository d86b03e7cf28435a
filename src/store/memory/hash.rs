use std::hash::{BuildHasher, Hasher, RandomState};

/// Multiply and fold, as foldhash does it: every call hashes its id and its pots, and std's hasher takes as long for that as
/// all the rest. Keyed at random, so that whoever picks names cannot pick collisions.
#[derive(Debug, Clone)]
pub(super) struct Seeded {
    start: u64,
    factor: u64,
}

impl Default for Seeded {
    fn default() -> Self {
        let random = RandomState::new();
        Seeded { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Seeded {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { state: self.start, factor: self.factor }
    }
}

#[derive(Debug)]
pub(super) struct Fold {
    state: u64,
    factor: u64,
}

impl Fold {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            // The length above the bytes tells a short rest from one that ends in zeros.
            let word = rest.iter().fold(rest.len() as u64, |word, byte| word << 8 | u64::from(*byte));
            self.add(word);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn finish(&self) -> u64 {
        // The last word has gone through one multiplication; the lowest bits, which choose the place, want another.
        let product = u128::from(self.state) * u128::from(self.factor);
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::Seeded;

    #[test]
    fn ids_that_count_upwards_spread_over_every_bit() {
        let seeded = Seeded::default();
        for shift in [0, 16, 32, 57] {
            let places: HashSet<u64> =
                (0..1_000_u128).map(|n| seeded.hash_one(n.to_be_bytes()) >> shift & 127).collect();
            assert!(places.len() > 120, "of 128 places, {} were used at bit {shift}", places.len());
        }
        let words = ["", "a", "a\0", "aaaaaaaa", "aaaaaaaa\0", "aaaaaaaaa"];
        let hashes: HashSet<u64> = words.iter().map(|word| seeded.hash_one(word.as_bytes())).collect();
        assert_eq!(hashes.len(), words.len());
    }
}
