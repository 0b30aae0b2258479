//! Dimensions of a decoder in the metadata of a GGUF file.
//!
//! Keys are prefixed with the architecture, as `llama.block_count`. Defaults are llama.cpp's.

use anyhow::{Context, Result, bail, ensure};

use super::Gguf;
use super::value::Value;

/// Architecture of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, Mistral and derivatives.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense models only.
    Qwen3,
    /// Gemma 3, the language model.
    Gemma3,
}

/// RoPE scaling for contexts beyond those of the training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Frequencies are divided by this factor.
    Linear(f32),
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        /// Factor by which the context is extended.
        factor: f32,
        /// Context of the training.
        original_context: usize,
        /// Factor of sines and cosines in addition to YaRN's own.
        attention_factor: Option<f32>,
    },
}

/// Dimensions of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Dimensions {
    /// `general.architecture`.
    pub architecture: Architecture,
    /// `block_count`.
    pub layers: usize,
    /// `embedding_length`.
    pub hidden: usize,
    /// `feed_forward_length`.
    pub feed_forward: usize,
    /// `attention.head_count`.
    pub heads: usize,
    /// `attention.head_count_kv`.
    pub kv_heads: usize,
    /// `attention.key_length`, by default the hidden width divided by the heads.
    pub head_size: usize,
    /// Rows of `token_embd.weight`.
    pub vocabulary: usize,
    /// `context_length`.
    pub context: usize,
    /// `attention.layer_norm_rms_epsilon`.
    pub norm_epsilon: f32,
    /// `rope.freq_base`, by default 10,000.
    pub rope_theta: f32,
    /// `rope.scaling.*`; in gemma3 that of global layers only.
    pub rope_scaling: RopeScaling,
    /// `attention.sliding_window`.
    pub window: Option<usize>,
    /// `attention.sliding_window_pattern`, the period of global layers; by default 6 in gemma3.
    pub window_pattern: Option<usize>,
    /// `rope.freq_base_swa`, the RoPE base of local layers; by default 10,000 in gemma3.
    pub local_rope_theta: Option<f32>,
}

impl Architecture {
    const ALL: [(&'static str, Self); 4] =
        [("llama", Self::Llama), ("qwen2", Self::Qwen2), ("qwen3", Self::Qwen3), ("gemma3", Self::Gemma3)];

    /// Name in the file and prefix of the keys.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, architecture)| *architecture == self).map_or("", |(name, _)| name)
    }

    /// Returns true if RoPE rotates neighbouring columns of a head together (GPT-J style) and not
    /// its halves (NeoX style): llama.cpp's converter permutes the rows of q and k of these
    /// architectures, which [`unpermute_heads`] undoes.
    pub fn is_interleaved(self) -> bool {
        self == Self::Llama
    }

    fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        let Some((_, architecture)) = found else {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            bail!("invalid general.architecture `{name}`: expected one of {names}");
        };
        Ok(architecture)
    }
}

/// Access to the keys of one architecture.
struct Keys<'a> {
    file: &'a Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn optional(&self, key: &str) -> Result<Option<usize>> {
        self.file.number(&format!("{}.{key}", self.prefix))
    }

    fn required(&self, key: &str) -> Result<usize> {
        let found = self.optional(key)?.with_context(|| format!("missing key {}.{key}", self.prefix))?;
        ensure!(found > 0, "invalid {}.{key} 0: expected a positive number", self.prefix);
        Ok(found)
    }

    fn float(&self, key: &str) -> Result<Option<f32>> {
        let key = format!("{}.{key}", self.prefix);
        let found = self.file.typed(&key, "a number", Value::float)?.map(|value| value as f32);
        ensure!(
            found.is_none_or(|value| value.is_finite() && value > 0.0),
            "invalid {key}: expected a positive number"
        );
        Ok(found)
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        let key = format!("{}.rope.scaling.type", self.prefix);
        let factor = self.float("rope.scaling.factor")?;
        match self.file.typed(&key, "a string", Value::string)? {
            // Older files have a factor and no type.
            None => {
                let factor = self.float("rope.scale_linear")?.or(factor).filter(|factor| *factor != 1.0);
                Ok(factor.map_or(RopeScaling::None, RopeScaling::Linear))
            }
            Some("none") => Ok(RopeScaling::None),
            Some("linear") => Ok(factor.map_or(RopeScaling::None, RopeScaling::Linear)),
            Some("yarn") => Ok(RopeScaling::Yarn {
                factor: factor.with_context(|| format!("missing key {}.rope.scaling.factor", self.prefix))?,
                original_context: self.required("rope.scaling.original_context_length")?,
                attention_factor: self.float("rope.scaling.attn_factor")?,
            }),
            Some(other) => bail!("invalid {key} `{other}`: expected none, linear or yarn"),
        }
    }
}

