//! Quantised weights repacked for the kernels of a GPU, in tiles of 16 outputs and 32 inputs; see
//! `cuda/product.cu`.
//!
//! A tile is the weights of two `mma.m16n8k16`, one for each half of its inputs. A lane of a warp
//! finds its integers of both in one load.

use anyhow::{Result, bail, ensure};
use half::f16;

use super::decode::{self, BlockScales};
use super::format::Format;
use super::geometry::{BLOCK, CHUNK};

/// Outputs of a tile, M of `mma.m16n8k16`.
pub(crate) const TILE_OUTPUTS: usize = 16;
/// Threads of a warp, which share a tile.
const LANES: usize = 32;
/// Inputs of a lane in each half of a tile: 16 inputs, shared by the 4 lanes of an output.
const RUN: usize = 4;

/// Meaning of the second scale of an output, as `SECOND` of `cuda/product.cu` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SecondScale {
    /// Unused.
    None = 0,
    /// The minimum, which is subtracted from every weight.
    Minimum = 1,
    /// The scale of the last 16 inputs (Q6_K).
    Half = 2,
}

/// Layout of the integers of a tile: what `cuda/product.cu` is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct IntLayout {
    /// Bits of each, 4 or 8.
    pub bits: usize,
    /// Meaning of the second scale.
    pub second: SecondScale,
    /// Offset, which is subtracted from each integer.
    pub offset: u8,
}

impl IntLayout {
    /// The layout for a format; `None` if it is not quantised. Integers of 5 and 6 bits take 8.
    pub(crate) fn of(format: Format) -> Option<Self> {
        let bits = match format {
            Format::F32 | Format::F16 | Format::Bf16 => return None,
            Format::Q4_0 | Format::Q4_1 | Format::Q4K => 4,
            _ => 8,
        };
        let second = match format {
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => SecondScale::Minimum,
            Format::Q6K => SecondScale::Half,
            _ => SecondScale::None,
        };
        Some(Self { bits, second, offset: format.offset() })
    }
}

/// Weights of a layer in tiles, first along the inputs, then along the outputs.
#[derive(Debug, Default)]
pub(crate) struct GpuTiles {
    /// Integers, in the order in which the lanes of a warp load them.
    pub codes: Vec<u8>,
    /// A word for each output of a tile: the scale as f16, and the second scale in the upper half.
    pub scales: Vec<u32>,
}

/// Packs rows of a file into tiles. `rows` names the row of the file of each output, in order.
///
/// Scales are those of the file, but in the K formats products of an f16 and an integer, rounded to
/// f16.
///
/// # Errors
/// If the format is not quantised, a row is no whole number of blocks, or a scale is not finite.
pub(crate) fn pack_gpu_tiles(
    format: Format,
    inputs: usize,
    bytes: &[u8],
    rows: &[usize],
) -> Result<GpuTiles> {
    let Some(layout) = IntLayout::of(format) else { bail!("{} is not a quantised format", format.name()) };
    let (row_bytes, across) = (format.row_bytes(inputs)?, inputs / BLOCK);
    let count = rows.len().div_ceil(TILE_OUTPUTS) * across;
    let tile_bytes = TILE_OUTPUTS * BLOCK * layout.bits / 8;
    let mut tiles = GpuTiles { codes: vec![0; count * tile_bytes], scales: vec![0; count * TILE_OUTPUTS] };
    let mut row = Vec::new();
    for (output, index) in rows.iter().enumerate() {
        read(format, &bytes[index * row_bytes..][..row_bytes], &mut row)?;
        for (block, (codes, word)) in row.iter().enumerate() {
            let (tile, place) = (output / TILE_OUTPUTS * across + block, output % TILE_OUTPUTS);
            tiles.scales[tile * TILE_OUTPUTS + place] = *word;
            // In the order of the fragments of `mma.m16n8k16`, so that no lane has to shuffle.
            let target = &mut tiles.codes[tile * tile_bytes..][..tile_bytes];
            for (input, code) in codes.iter().enumerate() {
                let (half, lane) = (input / (BLOCK / 2), place % 8 * RUN + input % (BLOCK / 2) / RUN);
                let at = (place / 8 * 2 + half) * RUN + input % RUN;
                let bit = (lane * tile_bytes / LANES) * 8 + at * layout.bits;
                target[bit / 8] |= code << (bit % 8);
            }
        }
    }
    Ok(tiles)
}

