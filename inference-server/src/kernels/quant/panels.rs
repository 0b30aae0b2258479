//! Quantised weights repacked for the CPU's kernels, 16 outputs side by side.
//!
//! Integers and scales are those of the file, so dequantised rows are bit for bit those of the
//! file.

use anyhow::{Result, bail, ensure};

use super::decode::{self, BlockScales};
use super::format::Format;
use super::geometry::{BLOCK, BLOCK_QUADS, CHUNK, CHUNK_BLOCKS, QUAD, QUAD_BYTES};
use super::unpack::{ChunkLayout, UnpackedChunk};
use crate::kernels::huge_pages::WeightBuffer;
use crate::kernels::matrix::{CacheLine, PANEL, STRIP};
use crate::kernels::parallel;

/// Weights and bias of a linear layer in one of the quantised formats, packed.
///
/// Strip by strip of 16 outputs, then chunk by chunk of 256 inputs, see [`ChunkLayout`]. They take
/// at most 1.03 times their bytes in the file if the outputs are whole strips.
#[derive(Debug)]
pub(crate) struct Panels {
    lines: WeightBuffer,
    bias: Vec<f32>,
    format: Format,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Zero weights of a layer from `inputs` to `outputs`.
    ///
    /// # Errors
    /// If the format is not quantised, an input row is no whole number of blocks, or the size is
    /// zero or overflows.
    fn zeros(format: Format, inputs: usize, outputs: usize) -> Result<Self> {
        ensure!(format.is_quantised(), "{} is not a quantised format", format.name());
        format.row_bytes(inputs)?;
        ensure!(inputs > 0 && outputs > 0, "a layer of {inputs} inputs and {outputs} outputs has no weights");
        let columns = outputs.checked_next_multiple_of(PANEL);
        let bytes = outputs.div_ceil(STRIP).checked_mul(strip_bytes(format, inputs));
        let (Some(columns), Some(bytes)) = (columns, bytes) else {
            bail!("a layer of {inputs} inputs and {outputs} outputs exceeds the address space");
        };
        let lines = WeightBuffer::zeros(bytes);
        Ok(Self { lines, bias: vec![0.0; columns], format, inputs, outputs })
    }

    /// Packs a whole layer from the rows of a file, one for each output.
    ///
    /// # Errors
    /// If the format is not quantised, an input row is no whole number of blocks, `bytes` are not
    /// as many rows as there are outputs, or a scale is not finite.
    pub(crate) fn of(
        format: Format,
        inputs: usize,
        outputs: usize,
        bytes: &[u8],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let mut panels = Self::zeros(format, inputs, outputs)?;
        let wanted = panels.row_bytes() * outputs;
        ensure!(bytes.len() == wanted, "has {} bytes, expected {wanted}", bytes.len());
        panels.pack(0, bytes, bias)?;
        Ok(panels)
    }

    /// Packs rows of a file and their biases from output `first` on.
    ///
    /// # Errors
    /// If `bytes` are no whole rows, there are more rows than outputs, or a scale is not finite.
    fn pack(&mut self, first: usize, bytes: &[u8], bias: Option<&[f32]>) -> Result<()> {
        let (format, row_bytes) = (self.format, self.row_bytes());
        let count = bytes.len() / row_bytes;
        ensure!(
            bytes.len().is_multiple_of(row_bytes),
            "{} bytes are not a multiple of the row size {row_bytes}",
            bytes.len()
        );
        ensure!(
            first + count <= self.outputs,
            "{count} rows from output {first} on exceed {} outputs",
            self.outputs
        );
        if let Some(bias) = bias {
            ensure!(bias.len() == count, "{} biases for {count} outputs", bias.len());
            self.bias[first..first + count].copy_from_slice(bias);
        }
        // Checked once here, so that kernels may convert f16 without looking at infinities.
        let mut rows = bytes.chunks_exact(row_bytes);
        let broken = rows.position(|row| !row.chunks_exact(format.block_bytes()).all(finite(format)));
        ensure!(broken.is_none(), "a scale of output {} is not finite", first + broken.unwrap_or_default());
        if count == 0 {
            return Ok(());
        }
        let (strip_bytes, inputs) = (self.strip_bytes(), self.inputs);
        let strips = first / STRIP..(first + count).div_ceil(STRIP);
        let data =
            &mut CacheLine::bytes_mut(&mut self.lines)[strips.start * strip_bytes..strips.end * strip_bytes];
        // Strips and not rows: 16 rows share the bytes of a strip, which one thread must write.
        parallel::each_chunk(data, strip_bytes, |index, strip| {
            let start = (strips.start + index) * STRIP;
            for output in start.max(first)..(start + STRIP).min(first + count) {
                let row = &bytes[(output - first) * row_bytes..][..row_bytes];
                pack_row(format, inputs, row, &mut Lane { strip, lane: output - start });
            }
        });
        Ok(())
    }