impl Gguf {
    /// Reads the dimensions of the decoder.
    ///
    /// # Errors
    /// Names the key that is missing, of another type, or contradicts another key.
    pub fn dimensions(&self) -> Result<Dimensions> {
        let name = self.typed("general.architecture", "a string", Value::string)?;
        let architecture = Architecture::from_name(name.context("missing key general.architecture")?)?;
        let keys = Keys { file: self, prefix: architecture.name() };
        let gemma = architecture == Architecture::Gemma3;
        let (hidden, heads) = (keys.required("embedding_length")?, keys.required("attention.head_count")?);
        // Qwen 3 and Gemma 3 have heads of their own size; older files lack the key.
        let head_size = keys.optional("attention.key_length")?.unwrap_or(hidden / heads);
        let embedding = self.tensor("token_embd.weight").context("missing tensor token_embd.weight")?;
        let epsilon = keys.float("attention.layer_norm_rms_epsilon")?;
        let dimensions = Dimensions {
            architecture,
            layers: keys.required("block_count")?,
            hidden,
            feed_forward: keys.required("feed_forward_length")?,
            heads,
            kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(heads),
            head_size,
            // By the tensor: `vocab_size` is optional, and padding may make the tensor longer than
            // the token list.
            vocabulary: embedding.shape()[0],
            context: keys.required("context_length")?,
            norm_epsilon: epsilon
                .with_context(|| format!("missing key {}.attention.layer_norm_rms_epsilon", keys.prefix))?,
            rope_theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: keys.rope_scaling()?,
            window: keys.optional("attention.sliding_window")?.filter(|window| *window > 0),
            window_pattern: keys
                .optional("attention.sliding_window_pattern")?
                .or(gemma.then_some(6))
                .filter(|pattern| *pattern > 0),
            local_rope_theta: keys.float("rope.freq_base_swa")?.or(gemma.then_some(10_000.0)),
        };
        dimensions.check(&keys)?;
        Ok(dimensions)
    }
}

impl Dimensions {
    fn check(&self, keys: &Keys<'_>) -> Result<()> {
        let Self { heads, kv_heads, head_size, .. } = *self;
        ensure!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "invalid attention.head_count {heads}: expected a multiple of attention.head_count_kv {kv_heads}"
        );
        ensure!(
            head_size > 0 && head_size.is_multiple_of(2),
            "invalid attention.key_length {head_size}: expected an even number"
        );
        for key in ["attention.value_length", "rope.dimension_count"] {
            let found = keys.optional(key)?.unwrap_or(head_size);
            ensure!(
                found == head_size,
                "invalid {}.{key} {found}: expected that of the keys, {head_size}",
                keys.prefix
            );
        }
        Ok(())
    }
}

/// Reorders the rows of q or k for the rotation of halves: in each head the even rows first, then
/// the odd ones.
///
/// `rows` are the bytes of a matrix in any format, since a row is a whole number of quantisation
/// blocks, or those of a bias. `outputs` is the number of rows, heads × head size.
///
/// # Errors
/// If the bytes cannot be divided into `outputs` rows, or the rows into `heads` heads.
pub(crate) fn unpermute_heads(rows: &[u8], outputs: usize, heads: usize) -> Result<Vec<u8>> {
    ensure!(
        heads > 0 && outputs > 0 && outputs.is_multiple_of(2 * heads) && rows.len().is_multiple_of(outputs),
        "{} bytes are not {outputs} rows of {heads} heads",
        rows.len()
    );
    let (width, row) = (outputs / heads, rows.len() / outputs);
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(width * row) {
        for first in [0, 1] {
            for index in (first..width).step_by(2) {
                out.extend_from_slice(&head[index * row..][..row]);
            }
        }
    }
    Ok(out)
}
