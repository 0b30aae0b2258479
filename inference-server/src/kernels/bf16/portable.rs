//! What the instructions compute, in plain Rust: the sums of products of even and of odd inputs,
//! added block by block.

use super::blocks::{ACROSS, Block, DEPTH, SIDE};
use super::product::Sums;
use super::widen;

/// `sums` = activations · weights for the groups of rows in `x`; see [`Sums`].
pub(super) fn sum(x: &[&[Block]], weights: &[Block], sums: &mut Sums) {
    for (row, line) in sums.0[..x.len() * SIDE].iter_mut().enumerate() {
        line.fill(0.0);
        for (activations, weights) in x[row / SIDE].iter().zip(weights.chunks_exact(ACROSS)) {
            let inputs = &activations.0[row % SIDE * DEPTH..][..DEPTH];
            for (column, sum) in line.iter_mut().enumerate() {
                *sum += dot(inputs, &weights[column / SIDE], column % SIDE);
            }
        }
    }
}

fn dot(inputs: &[u16], weights: &Block, output: usize) -> f32 {
    let mut halves = [0.0f32; 2];
    for (pair, line) in inputs.as_chunks::<2>().0.iter().zip(weights.0.as_chunks::<DEPTH>().0) {
        for (odd, half) in halves.iter_mut().enumerate() {
            *half += widen(pair[odd]) * widen(line[output * 2 + odd]);
        }
    }
    halves[0] + halves[1]
}
