//! Random blocks, cheap enough not to be measured: xorshift64* of a fixed seed, the same for every target.

/// A stream of pseudo-random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream that depends on `seed` alone.
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let mut state = self.0 | u64::from(self.0 == 0);
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0 = state;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, evenly enough for blocks of a disk. 0 when `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_and_stay_below() {
        let mut random = Random::new(1);
        let mut counts = [0u32; 16];
        for _ in 0..160_000 {
            let number = random.below(16) as usize;
            counts[number] += 1;
        }
        assert!(
            counts.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{counts:?}"
        );
        assert_eq!(Random::new(7).below(0), 0);
        assert_eq!(Random::new(3).next_u64(), Random::new(3).next_u64());
        assert_ne!(Random::new(3).next_u64(), Random::new(4).next_u64());
    }
}
