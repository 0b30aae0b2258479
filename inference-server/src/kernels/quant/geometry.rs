//! The units that quantised weights and activations are cut into.
//!
//! A chunk of 256 inputs is 8 blocks, a block 8 quads, a quad 4 inputs.

use crate::kernels::matrix::STRIP;

/// Inputs of a quantisation block: those that share a scale of the activations. QK8_0 of ggml, and
/// the block of all its formats but the K formats.
pub(super) const BLOCK: usize = 32;
/// Inputs that are unpacked at once: QK_K of ggml, a superblock of the K formats.
pub(super) const CHUNK: usize = 256;
/// Blocks of a chunk.
pub(super) const CHUNK_BLOCKS: usize = CHUNK / BLOCK;
/// Inputs whose products with one output are added up in one 32-bit lane: four bytes, as `vpdpbusd`
/// (VNNI) takes them.
pub(super) const QUAD: usize = 4;
/// Quads of a block.
pub(super) const BLOCK_QUADS: usize = BLOCK / QUAD;
/// Bytes of a quad for all outputs of a strip: a cache line, or one AVX-512 vector.
pub(super) const QUAD_BYTES: usize = QUAD * STRIP;

const _: () = assert!(CHUNK == CHUNK_BLOCKS * BLOCK_QUADS * QUAD);
