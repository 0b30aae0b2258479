//! The kernel in plain Rust: the reference of the others on every machine.
//!
//! It rounds where they do, with `mul_add` even if that is a call of the C library, so its results
//! are theirs bit for bit.

use super::geometry::{BLOCK_QUADS, QUAD, QUAD_BYTES};
use super::tile::Tile;
use crate::kernels::matrix::STRIP;

/// Scales of the weights in each block: 2 in Q6_K, 1 otherwise.
fn groups(tile: &Tile<'_>) -> usize {
    tile.scales.len() / (tile.quants.len() / BLOCK_QUADS)
}

/// Sums a tile; see [`Tile`].
pub(super) fn sum(tile: &Tile<'_>) {
    let groups = groups(tile);
    let has_minima = tile.format.has_minima();
    for (row, chunk) in tile.rows.iter().enumerate() {
        let mut sums = tile.start(row);
        for (index, lines) in tile.quants.chunks_exact(BLOCK_QUADS / groups).enumerate() {
            let block = index / groups;
            let negated =
                if groups == 1 { chunk.negated_sums[index] } else { chunk.negated_half_sums[index] };
            let quads = &chunk.bytes.as_chunks::<QUAD>().0[index * lines.len()..];
            let start = if has_minima { 0 } else { negated << tile.format.offset_shift() };
            let totals = totals(lines, quads, start);
            for (lane, sum) in sums.iter_mut().enumerate() {
                let scale = tile.scales[index][lane] * chunk.scales[block];
                // Exact so far: integer sums of a block stay below 2²⁴.
                *sum = (totals[lane] as f32).mul_add(scale, *sum);
                if has_minima {
                    *sum = (-tile.minima[block][lane]).mul_add(chunk.scaled_sums[block], *sum);
                }
            }
        }
        tile.store(row, &sums);
    }
}

/// Adds the products of some quads to `start`, for each output.
fn totals(lines: &[[u8; QUAD_BYTES]], quads: &[[i8; QUAD]], start: i32) -> [i32; STRIP] {
    let mut totals = [start; STRIP];
    for (line, quad) in lines.iter().zip(quads) {
        for (total, weights) in totals.iter_mut().zip(line.as_chunks::<QUAD>().0) {
            for (weight, x) in weights.iter().zip(quad) {
                *total += i32::from(*weight) * i32::from(*x);
            }
        }
    }
    totals
}
