//! Activations of a step on the device.
//!
//! All buffers are sized for the largest step so far. Recorded steps contain their addresses, so
//! the recordings have to be dropped when they grow.

use crate::kernels::gpu::memory::Buffer;
use crate::kernels::gpu::{Gpu, GpuError};
use crate::models::decoder::config::DecoderConfig;

/// Rows are padded to a multiple of this: products read whole tiles of up to 64 rows.
const ROW_ALIGNMENT: usize = 64;
/// Initial bytes of the step layout. Not tuned: 256 rows take 4 KiB, the rest is for block tables.
const LAYOUT_BYTES: usize = 1 << 16;

/// Buffers of a step, rows × width each.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The [`super::step_layout::StepLayout`].
    pub(super) layout: Buffer,
    /// Hidden states, in f32.
    pub(super) hidden: Buffer,
    /// A projection before its norm, in f32 (Gemma only).
    pub(super) sum: Buffer,
    /// Normalised hidden states.
    pub(super) normed: Buffer,
    /// Queries, keys and values; or gates and what they open.
    pub(super) qkv_or_gate_up: Buffer,
    /// Output of attention, or gated activations.
    pub(super) attention_or_gated: Buffer,
    /// Attention of each head to each split of the keys, in f32.
    pub(super) partial_attention: Buffer,
    /// Logits, in f32.
    pub(super) logits: Buffer,
}

/// Sizes that a step needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct BufferSizes {
    /// Rows of activations.
    pub(super) rows: usize,
    /// Rows of logits.
    pub(super) logit_rows: usize,
    /// Splits of the keys of all rows together.
    pub(super) splits: usize,
    /// Bytes of the step layout.
    pub(super) layout_bytes: usize,
}

impl Buffers {
    /// Grows the buffers. Returns whether all addresses are unchanged.
    pub(super) fn reserve<G: Gpu>(
        &mut self,
        gpu: &mut G,
        config: &DecoderConfig,
        sizes: BufferSizes,
    ) -> Result<bool, GpuError> {
        let rows = sizes.rows.next_multiple_of(ROW_ALIGNMENT);
        let logit_rows = sizes.logit_rows.next_multiple_of(ROW_ALIGNMENT);
        let DecoderConfig { heads, hidden, inner, vocabulary, .. } = *config;
        let (element, float) = (gpu.element().bytes(), size_of::<f32>());
        let widest = (heads.queries() + 2 * heads.keys()).max(2 * inner);
        // Of each split and head: the weighted sum of values, the largest score, the sum of
        // weights.
        let partial = sizes.splits * heads.kv_heads * heads.group * (heads.size + 2);
        let mut unchanged = true;
        for (buffer, bytes) in [
            // Block tables grow with the sequences. They come last in the layout, and recorded
            // launches do not depend on their length.
            (&mut self.layout, sizes.layout_bytes.next_power_of_two().max(LAYOUT_BYTES)),
            (&mut self.hidden, rows * hidden * float),
            (&mut self.sum, rows * hidden * float),
            (&mut self.normed, rows.max(logit_rows) * hidden * element),
            (&mut self.qkv_or_gate_up, rows * widest * element),
            (&mut self.attention_or_gated, rows * heads.queries().max(inner) * element),
            (&mut self.partial_attention, partial * float),
            (&mut self.logits, logit_rows * vocabulary * float),
        ] {
            unchanged &= buffer.reserve(gpu, bytes)?;
        }
        Ok(unchanged)
    }
}
