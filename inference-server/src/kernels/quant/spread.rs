//! Weights re-laid out for the kernels of a GPU, in tiles of 16 outputs and 32 inputs; see
//! `cuda/product.cu`.

use anyhow::{Result, ensure};
use half::f16;

use super::decode::{self, Scales};
use super::format::Format;
use super::{BLOCK, CHUNK};

/// Outputs of a tile.
pub(crate) const TILE_OUTPUTS: usize = 16;
/// Threads that share a tile.
const LANES: usize = 32;
/// Inputs of a lane in each half of a tile.
const RUN: usize = 4;

/// What the second scale of a tile's output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Second {
    /// Nothing.
    None = 0,
    /// What is taken off from every weight.
    Minimum = 1,
    /// The scale of the last 16 inputs.
    Half = 2,
}

/// How the integers of a tile are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Grain {
    /// Bits of each, 4 or 8.
    pub bits: usize,
    /// What the second scale is.
    pub second: Second,
    /// What is taken from each integer.
    pub offset: u8,
}

impl Grain {
    /// How the integers of a format are held; none where it has no integers.
    ///
    /// Integers of 5 and 6 bits take 8.
    pub(crate) fn of(format: Format) -> Option<Self> {
        let bits = match format {
            Format::F32 | Format::F16 | Format::Bf16 => return None,
            Format::Q4_0 | Format::Q4_1 | Format::Q4K => 4,
            _ => 8,
        };
        let second = match format {
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => Second::Minimum,
            Format::Q6K => Second::Half,
            _ => Second::None,
        };
        Some(Self { bits, second, offset: decode::offset(format) })
    }
}

/// A layer's weights in tiles, output by output and input by input.
#[derive(Debug, Default)]
pub(crate) struct Tiles {
    /// Integers, in the order in which the lanes of a warp take them.
    pub codes: Vec<u8>,
    /// A word for each output of a tile: the scale, and in the upper half the second scale, both as
    /// halves.
    pub scales: Vec<u32>,
}

/// The tiles of rows as they lie in a file; `rows` says which of them is an output, in the outputs'
/// order.
///
/// Scales of the formats that have only one factor are those of the file. Of the K formats they are
/// products of a half and an integer, rounded to a half.
///
/// # Errors
/// If the format has no integers, rows are not whole tiles, or a scale is not finite.
pub(crate) fn tiles(format: Format, inputs: usize, bytes: &[u8], rows: &[usize]) -> Result<Tiles> {
    let Some(grain) = Grain::of(format) else {
        anyhow::bail!("{} has no blocks of integers to multiply by", format.name())
    };
    let (row_bytes, across) = (format.row_bytes(inputs)?, inputs / BLOCK);
    let count = rows.len().div_ceil(TILE_OUTPUTS) * across;
    let tile_bytes = TILE_OUTPUTS * BLOCK * grain.bits / 8;
    let mut tiles = Tiles { codes: vec![0; count * tile_bytes], scales: vec![0; count * TILE_OUTPUTS] };
    let mut row = Vec::new();
    for (output, index) in rows.iter().enumerate() {
        read(format, &bytes[index * row_bytes..][..row_bytes], &mut row)?;
        for (block, (codes, word)) in row.iter().enumerate() {
            let (tile, place) = (output / TILE_OUTPUTS * across + block, output % TILE_OUTPUTS);
            tiles.scales[tile * TILE_OUTPUTS + place] = *word;
            let target = &mut tiles.codes[tile * tile_bytes..][..tile_bytes];
            for (input, code) in codes.iter().enumerate() {
                let (half, lane) = (input / (BLOCK / 2), place % 8 * RUN + input % (BLOCK / 2) / RUN);
                let at = (place / 8 * 2 + half) * RUN + input % RUN;
                let bit = (lane * tile_bytes / LANES) * 8 + at * grain.bits;
                target[bit / 8] |= code << (bit % 8);
            }
        }
    }
    Ok(tiles)
}

/// The integers of a row and its scales, 32 inputs at a time.
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

fn word(format: Format, scales: &Scales, at: usize) -> Result<u32> {
    let (scale, minimum) = scales.at(format, at);
    let second = match Grain::of(format).map(|grain| grain.second) {
        Some(Second::Half) => scales.at(format, at + BLOCK / 2).0,
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
    fn weight(grain: Grain, tiles: &Tiles, across: usize, output: usize, input: usize) -> f32 {
        let tile = output / TILE_OUTPUTS * across + input / BLOCK;
        let (place, input) = (output % TILE_OUTPUTS, input % BLOCK);
        let word = tiles.scales[tile * TILE_OUTPUTS + place];
        let [scale, second] = [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32());
        let (half, lane) = (input / 16, place % 8 * 4 + input % 16 / 4);
        let codes = &tiles.codes[tile * 64 * grain.bits + lane * 2 * grain.bits..];
        let at = place / 8 * 8 + half * 4 + input % 4;
        let code = if grain.bits == 4 { codes[at / 2] >> (at % 2 * 4) & 15 } else { codes[at] };
        let code = f32::from(code) - f32::from(grain.offset);
        match grain.second {
            Second::None => code * scale,
            Second::Minimum => code * scale - second,
            Second::Half => code * if half == 0 { scale } else { second },
        }
    }

    #[test]
    fn tiles_hold_the_weights_of_the_file() {
        for format in formats() {
            let (grain, inputs) = (Grain::of(format).unwrap(), inputs(format));
            let (bytes, expected) = weights(format, inputs, 21, 3);
            let rows: Vec<usize> = (0..21).map(|index| (index * 5) % 21).collect();
            let tiles = tiles(format, inputs, &bytes, &rows).unwrap();
            for (output, row) in rows.iter().enumerate() {
                for (input, expected) in expected[*row].iter().enumerate() {
                    let got = weight(grain, &tiles, inputs / BLOCK, output, input);
                    let near = (got - expected).abs() <= 2e-3;
                    assert!(near, "{format:?} {output} {input}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_laid_out_is_said() {
        let error = |format, bytes: &[u8]| tiles(format, 32, bytes, &[0]).unwrap_err().to_string();
        assert_eq!(error(Format::F16, &[0; 64]), "F16 has no blocks of integers to multiply by");
        assert_eq!(
            error(Format::Q4K, &[0; 144]),
            "a row of 32 is no whole number of blocks of 256 as Q4_K asks for"
        );
        let mut block = [0; 34];
        block[..2].copy_from_slice(&f16::INFINITY.to_bits().to_le_bytes());
        assert_eq!(error(Format::Q8_0, &block), "a scale is not finite");
    }
}
