//! GEMM of weights in the quantised formats of GGUF files with activations of 8 bits.
//!
//! The formats are those of llama.cpp (Gerganov et al.; ggml-common.h and ggml-quants.c): a block
//! of 32 or 256 weights of one output is a list of small integers with one or two scales. Weights
//! are repacked without loss, 16 outputs side by side, so that a vector of weights holds four
//! inputs of each output and meets one broadcast of four activations; nothing is ever summed across
//! a vector. llama.cpp repacks some formats alike (ggml-cpu/repack.cpp).
//!
//! Activations are quantised to 8 bits in blocks of 32 with a scale in f32, whatever the format of
//! the weights, so that one quantisation of a row serves every layer that reads it. Sums over a
//! block are exact integers, and the results of the blocks are added in their order with one fused
//! multiply-add each. So without an activation an output has the same bits whatever rows share the
//! call, however many threads work, and on every instruction set.
//!
//! From the bottom: `geometry`, `format` (of tensors in a file), `decode` (its blocks), `panels`
//! (repacked weights), `unpack` (a chunk of them as bytes and scales), `activations`, `tile`
//! (operands of a kernel), the kernels `portable`, `avx2` and `vnni`, and `gemm`. `gpu_tiles` lays
//! weights out for a GPU.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod decode;
mod format;
mod gemm;
mod geometry;
mod gpu_tiles;
mod panels;
mod portable;
mod tile;
mod unpack;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub(crate) use activations::{QuantisedRows, quantise};
pub(crate) use format::Format;
pub(crate) use gemm::{check, has_whole_strips, multiply};
pub(crate) use gpu_tiles::{IntLayout, SecondScale, TILE_OUTPUTS, pack_gpu_tiles};
pub(crate) use panels::Panels;

#[cfg(test)]
pub(crate) mod samples {
    //! Weights for tests, quantised by candle, whose own dequantisation is the reference.

    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::Format;
    pub(crate) use crate::kernels::samples::values;

    /// Candle's name of a format.
    pub(crate) fn dtype(format: Format) -> GgmlDType {
        match format {
            Format::F32 => GgmlDType::F32,
            Format::F16 => GgmlDType::F16,
            Format::Bf16 => GgmlDType::BF16,
            Format::Q4_0 => GgmlDType::Q4_0,
            Format::Q4_1 => GgmlDType::Q4_1,
            Format::Q5_0 => GgmlDType::Q5_0,
            Format::Q5_1 => GgmlDType::Q5_1,
            Format::Q8_0 => GgmlDType::Q8_0,
            Format::Q4K => GgmlDType::Q4K,
            Format::Q5K => GgmlDType::Q5K,
            Format::Q6K => GgmlDType::Q6K,
        }
    }

    /// Formats of [`super::Panels`].
    pub(crate) fn formats() -> impl Iterator<Item = Format> {
        Format::ALL.into_iter().filter(|format| format.is_quantised())
    }

    /// Rows of random weights in this format.
    pub(crate) fn tensor(format: Format, inputs: usize, outputs: usize, seed: u64) -> QTensor {
        let weights = Tensor::from_vec(values(inputs * outputs, seed), (outputs, inputs), &Device::Cpu);
        QTensor::quantize(&weights.unwrap(), dtype(format)).unwrap()
    }

    /// Their bytes in a file, and the numbers that candle reads them as.
    pub(crate) fn weights(
        format: Format,
        inputs: usize,
        outputs: usize,
        seed: u64,
    ) -> (Vec<u8>, Vec<Vec<f32>>) {
        let tensor = tensor(format, inputs, outputs, seed);
        let rows = tensor.dequantize(&Device::Cpu).unwrap().to_vec2().unwrap();
        (tensor.data().unwrap().into_owned(), rows)
    }

    /// An inner length that the format allows, not a multiple of 256 if that is possible.
    pub(crate) fn inputs(format: Format) -> usize {
        if format.block_length() == 32 { 288 } else { 512 }
    }
}
