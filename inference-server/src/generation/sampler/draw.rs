//! Passes over a row of logits: maximum, softmax weights, top-k, top-p, and the draw itself.
//!
//! Loops are written over fixed lanes, so that the compiler uses the machine's vector instructions.
//! No operations are fused, so that results are the same bits on every machine.

use crate::kernels::isa::{Isa, by_isa};

/// Number of floats that the loops take at once: one AVX-512 register.
const LANES: usize = 16;
/// Number of tokens that top-p sorts first; it doubles from there. Not tuned: a model that is sure
/// of itself has most of its probability in far fewer.
const NUCLEUS: usize = 256;
/// Number of values summed in single precision before the sum is added in double precision. Not
/// tuned: 256 additions in each lane lose at most 8 of 24 bits, and usually 4.
const SUM_BLOCK: usize = 4_096;

/// Parameters of a draw; see the fields of the same names in the sampling parameters.
pub(super) struct Cuts {
    pub(super) temperature: f32,
    pub(super) top_k: usize,
    pub(super) top_p: f32,
    pub(super) min_p: f32,
}

/// Ten rounds of Philox 4×32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
/// Counter-based: the n-th number needs no state, so that a sequence can be resumed anywhere.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
    for _ in 0..10 {
        let first = u64::from(a) * 0xD251_1F53;
        let second = u64::from(c) * 0xCD9E_8D57;
        (a, b, c, d) =
            ((second >> 32) as u32 ^ b ^ k, second as u32, (first >> 32) as u32 ^ d ^ l, first as u32);
        (k, l) = (k.wrapping_add(0x9E37_79B9), l.wrapping_add(0xBB67_AE85));
    }
    [a, b, c, d]
}

/// Random number in [0, 1) that depends on its arguments only.
pub(super) fn uniform(seed: u64, position: u64, attempt: u32) -> f64 {
    let counter = [position as u32, (position >> 32) as u32, attempt, 0];
    let [low, high, ..] = philox(counter, [seed as u32, (seed >> 32) as u32]);
    // 53 bits, the significand of an f64: every value is exact and below 1.
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// Largest value; NaN counts as −∞.
pub(super) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            // Not `f32::max`, whose rule for NaN takes a second instruction.
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// e^x for x ≤ 0 with a relative error below 3e-7, as Cephes' `expf` reduces and approximates; 0
/// below −87. NaN stays.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 · 2²³ rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let y = if x < -87.0 { -87.0 } else { x };
    let whole = y * std::f32::consts::LOG2_E + ROUND;
    let n = whole - ROUND;
    // ln 2 in two parts, the first of which has few bits. No fused operations: without the
    // instruction they are calls.
    let r = y - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.0;
    let power = f32::from_bits((whole.to_bits() << 23).wrapping_add(0x3F80_0000));
    if x < -87.0 { 0.0 } else { p * power }
}

/// Sum of e^(x − best).
pub(super) fn sum_exp(values: &[f32], best: f32) -> f64 {
    let mut sum = 0.0;
    // Without fused operations the instruction set changes the speed only, never the bits.
    by_isa!(Isa::detect(), sum_exp_in_lanes(values: &[f32] = values, best: f32 = best, sum: &mut f64 = &mut sum));
    sum
}

#[inline(always)]
fn sum_exp_in_lanes<const FMA: bool>(values: &[f32], best: f32, total: &mut f64) {
    let mut sum = 0.0;
    // Short single-precision partial sums keep their rounding errors small.
    for block in values.chunks(SUM_BLOCK) {
        let mut lanes = [0.0_f32; LANES];
        let chunks = block.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += exp(x - best);
            }
        }
        sum += lanes.iter().map(|x| f64::from(*x)).sum::<f64>();
        sum += rest.iter().map(|x| f64::from(exp(x - best))).sum::<f64>();
    }
    *total = sum;
}

/// Replaces every value by e^((x − best) / temperature), those below `bar` by 0.
#[inline(always)]
fn weigh<const FMA: bool>(values: &mut [f32], best: f32, temperature: f32, bar: f32) {
    for x in values {
        let weight = exp((*x - best) / temperature);
        *x = if *x < bar { 0.0 } else { weight };
    }
}

