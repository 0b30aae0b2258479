//! `config.json` of decoders: defaults by family, and numbers that no model can have.
//!
//! Each case changes one key of a small Llama configuration.

use super::*;
use crate::kernels::math::Activation;
use crate::kernels::paged::AttentionShape;

fn config() -> Value {
    json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16, "vocab_size": 9,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu"
    })
}

fn with(change: &Value) -> Result<DecoderConfig> {
    let mut value = config();
    for (key, new) in change.as_object().unwrap() {
        value[key] = new.clone();
    }
    DecoderConfig::from_json(value)
}

#[test]
fn configs_are_checked() {
    fn check(change: Value, part: &str) {
        let error = format!("{:#}", with(&change).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    check(json!({"model_type": "mamba"}), "invalid model_type `mamba`: expected qwen2");
    check(
        json!({"num_key_value_heads": 3}),
        "invalid num_attention_heads 4: expected a multiple of num_key_value_heads 3",
    );
    check(json!({"vocab_size": 0}), "invalid vocab_size 0");
    check(json!({"head_dim": 3}), "invalid head_dim 3");
    check(json!({"hidden_act": "mish"}), "mish");
    check(json!({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}), "invalid rope type `longrope`");
    check(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}),
        "original_max_position_embeddings",
    );
    check(
        json!({"rope_scaling": {
            "rope_type": "llama3", "original_max_position_embeddings": 64, "low_freq_factor": 4.0
        }}),
        "invalid high_freq_factor 4 in rope_scaling: expected more than low_freq_factor 4",
    );
    check(json!({"layer_types": ["full_attention"]}), "invalid layer_types of length 1: expected 2");
    check(json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping is not supported");
}

/// Whether or not the numbers were checked before.
#[test]
fn no_heads_are_refused() {
    for key in ["num_attention_heads", "num_key_value_heads"] {
        let mut value = config();
        value[key] = json!(0);
        let file: HuggingFaceConfig = serde_json::from_value(value).unwrap();
        let error = file.heads().unwrap_err().to_string();
        assert!(error.starts_with(&format!("invalid {key} 0: expected")), "{error}");
    }
}

#[test]
fn families_differ() {
    let qwen = with(&json!({"model_type": "qwen2", "sliding_window": null})).unwrap();
    assert!(qwen.qkv_bias && !qwen.o_proj_bias && !qwen.tied_embeddings);
    assert_eq!(qwen.heads, AttentionShape { kv_heads: 2, group: 2, size: 2 });
    assert!(qwen.layers.iter().all(|layer| layer.window.is_none()));
    let mistral = with(&json!({"model_type": "mistral", "sliding_window": 8})).unwrap();
    assert!(mistral.layers.iter().all(|layer| layer.window == Some(8)));
    let gemma = with(&json!({
        "model_type": "gemma3_text", "sliding_window": 8, "query_pre_attn_scalar": 16, "head_dim": 4,
        "sliding_window_pattern": 2, "hidden_act": null, "hidden_activation": "gelu_pytorch_tanh"
    }))
    .unwrap();
    assert!(gemma.tied_embeddings && gemma.score_scale == 0.25 && gemma.activation == Activation::GeluTanh);
    assert_eq!(gemma.layers.iter().map(|layer| layer.window).collect::<Vec<_>>(), [Some(8), None]);
    assert!(gemma.rope.frequencies[1] < gemma.local_rope.frequencies[1]);
    let nested =
        json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 16}});
    assert_eq!(with(&nested).unwrap().hidden, 16);
}

/// As google/gemma-3-4b-it has it.
#[test]
fn what_a_gemma3_does_not_say_is_known() {
    let published = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 106],
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
        },
        "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27}
    });
    let config = DecoderConfig::from_json(published).unwrap();
    assert_eq!((config.vocabulary, config.hidden, config.layers.len()), (262_208, 2_560, 34));
    assert_eq!(config.heads, AttentionShape { kv_heads: 4, group: 2, size: 256 });
    assert_eq!((config.context, config.score_scale, config.tied_embeddings), (131_072, 1.0 / 16.0, true));
    assert_eq!(config.layers.iter().filter(|layer| layer.window == Some(1_024)).count(), 29);
}

#[test]
fn numbers_that_no_model_has_are_refused() {
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ] {
        for value in [0, 1_u64 << 40, 1 << 61, u64::MAX] {
            let error = format!("{:#}", with(&json!({key: value})).unwrap_err());
            assert!(error.contains(key) && error.contains("expected 1 to"), "{error}");
        }
    }
    let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 1e30}});
    assert!(format!("{:#}", with(&yarn).unwrap_err()).contains("by its factor"));
}

#[test]
fn old_and_new_names_of_rope_settings_mean_the_same() {
    let old = json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}});
    let new = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}});
    let (old, new) = (with(&old).unwrap(), with(&new).unwrap());
    assert_eq!(old.rope, new.rope);
    assert_eq!(old.rope.frequencies[0], 0.5);
    let both = |kind: Value| json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "rope_type": kind, "factor": 2.0}});
    assert_eq!(with(&both(json!("linear"))).unwrap().rope, old.rope);
    assert_eq!(with(&both(Value::Null)).unwrap().rope, old.rope);
    assert_ne!(with(&both(json!("default"))).unwrap().rope, old.rope);
}