/// Reads the integers of a row and its scales, 32 inputs at a time.
fn read(format: Format, bytes: &[u8], row: &mut Vec<([u8; BLOCK], u32)>) -> Result<()> {
    row.clear();
    for block in bytes.chunks_exact(format.block_bytes()) {
        let mut integers = [0; CHUNK];
        let length = format.block_length();
        decode::integers(format, block, &mut integers[..length]);
        let scales = decode::scales(format, block);
        for (index, codes) in integers[..length].as_chunks::<BLOCK>().0.iter().enumerate() {
            row.push((*codes, word(format, &scales, index * BLOCK)?));
        }
    }
    Ok(())
}

/// The two scales of 32 weights from index `at` of a block on.
fn word(format: Format, scales: &BlockScales, at: usize) -> Result<u32> {
    let (scale, minimum) = scales.at(format, at);
    let second = match IntLayout::of(format).map(|layout| layout.second) {
        Some(SecondScale::Half) => scales.at(format, at + BLOCK / 2).0,
        _ => minimum,
    };
    let [scale, second] = [scale, second].map(f16::from_f32);
    ensure!(scale.is_finite() && second.is_finite(), "a scale is not finite");
    Ok(u32::from(scale.to_bits()) | u32::from(second.to_bits()) << 16)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{formats, inputs, weights};
    use super::*;

    /// A weight of a tile, read as `cuda/product.cu` does.
    fn weight(layout: IntLayout, tiles: &GpuTiles, across: usize, output: usize, input: usize) -> f32 {
        let tile = output / TILE_OUTPUTS * across + input / BLOCK;
        let (place, input) = (output % TILE_OUTPUTS, input % BLOCK);
        let word = tiles.scales[tile * TILE_OUTPUTS + place];
        let [scale, second] = [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32());
        let (half, lane) = (input / 16, place % 8 * 4 + input % 16 / 4);
        let codes = &tiles.codes[tile * 64 * layout.bits + lane * 2 * layout.bits..];
        let at = place / 8 * 8 + half * 4 + input % 4;
        let code = if layout.bits == 4 { codes[at / 2] >> (at % 2 * 4) & 15 } else { codes[at] };
        let code = f32::from(code) - f32::from(layout.offset);
        match layout.second {
            SecondScale::None => code * scale,
            SecondScale::Minimum => code * scale - second,
            SecondScale::Half => code * if half == 0 { scale } else { second },
        }
    }

    #[test]
    fn tiles_hold_the_weights_of_the_file() {
        for format in formats() {
            let (layout, inputs) = (IntLayout::of(format).unwrap(), inputs(format));
            let (bytes, expected) = weights(format, inputs, 21, 3);
            let rows: Vec<usize> = (0..21).map(|index| (index * 5) % 21).collect();
            let tiles = pack_gpu_tiles(format, inputs, &bytes, &rows).unwrap();
            for (output, row) in rows.iter().enumerate() {
                for (input, expected) in expected[*row].iter().enumerate() {
                    let got = weight(layout, &tiles, inputs / BLOCK, output, input);
                    let near = (got - expected).abs() <= 2e-3;
                    assert!(near, "{format:?} {output} {input}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_laid_out_is_said() {
        let error = |format, bytes: &[u8]| pack_gpu_tiles(format, 32, bytes, &[0]).unwrap_err().to_string();
        assert_eq!(error(Format::F16, &[0; 64]), "F16 is not a quantised format");
        assert_eq!(
            error(Format::Q4K, &[0; 144]),
            "row length 32 is not a multiple of the Q4_K block size 256"
        );
        let mut block = [0; 34];
        block[..2].copy_from_slice(&f16::INFINITY.to_bits().to_le_bytes());
        assert_eq!(error(Format::Q8_0, &block), "a scale is not finite");
    }
}
