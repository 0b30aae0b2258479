//! Keys of `config.json` for the architectures that candle-transformers computes.
//!
//! They become its own configurations, so that no number reaches it unchecked. What it computes
//! otherwise than the published code, or not at all, is refused here with the key that asks for it.

mod decoder;

use anyhow::{Context, Result, bail, ensure};
use candle_transformers::models::{debertav2, jina_bert, nomic_bert, qwen2, qwen3, stella_en_v5};
use serde_json::{Value, json};

use super::activation::Activation;
use super::architecture::Architecture;
use super::json::{MAX_POSITIONS, check_range};

/// Attention scores of one text, which candle-transformers keeps in memory all at once: 1 GiB in
/// f32, 4,096 tokens with 16 heads.
const MAX_ROW_SCORES: usize = 1 << 28;
/// The same for JinaBERT, whose biases for the longest text stay in memory: 256 MiB.
const MAX_ALIBI_SCORES: usize = 1 << 26;
/// Upper limit on RoPE bases, far above the 10,000,000 of published models.
const MAX_ROPE_THETA: f64 = 1e12;
/// Upper limit on the factor of NTK scaling; published GTE models have 2 and 8.
const MAX_NTK_FACTOR: f64 = 64.0;

/// The checked numbers that all architectures have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) architecture: Architecture,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f64,
    pub(super) hidden_act: Activation,
}

/// What candle-transformers needs to know of a model.
#[derive(Debug, Clone)]
pub(crate) struct LibraryConfig {
    /// Tokens of the longest text.
    pub(crate) positions: usize,
    /// The network and its own configuration.
    pub(crate) network: LibraryNetwork,
}

/// A network of candle-transformers and its configuration.
#[derive(Debug, Clone)]
pub(crate) enum LibraryNetwork {
    /// DeBERTa, versions 2 and 3, and the activation behind its pooler.
    Deberta(Box<debertav2::Config>, Activation),
    /// NomicBERT.
    Nomic(nomic_bert::Config),
    /// JinaBERT.
    Jina(jina_bert::Config),
    /// GTE, which is the encoder of Stella in 400M size.
    Gte(stella_en_v5::Config),
    /// Qwen 2 and what is like it.
    Qwen2 {
        /// Its configuration.
        config: qwen2::Config,
        /// True if a token attends to those after it as well.
        bidirectional: bool,
    },
    /// Qwen 3.
    Qwen3(qwen3::Config),
}

impl LibraryConfig {
    /// Reads the keys of an architecture that candle-transformers computes; `None` for the others.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub(super) fn of(common: &Sizes, file: &Value) -> Result<Option<Self>> {
        let alibi = common.architecture == Architecture::JinaBert;
        let scores = if alibi { MAX_ALIBI_SCORES } else { MAX_ROW_SCORES };
        let longest = (scores / common.num_attention_heads).isqrt();
        let mut positions = common.max_position_embeddings.min(longest);
        let network = match common.architecture {
            Architecture::DebertaV2 => deberta(common, file)?,
            Architecture::NomicBert => {
                positions = positions.min(unscaled_positions(file)?);
                nomic(common, file, positions)?
            }
            Architecture::JinaBert => jina(common, file, positions)?,
            Architecture::Gte => gte(common, file, positions)?,
            Architecture::Qwen2 | Architecture::Mistral => decoder::qwen2(common, file, positions)?,
            Architecture::Qwen3 => decoder::qwen3(common, file, positions)?,
            _ => return Ok(None),
        };
        Ok(Some(Self { positions, network }))
    }
}

/// A key of the file; `null` counts as left out.
fn key<'f>(file: &'f Value, name: &str) -> Option<&'f Value> {
    file.get(name).filter(|value| !value.is_null())
}

/// Checks that keys have the only value that is computed, or are left out.
fn expect_only(file: &Value, expected: &[(&str, Value)]) -> Result<()> {
    for (name, only) in expected {
        let found = key(file, name).unwrap_or(&Value::Null);
        // 1 and 1.0 are the same number.
        let equal = found == only || found.as_f64().is_some_and(|number| only.as_f64() == Some(number));
        ensure!(found.is_null() || equal, "invalid {name} `{found}`: expected {only}");
    }
    Ok(())
}

fn flag(file: &Value, name: &str) -> Result<bool> {
    let Some(value) = key(file, name) else { return Ok(false) };
    value.as_bool().with_context(|| format!("invalid {name} `{value}`: expected true or false"))
}

fn number(file: &Value, name: &str, default: f64, max: f64) -> Result<f64> {
    let Some(value) = key(file, name) else { return Ok(default) };
    let number = value.as_f64().filter(|number| (1.0..=max).contains(number));
    number.with_context(|| format!("invalid {name} `{value}`: expected 1 to {max}"))
}

/// Base of the rotary positions; newer versions of transformers have it inside of another key.
fn rope_theta(file: &Value, name: &str, default: f64) -> Result<f64> {
    let Some(newer) = key(file, "rope_parameters") else {
        return number(file, name, default, MAX_ROPE_THETA);
    };
    expect_only(newer, &[("rope_type", json!("default"))]).context("rope_parameters")?;
    number(newer, "rope_theta", default, MAX_ROPE_THETA).context("rope_parameters")
}

