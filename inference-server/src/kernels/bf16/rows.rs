//! Activations rounded to bf16 and laid out in AMX tiles.
//!
//! They are rounded once for all products that read them, on the threads of the pool.

use super::convert::narrow;
#[cfg(test)]
use super::convert::widen;
use super::tile::{TILE_DEPTH, TILE_ROWS, TileData};
use crate::kernels::isa::{Isa, by_isa};
use crate::kernels::matrix::Matrix;
use crate::kernels::parallel;

/// Activations as bf16; a buffer that is reused between forward passes.
///
/// Groups of [`TILE_ROWS`] rows are stored tile by tile along their columns. Surplus rows of the
/// last group are unspecified, surplus columns of the last tile zero.
#[derive(Debug, Default)]
pub(crate) struct Bf16Rows {
    tiles: Vec<TileData>,
    rows: usize,
    width: usize,
}

impl Bf16Rows {
    /// Changes the shape; rows are unspecified afterwards, but surplus columns are zero.
    pub(super) fn resize(&mut self, rows: usize, width: usize) {
        (self.rows, self.width) = (rows, width);
        let wanted = self.groups() * self.depth_tiles();
        // Surplus columns may hold what an earlier width put there. They meet zero weights, but
        // zero times infinity or NaN would reach the sums.
        if !width.is_multiple_of(TILE_DEPTH) {
            self.tiles.clear();
        }
        if self.tiles.len() < wanted {
            self.tiles.resize(wanted, TileData::ZERO);
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, without the surplus.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Number of groups of [`TILE_ROWS`] rows.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Number of tiles along a row.
    pub(super) fn depth_tiles(&self) -> usize {
        self.width.div_ceil(TILE_DEPTH)
    }

    /// The tiles of one group of rows.
    pub(super) fn group(&self, index: usize) -> &[TileData] {
        &self.tiles[index * self.depth_tiles()..][..self.depth_tiles()]
    }

    /// The tiles of all groups, group by group.
    pub(super) fn tiles_mut(&mut self) -> &mut [TileData] {
        let used = self.groups() * self.depth_tiles();
        &mut self.tiles[..used]
    }

    /// One row as f32.
    #[cfg(test)]
    pub(crate) fn row(&self, index: usize) -> Vec<f32> {
        let line = |tile: &TileData| tile.0[index % TILE_ROWS * TILE_DEPTH..][..TILE_DEPTH].to_vec();
        self.group(index / TILE_ROWS).iter().flat_map(line).take(self.width).map(widen).collect()
    }
}

/// Rounds every row of `x` to bf16, on the threads of the current pool.
pub(crate) fn narrow_rows(isa: Isa, x: &Matrix, out: &mut Bf16Rows) {
    out.resize(x.rows(), x.width());
    let depth = out.depth_tiles();
    parallel::each_chunk(out.tiles_mut(), depth, |group, tiles| {
        by_isa!(isa, narrow_group(x: &Matrix = x, first: usize = group * TILE_ROWS,
            tiles: &mut [TileData] = tiles));
    });
}

#[inline(always)]
fn narrow_group<const FMA: bool>(x: &Matrix, first: usize, tiles: &mut [TileData]) {
    for row in first..x.rows().min(first + TILE_ROWS) {
        let at = (row - first) * TILE_DEPTH;
        for (part, tile) in x.row(row).chunks(TILE_DEPTH).zip(&mut *tiles) {
            let line = &mut tile.0[at..at + TILE_DEPTH];
            match (part.first_chunk::<TILE_DEPTH>(), line.first_chunk_mut::<TILE_DEPTH>()) {
                (Some(part), Some(line)) => narrow_line::<FMA>(part, line),
                _ => line.iter_mut().zip(part).for_each(|(to, from)| *to = narrow(*from)),
            }
        }
    }
}

/// Rounds a line of numbers. `FMA` is there for [`by_isa`] only.
#[inline(always)]
pub(super) fn narrow_line<const FMA: bool>(values: &[f32; TILE_DEPTH], line: &mut [u16; TILE_DEPTH]) {
    for (to, from) in line.iter_mut().zip(values) {
        *to = narrow(*from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_narrowed() {
        let mut rows = Bf16Rows::default();
        for (count, width) in [(3, 40), (33, 64), (1, 7), (16, 32), (5, 40)] {
            let values: Vec<f32> = (0..count * width).map(|index| index as f32 * 0.37 - 9.0).collect();
            let x = Matrix::from_rows(&values, width);
            for isa in Isa::available() {
                narrow_rows(isa, &x, &mut rows);
                for row in 0..count {
                    let expected: Vec<f32> = x.row(row).iter().map(|x| widen(narrow(*x))).collect();
                    assert_eq!(rows.row(row), expected, "{isa:?} {count} {width} {row}");
                }
                let last = rows.group(0).last().unwrap();
                assert!(last.0.chunks(TILE_DEPTH).all(|line| width.is_multiple_of(TILE_DEPTH)
                    || line[width % TILE_DEPTH..].iter().all(|x| *x == 0)));
            }
        }
    }
}
