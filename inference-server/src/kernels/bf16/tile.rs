//! The layout of operands and sums: tiles of a kibibyte, one for each AMX tile register.
//!
//! The sizes are those of palette 1 of AMX: 16 rows of 64 bytes.

use crate::kernels::matrix::PANEL;

/// Rows of a tile of activations, and outputs of a tile of weights.
pub(super) const TILE_ROWS: usize = 16;
/// Inputs that a tile covers: 64 bytes of bf16.
pub(super) const TILE_DEPTH: usize = 32;
/// Tiles of weights side by side in a panel.
pub(super) const PANEL_TILES: usize = PANEL / TILE_ROWS;
/// Groups of [`TILE_ROWS`] rows whose sums are in registers together: with the tiles of a panel
/// four accumulators, which leaves four of the eight AMX registers for operands.
pub(super) const GROUPS_TOGETHER: usize = 2;

/// [`TILE_ROWS`] lines of 64 bytes.
///
/// For activations a line is a row, [`TILE_DEPTH`] columns long. For weights, in the VNNI
/// layout: a line for each pair of inputs, which holds the pair's weights for one output after the
/// other.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct TileData(pub(super) [u16; TileData::NUMBERS]);

impl TileData {
    /// Numbers of a tile.
    pub(super) const NUMBERS: usize = TILE_ROWS * TILE_DEPTH;
    /// A tile of zeros.
    pub(super) const ZERO: Self = Self([0; Self::NUMBERS]);

    /// Index of the weight from this input to this output, both counted within the tile.
    pub(super) fn weight(input: usize, output: usize) -> usize {
        input / 2 * TILE_DEPTH + output * 2 + input % 2
    }
}

/// Sums of [`GROUPS_TOGETHER`] groups of rows and one panel, row by row.
#[repr(C, align(64))]
pub(super) struct PanelSums(pub(super) [[f32; PANEL]; GROUPS_TOGETHER * TILE_ROWS]);