    /// Dequantises the weights of one output, to the same bits as [`Format::dequantise`].
    ///
    /// # Panics
    /// If there is no such output, or `out` is not as long as an input row.
    pub(crate) fn dequantise_row(&self, output: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.inputs, "inputs of the layer");
        assert!(output < self.outputs, "output {output} of {}", self.outputs);
        let (strip, lane) = (output / STRIP, output % STRIP);
        let mut chunk = UnpackedChunk::default();
        for (index, out) in out.chunks_mut(CHUNK).enumerate() {
            let (bytes, layout) = self.chunk(strip, index);
            chunk.unpack(self.format, bytes, layout);
            chunk.dequantise(self.format, lane, out);
        }
    }

    /// Format of the weights.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Length of an input row.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of an output row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<CacheLine>()
    }

    /// Number of strips of outputs; the last may not be full.
    pub(super) fn strips(&self) -> usize {
        self.outputs.div_ceil(STRIP)
    }

    /// Number of chunks of an input row; the last may not be full.
    pub(super) fn chunks(&self) -> usize {
        self.inputs.div_ceil(CHUNK)
    }

    /// A packed chunk of a strip, and where things are in it.
    #[inline]
    pub(super) fn chunk(&self, strip: usize, index: usize) -> (&[u8], ChunkLayout) {
        let blocks = (self.inputs / BLOCK - index * CHUNK_BLOCKS).min(CHUNK_BLOCKS);
        let layout = ChunkLayout::new(self.format, blocks);
        let before = index * ChunkLayout::new(self.format, CHUNK_BLOCKS).bytes();
        let start = strip * self.strip_bytes() + before;
        (&CacheLine::bytes(&self.lines)[start..start + layout.bytes()], layout)
    }

    /// The biases of a strip.
    pub(super) fn bias(&self, strip: usize) -> &[f32; STRIP] {
        self.bias[strip * STRIP..].first_chunk().expect("a bias for whole strips")
    }

    fn row_bytes(&self) -> usize {
        self.inputs / self.format.block_length() * self.format.block_bytes()
    }

    fn strip_bytes(&self) -> usize {
        strip_bytes(self.format, self.inputs)
    }
}

fn strip_bytes(format: Format, inputs: usize) -> usize {
    let blocks = inputs / BLOCK;
    let full = blocks / CHUNK_BLOCKS * ChunkLayout::new(format, CHUNK_BLOCKS).bytes();
    let rest = blocks % CHUNK_BLOCKS;
    let rest = if rest == 0 { 0 } else { ChunkLayout::new(format, rest).bytes() };
    (full + rest).next_multiple_of(size_of::<CacheLine>())
}

/// Returns a test for blocks whose f16 factors are finite.
fn finite(format: Format) -> impl Fn(&[u8]) -> bool {
    move |block| {
        let BlockScales { factor, minimum, .. } = decode::scales(format, block);
        decode::is_finite(factor) && decode::is_finite(minimum)
    }
}

/// A block of a chunk that begins at byte `start` of a strip.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    block: usize,
    layout: ChunkLayout,
}

/// One output's share of a strip.
struct Lane<'a> {
    strip: &'a mut [u8],
    lane: usize,
}

impl Lane<'_> {
    fn put_word(&mut self, at: usize, index: usize, word: u16) {
        let at = at + (index * STRIP + self.lane) * 2;
        self.strip[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }

    fn put_bytes(&mut self, at: usize, values: &[u8]) {
        for (index, value) in values.iter().enumerate() {
            self.strip[at + index * STRIP + self.lane] = *value;
        }
    }

    /// Writes the scales of a file's block.
    fn put_scales(&mut self, format: Format, Place { start, block, layout }: Place, scales: &BlockScales) {
        let words = STRIP * 2;
        match format {
            Format::Q4_1 | Format::Q5_1 => {
                self.put_word(start, block, scales.factor);
                self.put_word(start + layout.blocks * words, block, scales.minimum);
            }
            Format::Q4K | Format::Q5K => {
                self.put_word(start, 0, scales.factor);
                self.put_word(start, 1, scales.minimum);
                self.put_bytes(start + 2 * words, &scales.factors[..CHUNK_BLOCKS]);
                self.put_bytes(start + 2 * words + CHUNK_BLOCKS * STRIP, &scales.minima);
            }
            Format::Q6K => {
                self.put_word(start, 0, scales.factor);
                self.put_bytes(start + words, &scales.factors);
            }
            _ => self.put_word(start, block, scales.factor),
        }
    }

    /// Writes the integers of 32 inputs.
    fn put_integers(&mut self, Place { start, block, layout }: Place, integers: &[u8]) {
        let (low, high) = (start + layout.low(block).start, start + layout.high(block).start);
        for (input, value) in integers.iter().enumerate() {
            let (quad, place) = (input / QUAD, self.lane * QUAD + input % QUAD);
            if layout.low == BLOCK_QUADS * QUAD_BYTES {
                self.strip[low + quad * QUAD_BYTES + place] = *value;
                continue;
            }
            self.strip[low + quad % 4 * QUAD_BYTES + place] |= (value & 15) << (quad / 4 * 4);
            if layout.high == QUAD_BYTES {
                self.strip[high + place] |= (value >> 4) << quad;
            } else if layout.high > 0 {
                self.strip[high + quad / 4 * QUAD_BYTES + place] |= (value >> 4) << (quad % 4 * 2);
            }
        }
    }

    /// Clears the integers of a block, which `put_integers` puts together from bits.
    fn clear(&mut self, Place { start, block, layout }: Place) {
        let (low, high) = (layout.low(block), layout.high(block));
        for line in (low.step_by(QUAD_BYTES)).chain(high.step_by(QUAD_BYTES)) {
            self.strip[start + line + self.lane * QUAD..][..QUAD].fill(0);
        }
    }
}

