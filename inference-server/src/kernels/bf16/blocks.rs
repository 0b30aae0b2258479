//! Operands in blocks of a kibibyte, one for each tile register.

use super::super::isa::{Isa, by_isa};
use super::super::matrix::{Matrix, PANEL};
use super::super::parallel;
use super::narrow;
#[cfg(test)]
use super::widen;

/// Rows of a block of activations, and columns of one of weights.
pub(super) const SIDE: usize = 16;
/// Length of the sums that a block covers.
pub(super) const DEPTH: usize = 32;
/// Blocks of weights side by side in a panel.
pub(super) const ACROSS: usize = PANEL / SIDE;

/// [`SIDE`] lines of 64 bytes.
///
/// Of activations: a line for each row, [`DEPTH`] columns long. Of weights: a line for each pair of
/// inputs, which holds the pair's weights for one output after the other.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block(pub(super) [u16; Block::NUMBERS]);

impl Block {
    pub(super) const NUMBERS: usize = SIDE * DEPTH;
    const ZERO: Self = Self([0; Self::NUMBERS]);

    /// Place of the weight from this input to this output, both counted within the block.
    fn weight(input: usize, output: usize) -> usize {
        input / 2 * DEPTH + output * 2 + input % 2
    }
}

/// Activations as bf16; a buffer that is reused between forward passes.
///
/// `SIDE` rows at a time lie block by block along their columns. Rows and columns that fill up the
/// last blocks hold no meaning and zeros.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    blocks: Vec<Block>,
    rows: usize,
    width: usize,
}

impl Rows {
    /// Changes the shape; what the rows hold afterwards is unspecified, but the columns that fill
    /// up are zero.
    pub(super) fn resize(&mut self, rows: usize, width: usize) {
        (self.rows, self.width) = (rows, width);
        let wanted = self.groups() * self.deep();
        // Zeros have to stand where an earlier width may have put other columns.
        if !width.is_multiple_of(DEPTH) {
            self.blocks.clear();
        }
        if self.blocks.len() < wanted {
            self.blocks.resize(wanted, Block::ZERO);
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns with meaning.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Groups of [`SIDE`] rows.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(SIDE)
    }

    /// Blocks along a row.
    pub(super) fn deep(&self) -> usize {
        self.width.div_ceil(DEPTH)
    }

    /// The blocks of one group of rows.
    pub(super) fn group(&self, index: usize) -> &[Block] {
        &self.blocks[index * self.deep()..][..self.deep()]
    }

    pub(super) fn blocks_mut(&mut self) -> &mut [Block] {
        let used = self.groups() * self.deep();
        &mut self.blocks[..used]
    }

    /// One row as f32.
    #[cfg(test)]
    pub(crate) fn row(&self, index: usize) -> Vec<f32> {
        let line = |block: &Block| block.0[index % SIDE * DEPTH..][..DEPTH].to_vec();
        self.group(index / SIDE).iter().flat_map(line).take(self.width).map(widen).collect()
    }
}

/// Narrows every row of `x` into `out`, on the threads of the current pool.
pub(crate) fn narrow_rows(isa: Isa, x: &Matrix, out: &mut Rows) {
    out.resize(x.rows(), x.width());
    let deep = out.deep();
    parallel::each_chunk(out.blocks_mut(), deep, |group, blocks| {
        by_isa!(isa, narrow_group(x: &Matrix = x, first: usize = group * SIDE, blocks: &mut [Block] = blocks));
    });
}

#[inline(always)]
fn narrow_group<const FMA: bool>(x: &Matrix, first: usize, blocks: &mut [Block]) {
    for row in first..x.rows().min(first + SIDE) {
        let at = (row - first) * DEPTH;
        for (part, block) in x.row(row).chunks(DEPTH).zip(&mut *blocks) {
            let line = &mut block.0[at..at + DEPTH];
            match (part.first_chunk::<DEPTH>(), line.first_chunk_mut::<DEPTH>()) {
                (Some(part), Some(line)) => narrow_line::<FMA>(part, line),
                _ => line.iter_mut().zip(part).for_each(|(to, from)| *to = narrow(*from)),
            }
        }
    }
}

/// Narrows as many numbers as a line holds. The parameter is that of all bodies of [`by_isa`].
#[inline(always)]
pub(super) fn narrow_line<const FMA: bool>(values: &[f32; DEPTH], line: &mut [u16; DEPTH]) {
    for (to, from) in line.iter_mut().zip(values) {
        *to = narrow(*from);
    }
}

/// The weights and bias of a linear layer as bf16, half the memory of f32.
///
/// Panel by panel, then block by block along the inputs, the blocks of a panel side by side; what
/// fills up is zero.
#[derive(Debug)]
pub(crate) struct Panels {
    blocks: Vec<Block>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Zero weights of a layer from `inputs` to `outputs`.
    ///
    /// # Panics
    /// When the size overflows.
    pub(crate) fn zeros(inputs: usize, outputs: usize) -> Self {
        let columns = outputs.checked_next_multiple_of(PANEL);
        let steps = columns.and_then(|columns| columns.checked_mul(inputs.div_ceil(DEPTH)));
        let (Some(columns), Some(steps)) = (columns, steps) else {
            panic!("a layer from {inputs} to {outputs} fits into no memory");
        };
        let blocks = steps / SIDE;
        Self { blocks: vec![Block::ZERO; blocks], bias: vec![0.0; columns], inputs, outputs }
    }

    /// Packs the rows of W (one for each output, row-major) and their biases from output `first`
    /// on.
    pub(crate) fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        let inputs = self.inputs;
        assert_eq!(weight.len(), bias.len() * inputs, "weights are outputs × inputs");
        self.bias[first..first + bias.len()].copy_from_slice(bias);
        let deep = self.deep();
        for (output, row) in (first..).zip(weight.chunks_exact(inputs)) {
            let (panel, across) = (output / PANEL, output % PANEL / SIDE);
            for (index, part) in row.chunks(DEPTH).enumerate() {
                let block = &mut self.blocks[(panel * deep + index) * ACROSS + across];
                for (input, weight) in part.iter().enumerate() {
                    block.0[Block::weight(input, output % SIDE)] = narrow(*weight);
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

    /// Blocks along an input row.
    pub(super) fn deep(&self) -> usize {
        self.inputs.div_ceil(DEPTH)
    }

    pub(super) fn count(&self) -> usize {
        self.bias.len() / PANEL
    }

    pub(super) fn panel(&self, index: usize) -> &[Block] {
        let blocks = self.deep() * ACROSS;
        &self.blocks[index * blocks..][..blocks]
    }

    pub(super) fn bias(&self, panel: usize) -> &[f32; PANEL] {
        self.bias[panel * PANEL..].first_chunk().expect("a bias for whole panels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_narrowed() {
        let mut rows = Rows::default();
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
                assert!(
                    last.0
                        .chunks(DEPTH)
                        .all(|line| width.is_multiple_of(DEPTH)
                            || line[width % DEPTH..].iter().all(|x| *x == 0))
                );
            }
        }
    }
}
