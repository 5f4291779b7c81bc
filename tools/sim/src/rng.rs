//! The only source of chance in a run: xoshiro256** (Blackman and Vigna), seeded by splitmix64. Every actor gets a
//! generator of its own, split off by name, so that one more draw here does not shift the draws there.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Rng {
        let mut z = seed;
        let state = std::array::from_fn(|_| {
            z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(z)
        });
        Rng { state }
    }

    /// A generator that depends on this one's present state and on `name`, and leaves this one as it was.
    pub fn split(&self, name: &str) -> Rng {
        let named = name.bytes().fold(self.state[0] ^ self.state[3], |hash, byte| {
            mix(hash ^ u64::from(byte))
        });
        Rng::new(named)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of a wide product: the bias is below 2^-40 for every bound used here.
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A position in a list of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True with `permille` in a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// Shuffles a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.index(index + 1));
        }
    }
}

/// Scatters the bits of a word (the finaliser of splitmix64).
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A running hash over everything that happens in a run; two runs with the same hash took the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunHash(pub u64);

impl RunHash {
    /// Adds one event, described by words.
    pub fn add<const N: usize>(&mut self, words: [u64; N]) {
        for word in words {
            self.0 = mix(self.0.rotate_left(5) ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [rng.bits(), rng.bits(), rng.bits()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn splits_are_independent_of_later_draws_and_differ_by_name() {
        let mut rng = Rng::new(1);
        let (mut a, mut b) = (rng.split("a"), rng.split("b"));
        assert_ne!(a.bits(), b.bits());
        let mut again = rng.split("a");
        again.bits();
        assert_eq!(a.bits(), again.bits());
        rng.bits();
        assert_ne!(rng.split("a").bits(), again.bits());
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut rng = Rng::new(3);
        let mut seen = [false; 6];
        for _ in 0..1000 {
            let value = rng.between(10, 15);
            seen[(value - 10) as usize] = true;
        }
        assert_eq!(seen, [true; 6]);
        assert_eq!(rng.below(0), 0);
    }
}
