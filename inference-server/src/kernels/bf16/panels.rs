//! Weights of a linear layer as bf16, packed into panels of AMX tiles.
//!
//! The layout is the same for all instruction sets; see [`TileData`].

use super::convert::narrow;
use super::tile::{PANEL_TILES, TILE_DEPTH, TILE_ROWS, TileData};
use crate::kernels::matrix::PANEL;

/// Weights and bias of a linear layer, packed as bf16 in half the memory of f32.
///
/// Panel by panel, then tile by tile along the inputs, the tiles of a panel side by side. What
/// fills up the last tiles is zero.
#[derive(Debug)]
pub(crate) struct Panels {
    tiles: Vec<TileData>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Zero weights of a layer from `inputs` to `outputs`.
    ///
    /// # Panics
    /// If the size overflows.
    pub(crate) fn zeros(inputs: usize, outputs: usize) -> Self {
        let columns = outputs.checked_next_multiple_of(PANEL);
        let steps = columns.and_then(|columns| columns.checked_mul(inputs.div_ceil(TILE_DEPTH)));
        let (Some(columns), Some(steps)) = (columns, steps) else {
            panic!("a layer of {inputs} inputs and {outputs} outputs exceeds the address space");
        };
        Self { tiles: vec![TileData::ZERO; steps / TILE_ROWS], bias: vec![0.0; columns], inputs, outputs }
    }

    /// Packs rows of W (outputs × inputs, row-major) and their biases from output `first` on.
    pub(crate) fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        let inputs = self.inputs;
        assert_eq!(weight.len(), bias.len() * inputs, "weights are outputs × inputs");
        self.bias[first..first + bias.len()].copy_from_slice(bias);
        let depth = self.depth_tiles();
        for (output, row) in (first..).zip(weight.chunks_exact(inputs)) {
            let (panel, across) = (output / PANEL, output % PANEL / TILE_ROWS);
            for (index, part) in row.chunks(TILE_DEPTH).enumerate() {
                let tile = &mut self.tiles[(panel * depth + index) * PANEL_TILES + across];
                for (input, weight) in part.iter().enumerate() {
                    tile.0[TileData::weight(input, output % TILE_ROWS)] = narrow(*weight);
                }
            }
        }
    }

    /// Length of an input row.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of an output row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of tiles along an input row.
    fn depth_tiles(&self) -> usize {
        self.inputs.div_ceil(TILE_DEPTH)
    }

    /// Number of panels.
    pub(super) fn count(&self) -> usize {
        self.bias.len() / PANEL
    }

    /// The tiles of a panel: for each step along the inputs, those of its outputs.
    pub(super) fn panel(&self, index: usize) -> &[TileData] {
        let tiles = self.depth_tiles() * PANEL_TILES;
        &self.tiles[index * tiles..][..tiles]
    }

    /// The biases of a panel.
    pub(super) fn bias(&self, panel: usize) -> &[f32; PANEL] {
        self.bias[panel * PANEL..].first_chunk().expect("a bias for whole panels")
    }
}
