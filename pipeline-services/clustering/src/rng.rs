//! Counter-based random numbers: any (seed, stream, step) can be reached without the ones
//! before it, so work may be split over threads in any way and still draw the same numbers.

/// One reproducible stream (SplitMix64: Steele, Lea & Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream of one `(epoch, vertex)` pair under `seed`.
    pub(crate) fn new(seed: u64, epoch: u32, vertex: u32) -> Self {
        // The mixer leaves 0 as it is; without the addition the first stream of seed 0 would start
        // there.
        let key = (u64::from(epoch) << 32) | u64::from(vertex);
        Self(mix(seed ^ mix(key.wrapping_add(GOLDEN))))
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`, by multiply and shift (bias below `bound` / 2^32).
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// A number in [-1, 1).
    pub(crate) fn symmetric(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 52) as f64) - 1.0
    }
}

/// 2^64 over the golden ratio, the increment of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Variant 13 of Stafford's mixers, whose multipliers SplitMix64 takes.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_stay_in_range() {
        let mut seen = std::collections::HashSet::new();
        for epoch in 0..20 {
            for vertex in 0..50 {
                let mut stream = Stream::new(42, epoch, vertex);
                assert!(seen.insert(stream.next_u64()));
                assert!(stream.below(7) < 7);
                assert!((-1.0..1.0).contains(&stream.symmetric()));
            }
        }
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut stream = Stream::new(1, 2, 3);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            counts[stream.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }
}
