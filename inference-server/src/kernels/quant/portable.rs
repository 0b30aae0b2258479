//! Plain Rust, which shows on every machine what the others compute.

use super::super::matrix::STRIP;
use super::decode::shift;
use super::product::Tile;
use super::unpack::has_minima;
use super::{LINE, QUAD, QUADS};

/// Quads that share a scale of the weights, and the offset of those.
fn groups(tile: &Tile<'_>) -> usize {
    tile.scales.len() / (tile.quants.len() / QUADS)
}

/// The sums of a tile; see [`Tile`].
pub(super) fn sum(tile: &Tile<'_>) {
    let groups = groups(tile);
    for (row, part) in tile.rows.iter().enumerate() {
        let mut sums = tile.start(row);
        for (index, lines) in tile.quants.chunks_exact(QUADS / groups).enumerate() {
            let block = index / groups;
            let taken = if groups == 1 { part.sums[index] } else { part.halves[index] };
            let quads = &part.bytes.as_chunks::<QUAD>().0[index * lines.len()..];
            let totals =
                totals(lines, quads, if has_minima(tile.format) { 0 } else { taken << shift(tile.format) });
            for (lane, sum) in sums.iter_mut().enumerate() {
                let scale = tile.scales[index][lane] * part.scales[block];
                *sum = (totals[lane] as f32).mul_add(scale, *sum);
                if has_minima(tile.format) {
                    *sum = (-tile.minima[block][lane]).mul_add(part.products[block], *sum);
                }
            }
        }
        tile.store(row, &sums);
    }
}

/// Sums of products for each output, from `start` on.
fn totals(lines: &[[u8; LINE]], quads: &[[i8; QUAD]], start: i32) -> [i32; STRIP] {
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