/// Checks that a head has an even number of values, which rotary positions turn in pairs.
fn check_rotary(common: &Sizes) -> Result<()> {
    let size = common.hidden_size / common.num_attention_heads;
    ensure!(size.is_multiple_of(2), "invalid heads of {size} values: expected an even number");
    Ok(())
}

fn deberta(common: &Sizes, file: &Value) -> Result<LibraryNetwork> {
    let convolution = key(file, "conv_kernel_size").filter(|size| size.as_u64() != Some(0));
    if let Some(size) = convolution {
        bail!("invalid conv_kernel_size `{size}`: expected 0, as candle-transformers has no convolution");
    }
    let head_size = common.hidden_size / common.num_attention_heads;
    expect_only(file, &[("attention_head_size", json!(head_size))])?;
    let norm = key(file, "norm_rel_ebd").and_then(Value::as_str).unwrap_or("none").trim();
    ensure!(
        ["none", "layer_norm"].contains(&norm),
        "invalid norm_rel_ebd `{norm}`: expected none or layer_norm"
    );
    let pooler = key(file, "pooler_hidden_act").cloned().unwrap_or_else(|| json!("gelu"));
    let pooler = serde_json::from_value(pooler).context("invalid pooler_hidden_act")?;
    let config = debertav2::Config {
        relative_attention: flag(file, "relative_attention")?,
        max_relative_positions: distance(file, "max_relative_positions")?,
        // True by default, as in transformers.
        position_biased_input: key(file, "position_biased_input").is_none_or(|value| *value != json!(false)),
        pos_att_type: attention_terms(file)?,
        position_buckets: Some(distance(file, "position_buckets")?),
        share_att_key: Some(flag(file, "share_att_key")?),
        embedding_size: Some(embedding_size(common, file)?),
        norm_rel_ebd: Some(norm.to_owned()),
        ..plain_deberta(common)?
    };
    Ok(LibraryNetwork::Deberta(Box::new(config), pooler))
}

/// DeBERTa by the keys that BERT has too, without attention by distance.
fn plain_deberta(common: &Sizes) -> Result<debertav2::Config> {
    Ok(debertav2::Config {
        vocab_size: common.vocab_size,
        hidden_size: common.hidden_size,
        num_hidden_layers: common.num_hidden_layers,
        num_attention_heads: common.num_attention_heads,
        intermediate_size: common.intermediate_size,
        hidden_act: deberta_activation(common.hidden_act)?,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        max_position_embeddings: common.max_position_embeddings,
        type_vocab_size: common.type_vocab_size,
        initializer_range: 0.0,
        layer_norm_eps: common.layer_norm_eps,
        relative_attention: false,
        max_relative_positions: -1,
        pad_token_id: None,
        position_biased_input: true,
        pos_att_type: Vec::new(),
        position_buckets: None,
        share_att_key: None,
        attention_head_size: None,
        embedding_size: None,
        norm_rel_ebd: None,
        conv_kernel_size: None,
        conv_groups: None,
        conv_act: None,
        id2label: None,
        label2id: None,
        pooler_dropout: None,
        pooler_hidden_act: None,
        pooler_hidden_size: None,
        cls_dropout: None,
    })
}

/// Width of the token embeddings, which a projection brings to that of the network.
fn embedding_size(common: &Sizes, file: &Value) -> Result<usize> {
    let hidden = common.hidden_size;
    let Some(value) = key(file, "embedding_size") else { return Ok(hidden) };
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    let size = size.with_context(|| format!("invalid embedding_size `{value}`: expected a number"))?;
    check_range("embedding_size", size, 1 << 16)?;
    ensure!(
        size == hidden || common.type_vocab_size == 0,
        "invalid embedding_size {size}: expected hidden_size {hidden} with token types"
    );
    Ok(size)
}

fn deberta_activation(activation: Activation) -> Result<debertav2::HiddenAct> {
    match activation {
        Activation::Gelu => Ok(debertav2::HiddenAct::Gelu),
        Activation::GeluNew => Ok(debertav2::HiddenAct::GeluApproximate),
        Activation::Relu => Ok(debertav2::HiddenAct::Relu),
        Activation::Silu => bail!("invalid hidden_act `silu`: expected gelu, gelu_new or relu"),
    }
}

/// A number of positions or buckets; -1 for none.
fn distance(file: &Value, name: &str) -> Result<isize> {
    let Some(value) = key(file, name) else { return Ok(-1) };
    // One bucket has no middle, by whose width DeBERTa divides.
    let found = value.as_i64().filter(|number| *number == -1 || (2..=MAX_POSITIONS as i64).contains(number));
    let found = found.and_then(|number| isize::try_from(number).ok());
    found.with_context(|| format!("invalid {name} `{value}`: expected -1 or 2 to {MAX_POSITIONS}"))
}

