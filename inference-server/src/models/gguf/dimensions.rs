//! The dimensions of a decoder by the keys of its architecture.

use anyhow::{Context, Result, bail, ensure};

use super::Gguf;
use super::value::Value;

/// A kind of decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 2 and 3, Mistral, and what is built like them.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, not its mixtures of experts.
    Qwen3,
    /// Gemma 3, its text part.
    Gemma3,
}

/// How positions beyond those of the training are rotated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// As they are.
    None,
    /// Positions are divided by this.
    Linear(f32),
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// How much longer texts may be than those of the training.
        factor: f32,
        /// Positions of the training.
        original: usize,
        /// Factor of the attention's temperature, where the file has one.
        attention: Option<f32>,
    },
}

/// The dimensions of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Dimensions {
    /// What kind it is.
    pub architecture: Architecture,
    /// `block_count`.
    pub blocks: usize,
    /// `embedding_length`.
    pub hidden: usize,
    /// `feed_forward_length`.
    pub feed_forward: usize,
    /// `attention.head_count`.
    pub heads: usize,
    /// `attention.head_count_kv`.
    pub kv_heads: usize,
    /// `attention.key_length`, by default the hidden width shared out among the heads.
    pub head_width: usize,
    /// Rows of `token_embd.weight`.
    pub vocabulary: usize,
    /// `context_length`.
    pub context: usize,
    /// `attention.layer_norm_rms_epsilon`.
    pub norm_epsilon: f32,
    /// `rope.freq_base`, by default 10,000.
    pub rope_base: f32,
    /// `rope.scaling.*`; in gemma3 it is that of the blocks without a window.
    pub rope_scaling: Scaling,
    /// `attention.sliding_window`.
    pub window: Option<usize>,
    /// Every so many blocks one has no window: `attention.sliding_window_pattern`, by default 6 in
    /// gemma3.
    pub window_pattern: Option<usize>,
    /// `rope.freq_base_swa`, the base of blocks with a window: by default 10,000 in gemma3.
    pub window_rope_base: Option<f32>,
}

impl Architecture {
    const ALL: [(&'static str, Self); 4] =
        [("llama", Self::Llama), ("qwen2", Self::Qwen2), ("qwen3", Self::Qwen3), ("gemma3", Self::Gemma3)];

    /// Its name in a file, before its keys.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, architecture)| *architecture == self).map_or("", |(name, _)| name)
    }

    /// Whether neighbours of a head are rotated together, as the first implementation of Llama had
    /// it: llama.cpp's converter permutes the rows of q and k to match, and [`halves_together`]
    /// undoes it.
    pub fn has_pairs(self) -> bool {
        self == Self::Llama
    }

    fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        let Some((_, architecture)) = found else {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            bail!("general.architecture is {name:?}, supported are {names}");
        };
        Ok(architecture)
    }
}

/// The keys of one architecture.
struct Keys<'a> {
    file: &'a Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn optional(&self, key: &str) -> Result<Option<usize>> {
        self.file.number(&format!("{}.{key}", self.prefix))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        let found = self.optional(key)?.with_context(|| format!("no key {}.{key}", self.prefix))?;
        ensure!(found > 0, "{}.{key} is 0", self.prefix);
        Ok(found)
    }

    fn float(&self, key: &str) -> Result<Option<f32>> {
        let key = format!("{}.{key}", self.prefix);
        let found = self.file.typed(&key, "a number", Value::float)?.map(|value| value as f32);
        ensure!(found.is_none_or(|value| value.is_finite() && value > 0.0), "{key} is not positive");
        Ok(found)
    }

    fn scaling(&self) -> Result<Scaling> {
        let key = format!("{}.rope.scaling.type", self.prefix);
        let factor = self.float("rope.scaling.factor")?;
        match self.file.typed(&key, "a text", Value::text)? {
            // Older files have the factor alone.
            None => {
                let factor = self.float("rope.scale_linear")?.or(factor).filter(|factor| *factor != 1.0);
                Ok(factor.map_or(Scaling::None, Scaling::Linear))
            }
            Some("none") => Ok(Scaling::None),
            Some("linear") => Ok(factor.map_or(Scaling::None, Scaling::Linear)),
            Some("yarn") => Ok(Scaling::Yarn {
                factor: factor.with_context(|| format!("no key {}.rope.scaling.factor", self.prefix))?,
                original: self.needed("rope.scaling.original_context_length")?,
                attention: self.float("rope.scaling.attn_factor")?,
            }),
            Some(other) => bail!("{key} is {other:?}, supported are none, linear, yarn"),
        }
    }
}

impl Gguf {
    /// The dimensions of the decoder in the file.
    ///
    /// # Errors
    /// Names the key that is missing, of the wrong type, or contradicts another.
    pub fn dimensions(&self) -> Result<Dimensions> {
        let name = self.typed("general.architecture", "a text", Value::text)?;
        let architecture = Architecture::from_name(name.context("no key general.architecture")?)?;
        let keys = Keys { file: self, prefix: architecture.name() };
        let gemma = architecture == Architecture::Gemma3;
        let (hidden, heads) = (keys.needed("embedding_length")?, keys.needed("attention.head_count")?);
        let head_width = keys.optional("attention.key_length")?.unwrap_or(hidden / heads);
        let embedding = self.tensor("token_embd.weight").context("no tensor token_embd.weight")?;
        let epsilon = keys.float("attention.layer_norm_rms_epsilon")?;
        let dimensions = Dimensions {
            architecture,
            blocks: keys.needed("block_count")?,
            hidden,
            feed_forward: keys.needed("feed_forward_length")?,
            heads,
            kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(heads),
            head_width,
            vocabulary: embedding.shape()[0],
            context: keys.needed("context_length")?,
            norm_epsilon: epsilon
                .with_context(|| format!("no key {}.attention.layer_norm_rms_epsilon", keys.prefix))?,
            rope_base: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: keys.scaling()?,
            window: keys.optional("attention.sliding_window")?.filter(|window| *window > 0),
            window_pattern: keys
                .optional("attention.sliding_window_pattern")?
                .or(gemma.then_some(6))
                .filter(|pattern| *pattern > 0),
            window_rope_base: keys.float("rope.freq_base_swa")?.or(gemma.then_some(10_000.0)),
        };
        dimensions.check(&keys)?;
        Ok(dimensions)
    }
}

impl Dimensions {
    fn check(&self, keys: &Keys<'_>) -> Result<()> {
        let Self { heads, kv_heads, head_width, .. } = *self;
        ensure!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads do not share {kv_heads} keys and values evenly"
        );
        ensure!(
            head_width > 0 && head_width.is_multiple_of(2),
            "heads are {head_width} wide, which has no halves"
        );
        for key in ["attention.value_length", "rope.dimension_count"] {
            let found = keys.optional(key)?.unwrap_or(head_width);
            ensure!(
                found == head_width,
                "{}.{key} is {found}, supported is that of the keys, {head_width}",
                keys.prefix
            );
        }
        Ok(())
    }
}

/// Rows of q or k for the rotation of halves instead of neighbours: in each head the even ones
/// first, then the odd ones.
///
/// `rows` are bytes in any format, since a row is a whole number of blocks, or a bias as bytes;
/// `outputs` are heads times their width.
///
/// # Errors
/// If the numbers do not divide.
pub(crate) fn halves_together(rows: &[u8], outputs: usize, heads: usize) -> Result<Vec<u8>> {
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
