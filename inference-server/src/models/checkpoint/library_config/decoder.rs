//! Keys of the decoders that embed: Qwen 2, Qwen 3 and Mistral.
//!
//! RoPE scaling and windows that differ between layers are refused, as candle-transformers has
//! neither. The published embedding models use none.

use anyhow::{Context, Result, ensure};
use candle_transformers::models::{qwen2, qwen3};
use serde_json::{Value, json};

use super::{LibraryNetwork, Sizes, expect_only, flag, key, rope_theta};
use crate::models::checkpoint::architecture::Architecture;
use crate::models::checkpoint::json::check_range;

/// Heads of a decoder.
struct Heads {
    /// Heads of keys and values, each shared by several of queries.
    shared: usize,
    /// Values of one head.
    size: usize,
}

impl Heads {
    fn read(common: &Sizes, file: &Value) -> Result<Self> {
        let queries = common.num_attention_heads;
        let shared = count(file, "num_key_value_heads", queries)?;
        ensure!(
            queries.is_multiple_of(shared),
            "invalid num_attention_heads {queries}: expected a multiple of num_key_value_heads {shared}"
        );
        let size = count(file, "head_dim", common.hidden_size / queries)?;
        ensure!(size.is_multiple_of(2), "invalid head_dim {size}: expected an even number");
        Ok(Self { shared, size })
    }
}

/// Configuration of Qwen 2, or of Mistral, which is Qwen 2 without biases.
pub(super) fn qwen2(common: &Sizes, file: &Value, positions: usize) -> Result<LibraryNetwork> {
    check_rope(file)?;
    let heads = Heads::read(common, file)?;
    let size = common.hidden_size / common.num_attention_heads;
    ensure!(heads.size == size, "invalid head_dim {}: expected {size}", heads.size);
    let mistral = common.architecture == Architecture::Mistral;
    // Embedding models that were trained to look ahead say so; a window is not computed then.
    let bidirectional = key(file, "is_causal") == Some(&json!(false));
    ensure!(!(mistral && bidirectional), "invalid is_causal `false`: expected true for mistral");
    let window = if mistral && key(file, "sliding_window").is_some() {
        count(file, "sliding_window", positions)?.min(positions)
    } else {
        no_window(file)?;
        positions
    };
    let config = qwen2::Config {
        vocab_size: common.vocab_size,
        hidden_size: common.hidden_size,
        intermediate_size: common.intermediate_size,
        num_hidden_layers: common.num_hidden_layers,
        num_attention_heads: common.num_attention_heads,
        num_key_value_heads: heads.shared,
        max_position_embeddings: positions,
        // candle-transformers lets a token see one more before it than transformers.
        sliding_window: window - 1,
        max_window_layers: 0,
        // Ties embeddings to the head of a language model, which is not part of this network.
        tie_word_embeddings: false,
        rope_theta: rope_theta(file, "rope_theta", 10_000.0)?,
        rms_norm_eps: common.layer_norm_eps,
        use_sliding_window: false,
        hidden_act: activation(common, file)?,
    };
    Ok(LibraryNetwork::Qwen2 { config, bidirectional })
}

/// Configuration of Qwen 3.
pub(super) fn qwen3(common: &Sizes, file: &Value, positions: usize) -> Result<LibraryNetwork> {
    check_rope(file)?;
    no_window(file)?;
    expect_only(file, &[("is_causal", json!(true))])?;
    let heads = Heads::read(common, file)?;
    Ok(LibraryNetwork::Qwen3(qwen3::Config {
        vocab_size: common.vocab_size,
        hidden_size: common.hidden_size,
        intermediate_size: common.intermediate_size,
        num_hidden_layers: common.num_hidden_layers,
        num_attention_heads: common.num_attention_heads,
        head_dim: heads.size,
        attention_bias: flag(file, "attention_bias")?,
        num_key_value_heads: heads.shared,
        max_position_embeddings: positions,
        sliding_window: None,
        max_window_layers: 0,
        tie_word_embeddings: false,
        rope_theta: rope_theta(file, "rope_theta", 10_000.0)?,
        rms_norm_eps: common.layer_norm_eps,
        use_sliding_window: false,
        hidden_act: activation(common, file)?,
    }))
}

/// A positive number of the file, bounded as heads are.
fn count(file: &Value, name: &str, default: usize) -> Result<usize> {
    let Some(value) = key(file, name) else { return Ok(default) };
    let found = value.as_u64().and_then(|number| usize::try_from(number).ok());
    let found = found.with_context(|| format!("invalid {name} `{value}`: expected a number"))?;
    check_range(name, found, if name == "sliding_window" { 1 << 28 } else { 1 << 10 })?;
    Ok(found)
}

fn check_rope(file: &Value) -> Result<()> {
    expect_only(file, &[("rope_scaling", Value::Null), ("partial_rotary_factor", json!(1.0))])
}

/// Checks that every token attends to the whole text before it.
fn no_window(file: &Value) -> Result<()> {
    expect_only(file, &[("use_sliding_window", json!(false))])?;
    let types = key(file, "layer_types").and_then(Value::as_array);
    let full = types.is_none_or(|types| types.iter().all(|kind| kind == "full_attention"));
    ensure!(full, "invalid layer_types: expected full_attention for every layer");
    Ok(())
}

/// The activation of the gate, which is SiLU by default in decoders.
fn activation(common: &Sizes, file: &Value) -> Result<candle_nn::Activation> {
    let named = key(file, "hidden_act").is_some();
    Ok(if named { common.hidden_act.library() } else { candle_nn::Activation::Silu })
}