fn sum(values: &[f32]) -> f64 {
    let mut sum = 0.0;
    for block in values.chunks(SUM_BLOCK) {
        let mut lanes = [0.0_f32; LANES];
        let chunks = block.chunks_exact(LANES);
        sum += chunks.remainder().iter().map(|x| f64::from(*x)).sum::<f64>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x;
            }
        }
        sum += lanes.iter().map(|x| f64::from(*x)).sum::<f64>();
    }
    sum
}

/// Sets the values whose bit in `allowed` is 0 to −∞.
pub(super) fn mask(values: &mut [f32], allowed: &[u32]) {
    for (chunk, word) in values.chunks_mut(32).zip(allowed) {
        // Most words of a mask are all or nothing.
        match *word {
            0 => chunk.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            word => {
                for (bit, value) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *value = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

/// The `count` largest values with their indices, largest first, of equals the lowest index first.
pub(super) fn largest(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    let mut kept = at_least(values, kth(values, count));
    kept.sort_unstable_by(largest_first);
    kept.truncate(count);
    kept
}

/// Order by value, largest first, of equals the lowest index first.
fn largest_first(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `k`-th largest value, counted from 1; −∞ if there are fewer.
fn kth(values: &[f32], k: usize) -> f32 {
    if k > values.len() {
        return f32::NEG_INFINITY;
    }
    // Twice as many are collected before the smaller half is dropped, so that most values cost one
    // comparison.
    let room = (2 * k).max(64);
    let mut kept: Vec<f32> = Vec::with_capacity(room);
    let mut bar = f32::NEG_INFINITY;
    for chunk in values.chunks(LANES) {
        // A chunk without a candidate costs one vector comparison; most chunks are such.
        if max(chunk) < bar {
            continue;
        }
        for x in chunk {
            if *x >= bar {
                kept.push(*x);
            }
            if kept.len() == room {
                kept.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                kept.truncate(k);
                bar = kept[k - 1];
            }
        }
    }
    *kept.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

fn at_least(values: &[f32], bar: f32) -> Vec<(u32, f32)> {
    let mut kept = Vec::new();
    for (block, chunk) in values.chunks(LANES).enumerate() {
        if max(chunk) < bar {
            continue;
        }
        let places = chunk.iter().enumerate().filter(|(_, x)| **x >= bar);
        kept.extend(places.map(|(place, x)| ((block * LANES + place) as u32, *x)));
    }
    kept
}

/// Draws an index from logits whose largest is `best`; `None` if all are −∞. Overwrites the logits
/// with weights.
pub(super) fn draw(logits: &mut [f32], best: f32, cuts: &Cuts, uniform: f64) -> Option<usize> {
    let bar = if cuts.top_k == 0 { f32::NEG_INFINITY } else { kth(logits, cuts.top_k) };
    by_isa!(Isa::detect(), weigh(values: &mut [f32] = logits, best: f32 = best,
        temperature: f32 = cuts.temperature, bar: f32 = bar));
    if cuts.top_p < 1.0 {
        let kept = nucleus(logits, cuts.top_p);
        let kept = kept.into_iter().filter(|(_, weight)| *weight >= cuts.min_p);
        let kept: Vec<(u32, f32)> = kept.collect();
        let total: f64 = kept.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let place = invert_cdf(kept.iter().map(|(_, weight)| *weight), uniform * total)?;
        return Some(kept[place].0 as usize);
    }
    // Weights are relative to the likeliest, which has 1, so they compare with `min_p` as they are.
    if cuts.min_p > 0.0 {
        for weight in logits.iter_mut() {
            *weight = if *weight < cuts.min_p { 0.0 } else { *weight };
        }
    }
    draw_from_all(logits, uniform)
}

/// The fewest largest weights that together reach `share` of the total, largest first.
fn nucleus(weights: &[f32], share: f32) -> Vec<(u32, f32)> {
    let total = sum(weights);
    let goal = f64::from(share) * total;
    // Weights below this bar, even all of them together, are less than what may be cut off.
    let bar = ((1.0 - f64::from(share)) * total / weights.len() as f64) as f32;
    let mut kept = at_least(weights, bar.max(f32::MIN_POSITIVE));
    let (mut sorted, mut before) = (0, 0.0);
    while sorted < kept.len() {
        let next = (2 * sorted).max(NUCLEUS).min(kept.len());
        if next < kept.len() {
            kept[sorted..].select_nth_unstable_by(next - sorted, largest_first);
        }
        kept[sorted..next].sort_unstable_by(largest_first);
        for place in sorted..next {
            // At least one token stays, however small the share.
            if before >= goal && place > 0 {
                kept.truncate(place);
                return kept;
            }
            before += f64::from(kept[place].1);
        }
        sorted = next;
    }
    kept
}

/// Index at which the running sum of weights passes `goal`, or the last weight above 0 if rounding
/// keeps the sum below it.
fn invert_cdf(weights: impl Iterator<Item = f32>, goal: f64) -> Option<usize> {
    let (mut sum, mut last) = (0.0, None);
    for (place, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
        sum += f64::from(weight);
        last = Some(place);
        if sum > goal {
            break;
        }
    }
    last
}

/// Like [`invert_cdf`] over all weights, a block at a time.
fn draw_from_all(weights: &[f32], uniform: f64) -> Option<usize> {
    let blocks: Vec<f64> = weights.chunks(SUM_BLOCK).map(sum).collect();
    // By blocks, so that a draw among 150,000 tokens walks through one of them.
    let mut goal = uniform * blocks.iter().sum::<f64>();
    let last = blocks.iter().rposition(|sum| *sum > 0.0)?;
    let mut block = 0;
    while block < last && blocks[block] <= goal {
        goal -= blocks[block];
        block += 1;
    }
    let chunk = weights.chunks(SUM_BLOCK).nth(block)?;
    Some(block * SUM_BLOCK + invert_cdf(chunk.iter().copied(), goal)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Known answers of the Random123 library.
    #[test]
    fn philox_is_philox() {
        fn check(counter: [u32; 4], key: [u32; 2], expected: [u32; 4]) {
            assert_eq!(philox(counter, key), expected);
        }
        check([0; 4], [0; 2], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        check(
            [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
            [0xA409_3822, 0x299F_31D0],
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
        );
    }

    #[test]
    fn exp_is_close() {
        for step in 0..=870_000 {
            let x = -step as f32 / 10_000.0;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got - expected).abs() <= 3e-7 * expected, "{x}: {got} {expected}");
        }
        assert_eq!((exp(0.0), exp(-87.5), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let values = crate::kernels::samples::values(10_007, 1);
        let best = max(&values);
        let passes = |isa: Isa| {
            let (mut weights, mut sum) = (values.clone(), 0.0);
            by_isa!(isa, weigh(values: &mut [f32] = &mut weights, best: f32 = best, temperature: f32 = 0.7,
                bar: f32 = -0.5));
            by_isa!(isa, sum_exp_in_lanes(values: &[f32] = &values, best: f32 = best, sum: &mut f64 = &mut sum));
            (weights.into_iter().map(f32::to_bits).collect::<Vec<u32>>(), sum.to_bits())
        };
        let expected = passes(Isa::available()[0]);
        Isa::available().into_iter().for_each(|isa| assert_eq!(passes(isa), expected, "{isa:?}"));
    }

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_sort(
            values in proptest::collection::vec((-50..50_i32).prop_map(|x| x as f32), 1..500),
            count in 0_usize..40,
        ) {
            let mut expected: Vec<(u32, f32)> = (0_u32..).zip(values.iter().copied()).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            expected.truncate(count);
            prop_assert_eq!(largest(&values, count), expected);
            prop_assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }

        #[test]
        fn a_nucleus_is_the_fewest_that_reach_the_share(
            weights in proptest::collection::vec((0..1_000_u32).prop_map(|x| x as f32 / 1_000.0), 1..2_000),
            share in 0.01_f32..0.999,
        ) {
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            prop_assume!(total > 0.0);
            let kept = nucleus(&weights, share);
            let reached: f64 = kept.iter().map(|(_, w)| f64::from(*w)).sum();
            let last = f64::from(kept[kept.len() - 1].1);
            prop_assert!(reached >= f64::from(share) * total - 1e-4);
            prop_assert!(reached - last < f64::from(share) * total + 1e-4);
            prop_assert_eq!(&kept, &largest(&weights, kept.len()));
        }
    }
}