/// The terms of attention by distance: a list, or one text with bars.
fn attention_terms(file: &Value) -> Result<Vec<String>> {
    let Some(value) = key(file, "pos_att_type") else { return Ok(Vec::new()) };
    let terms: Vec<String> = match value.as_str() {
        Some(text) => text.to_lowercase().split('|').map(|term| term.trim().to_owned()).collect(),
        None => serde_json::from_value(value.clone()).context("invalid pos_att_type")?,
    };
    ensure!(
        terms.iter().all(|term| term == "c2p" || term == "p2c"),
        "invalid pos_att_type `{value}`: expected c2p and p2c"
    );
    Ok(terms)
}

/// Positions that NomicBERT computes without dynamic scaling, which candle-transformers lacks.
fn unscaled_positions(file: &Value) -> Result<usize> {
    if key(file, "rotary_scaling_factor").is_none() {
        return Ok(MAX_POSITIONS);
    }
    let trained = key(file, "max_trained_positions").and_then(Value::as_u64).filter(|count| *count > 2);
    let trained = trained.and_then(|count| usize::try_from(count).ok());
    trained.context("invalid max_trained_positions: expected a number, as rotary_scaling_factor is set")
}

fn nomic(common: &Sizes, file: &Value, positions: usize) -> Result<LibraryNetwork> {
    check_rotary(common)?;
    let off = json!(false);
    expect_only(
        file,
        &[
            ("activation_function", json!("swiglu")),
            ("hidden_act", json!("silu")),
            ("rotary_emb_fraction", json!(1.0)),
            ("rotary_emb_interleaved", off.clone()),
            ("rotary_emb_scale_base", Value::Null),
            ("prenorm", off.clone()),
            ("parallel_block", off.clone()),
            ("causal", off.clone()),
            ("use_rms_norm", off.clone()),
            ("qkv_proj_bias", off.clone()),
            ("mlp_fc1_bias", off.clone()),
            ("mlp_fc2_bias", off),
            ("num_experts", json!(0)),
            ("moe_every_n_layers", json!(0)),
        ],
    )?;
    Ok(LibraryNetwork::Nomic(nomic_bert::Config {
        vocab_size: common.vocab_size,
        n_embd: common.hidden_size,
        n_head: common.num_attention_heads,
        n_layer: common.num_hidden_layers,
        n_inner: common.intermediate_size,
        n_positions: positions,
        type_vocab_size: common.type_vocab_size,
        layer_norm_epsilon: common.layer_norm_eps,
        rotary_emb_base: rope_theta(file, "rotary_emb_base", 1_000.0)?,
        // Its prefix is found with that of every other checkpoint.
        model_type: None,
        ..nomic_bert::Config::default()
    }))
}

fn jina(common: &Sizes, file: &Value, positions: usize) -> Result<LibraryNetwork> {
    ensure!(
        key(file, "feed_forward_type") == Some(&json!("geglu")),
        "invalid feed_forward_type `{}`: expected geglu",
        file["feed_forward_type"]
    );
    check_range("type_vocab_size", common.type_vocab_size, 1 << 10)?;
    Ok(LibraryNetwork::Jina(jina_bert::Config {
        vocab_size: common.vocab_size,
        hidden_size: common.hidden_size,
        num_hidden_layers: common.num_hidden_layers,
        num_attention_heads: common.num_attention_heads,
        intermediate_size: common.intermediate_size,
        hidden_act: candle_nn::Activation::Gelu,
        max_position_embeddings: positions,
        type_vocab_size: common.type_vocab_size,
        initializer_range: 0.0,
        layer_norm_eps: common.layer_norm_eps,
        pad_token_id: 0,
        position_embedding_type: jina_bert::PositionEmbeddingType::Alibi,
    }))
}

fn gte(common: &Sizes, file: &Value, positions: usize) -> Result<LibraryNetwork> {
    check_rotary(common)?;
    expect_only(
        file,
        &[
            ("layer_norm_type", json!("layer_norm")),
            ("logn_attention_scale", json!(false)),
            ("pack_qkv", json!(true)),
        ],
    )?;
    let scaling = key(file, "rope_scaling").unwrap_or(&Value::Null);
    expect_only(scaling, &[("type", json!("ntk")), ("mixed_b", Value::Null)]).context("rope_scaling")?;
    let factor = number(scaling, "factor", 1.0, MAX_NTK_FACTOR).context("rope_scaling")?;
    Ok(LibraryNetwork::Gte(stella_en_v5::Config {
        variant: stella_en_v5::ModelVariant::Small,
        vocab_size: common.vocab_size,
        hidden_size: common.hidden_size,
        intermediate_size: common.intermediate_size,
        num_hidden_layers: common.num_hidden_layers,
        num_attention_heads: common.num_attention_heads,
        max_position_embeddings: positions,
        rope_theta: rope_theta(file, "rope_theta", 10_000.0)?,
        norm_eps: common.layer_norm_eps,
        activation_fn: common.hidden_act.library(),
        // It always adds a token type: zeros, if the model has none.
        type_vocab_size: common.type_vocab_size.max(1),
        scaling_factor: factor,
        ..stella_en_v5::Config::default()
    }))
}
