//! What the instructions compute, in plain Rust: the reference of `amx` and `avx512`.
//!
//! As in the hardware, a tile's products of even and of odd inputs are summed apart, and the sums
//! are added tile by tile.

use super::convert::widen;
use super::tile::{PANEL_TILES, PanelSums, TILE_DEPTH, TILE_ROWS, TileData};

/// `sums` = activations · weights for the groups of rows in `x`; see [`PanelSums`].
pub(super) fn sum(x: &[&[TileData]], weights: &[TileData], sums: &mut PanelSums) {
    for (row, line) in sums.0[..x.len() * TILE_ROWS].iter_mut().enumerate() {
        line.fill(0.0);
        for (activations, weights) in x[row / TILE_ROWS].iter().zip(weights.chunks_exact(PANEL_TILES)) {
            let inputs = &activations.0[row % TILE_ROWS * TILE_DEPTH..][..TILE_DEPTH];
            for (column, sum) in line.iter_mut().enumerate() {
                *sum += dot(inputs, &weights[column / TILE_ROWS], column % TILE_ROWS);
            }
        }
    }
}

/// Products of a row of activations with the weights of one output, over the inputs of a tile.
fn dot(inputs: &[u16], weights: &TileData, output: usize) -> f32 {
    // Summed apart as the hardware does, so that tests can compare to the last few bits.
    let mut halves = [0.0f32; 2];
    for (pair, line) in inputs.as_chunks::<2>().0.iter().zip(weights.0.as_chunks::<TILE_DEPTH>().0) {
        for (odd, half) in halves.iter_mut().enumerate() {
            *half += widen(pair[odd]) * widen(line[output * 2 + odd]);
        }
    }
    halves[0] + halves[1]
}
