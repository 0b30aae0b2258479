//! The kernels between the products of a decoder, compiled for its shape.

use crate::kernels::gpu::{Element, Entry, Gpu, GpuError, Kernel, Source, activation_number};
use crate::models::decoder::config::DecoderConfig;

/// Keys that are visited at a time; `KEYS` of `cuda/online.cu`.
const KEYS: usize = 64;

/// The kernels between the products.
#[derive(Debug, Clone, Copy)]
pub(super) struct Between {
    pub(super) embed: Kernel,
    pub(super) normalise: Kernel,
    pub(super) add_normalised: Kernel,
    pub(super) place: Kernel,
    pub(super) open: Kernel,
    pub(super) attend_rows: Kernel,
    pub(super) join: Kernel,
    /// For elements of 16 bits.
    pub(super) attend_prompts: Option<Kernel>,
}

impl Between {
    /// Compiles them.
    ///
    /// # Errors
    /// What the device has against it.
    pub(super) fn compile<G: Gpu>(gpu: &mut G, config: &DecoderConfig) -> Result<Self, GpuError> {
        let heads = config.heads;
        let defines = [
            ("ACTIVATION", activation_number(config.activation).to_string()),
            ("KV_HEADS", heads.kv_heads.to_string()),
            ("GROUP", heads.group.to_string()),
            ("HEAD", heads.size.to_string()),
            ("SCORE_SCALE", format!("{:?}f", config.score_scale)),
        ];
        let entry = |name, threads| Entry { name, threads, shared: 0 };
        let mut entries = vec![
            entry("embed_tokens", 256),
            entry("normalise_rows", 256),
            entry("add_normalised", 256),
            entry("rope_and_store_kv", 128),
            entry("gated_activation", 256),
            entry("attend_decode", 128),
            entry("reduce_splits", 128),
        ];
        if gpu.element() != Element::F32 {
            // Two stages of keys and values; see `ROW` of `cuda/online.cu`.
            let row = (heads.size.next_multiple_of(16) + 8) * gpu.element().bytes();
            entries.push(Entry { name: "attend_prefill", threads: 128, shared: 4 * KEYS * row });
        }
        let kernels = gpu.compile(Source::Decoder, &defines, &entries)?;
        let [embed, normalise, add_normalised, place, open, attend_rows, join] = kernels[..7] else {
            return Err(GpuError::Refused("kernels are missing".to_owned()));
        };
        let attend_prompts = kernels.get(7).copied();
        Ok(Self { embed, normalise, add_normalised, place, open, attend_rows, join, attend_prompts })
    }
}