/// Packs a row of a file into a lane.
fn pack_row(format: Format, inputs: usize, row: &[u8], lane: &mut Lane<'_>) {
    let mut integers = [0; CHUNK];
    let integers = &mut integers[..format.block_length()];
    let (mut start, blocks) = (0, inputs / BLOCK);
    let per_chunk = CHUNK / format.block_length() * format.block_bytes();
    for (index, row) in row.chunks(per_chunk).enumerate() {
        let layout = ChunkLayout::new(format, (blocks - index * CHUNK_BLOCKS).min(CHUNK_BLOCKS));
        for (at, bytes) in row.chunks_exact(format.block_bytes()).enumerate() {
            lane.put_scales(format, Place { start, block: at, layout }, &decode::scales(format, bytes));
            decode::integers(format, bytes, integers);
            for (offset, integers) in integers.chunks_exact(BLOCK).enumerate() {
                let place = Place { start, block: at + offset, layout };
                lane.clear(place);
                lane.put_integers(place, integers);
            }
        }
        start += layout.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{formats, inputs, weights};
    use super::*;

    fn row(panels: &Panels, output: usize) -> Vec<f32> {
        let mut row = vec![0.0; panels.inputs()];
        panels.dequantise_row(output, &mut row);
        row
    }

    #[test]
    fn rows_come_back_as_candle_reads_them() {
        for format in formats() {
            let inputs = inputs(format);
            let (bytes, expected) = weights(format, inputs, 21, 1);
            let panels = Panels::of(format, inputs, 21, &bytes, None).unwrap();
            let mut all = vec![0.0; 21 * inputs];
            format.dequantise(&bytes, &mut all);
            for (output, expected) in expected.iter().enumerate() {
                assert_eq!(row(&panels, output), *expected, "{format:?} {output}");
                assert_eq!(all[output * inputs..][..inputs], *expected, "{format:?} {output}");
            }
        }
    }

    #[test]
    fn layers_lie_side_by_side() {
        for format in formats() {
            let inputs = inputs(format);
            let parts = [(5, 3), (21, 4), (6, 5)].map(|(count, seed)| weights(format, inputs, count, seed));
            let mut panels = Panels::zeros(format, inputs, 32).unwrap();
            // Twice, the second time over other weights.
            for shift in [1, 0] {
                let mut first = 0;
                for index in [0, 1, 2] {
                    let (bytes, rows) = &parts[(index + shift) % 3];
                    panels.pack(first, bytes, Some(&vec![index as f32; rows.len()])).unwrap();
                    first += rows.len();
                }
            }
            let expected = parts.iter().flat_map(|(_, rows)| rows);
            for (output, expected) in expected.enumerate() {
                assert_eq!(row(&panels, output), *expected, "{format:?} {output}");
            }
            assert_eq!(panels.bias(0)[..7], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        }
    }

    #[test]
    fn the_memory_is_that_of_the_file() {
        for (format, inputs, outputs) in formats().flat_map(|format| [(format, 512, 64), (format, 4864, 896)])
        {
            let panels = Panels::zeros(format, inputs, outputs).unwrap();
            let file = format.row_bytes(inputs).unwrap() * outputs;
            assert!(panels.bytes() as f64 <= 1.03 * file as f64, "{format:?}: {} of {file}", panels.bytes());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        fn check(result: Result<Panels>, expected: &str) {
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
        let broken = [0xFF; 34];
        check(Panels::zeros(Format::F16, 32, 1), "F16 is not a quantised format");
        check(
            Panels::zeros(Format::Q8_0, 40, 1),
            "row length 40 is not a multiple of the Q8_0 block size 32",
        );
        check(Panels::of(Format::Q8_0, 32, 2, &[0; 34], None), "has 34 bytes, expected 68");
        check(Panels::of(Format::Q8_0, 32, 1, &broken, None), "a scale of output 0 is not finite");
        check(Panels::of(Format::Q8_0, 32, 1, &[0; 34], Some(&[1.0, 2.0])), "2 biases for 1 outputs");
        let mut panels = Panels::zeros(Format::Q8_0, 32, 2).unwrap();
        let error = panels.pack(1, &[0; 68], None).unwrap_err().to_string();
        assert_eq!(error, "2 rows from output 1 on exceed 2 outputs");
    }
}
