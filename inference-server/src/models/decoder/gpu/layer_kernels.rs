//! The kernels of a decoder's layers other than linear ones, compiled for the shape of the model.
//!
//! Their source is `cuda/decoder.cu`. Shapes are compiled in as constants, so that loops unroll; a
//! model compiles its own kernels while it is loaded.

use crate::kernels::gpu::{Element, Entry, Gpu, GpuError, Kernel, Source, activation_number};
use crate::models::decoder::config::DecoderConfig;

/// Keys that are visited at a time; `KEYS` of `cuda/online.cu`.
const KEYS: usize = 64;

/// The kernels that every precision has, and the threads of their blocks, as `cuda/decoder.cu`
/// expects them.
const ENTRIES: [(&str, usize); 7] = [
    ("embed_tokens", 256),
    ("normalise_rows", 256),
    ("add_normalised", 256),
    ("rope_and_store_kv", 128),
    ("gated_activation", 256),
    ("attend_decode", 128),
    ("reduce_splits", 128),
];

/// Kernels of a decoder's layers. Rows are tokens of the step.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerKernels {
    /// `embed_tokens`: token embeddings into hidden states.
    pub(super) embed: Kernel,
    /// `normalise_rows`: RMS norm of hidden states.
    pub(super) rms_norm: Kernel,
    /// `add_normalised`: adds the RMS norm of a projection to hidden states.
    pub(super) add_rms_norm: Kernel,
    /// `rope_and_store_kv`: biases, norms and rotation of heads; stores keys and values in KV
    /// blocks.
    pub(super) rope_and_store_kv: Kernel,
    /// `gated_activation`: act(gate) · up.
    pub(super) gated_activation: Kernel,
    /// `attend_decode`: attention of one query per row to a split of its keys.
    pub(super) attend_decode: Kernel,
    /// `reduce_splits`: reduces the splits of `attend_decode`.
    pub(super) reduce_splits: Kernel,
    /// `attend_prefill`: attention of tiles of prompt tokens on tensor cores; `None` in f32, which
    /// these do not compute.
    pub(super) attend_prefill: Option<Kernel>,
}

impl LayerKernels {
    /// Compiles the kernels.
    ///
    /// # Errors
    /// If compilation fails.
    pub(super) fn compile<G: Gpu>(gpu: &mut G, config: &DecoderConfig) -> Result<Self, GpuError> {
        let heads = config.heads;
        let defines = [
            ("ACTIVATION", activation_number(config.activation).to_string()),
            ("KV_HEADS", heads.kv_heads.to_string()),
            ("GROUP", heads.group.to_string()),
            ("HEAD", heads.size.to_string()),
            ("SCORE_SCALE", format!("{:?}f", config.score_scale)),
        ];
        let mut entries = ENTRIES.map(|(name, threads)| Entry { name, threads, shared: 0 }).to_vec();
        if gpu.element() != Element::F32 {
            // Two stages of keys and values; see `ROW` of `cuda/online.cu`.
            let row = (heads.size.next_multiple_of(16) + 8) * gpu.element().bytes();
            entries.push(Entry { name: "attend_prefill", threads: 128, shared: 4 * KEYS * row });
        }
        let kernels = gpu.compile(Source::Decoder, &defines, &entries)?;
        let [
            embed,
            rms_norm,
            add_rms_norm,
            rope_and_store_kv,
            gated_activation,
            attend_decode,
            reduce_splits,
        ] = kernels[..ENTRIES.len()]
        else {
            return Err(GpuError::Refused("kernels are missing".to_owned()));
        };
        Ok(Self {
            embed,
            rms_norm,
            add_rms_norm,
            rope_and_store_kv,
            gated_activation,
            attend_decode,
            reduce_splits,
            attend_prefill: kernels.get(ENTRIES.len()).copied(),
        })
    }
}
