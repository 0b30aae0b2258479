//! Packages of sentence-transformers: settings and modules that are read, and those refused.
//!
//! A package is a folder of JSON files here; no test needs weights.

use std::fs;

use serde_json::json;

use super::*;

fn with_files(files: &[(&str, serde_json::Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }
    dir
}

#[test]
fn sentence_settings_follow_the_package() {
    fn module(kind: &str, path: &str) -> serde_json::Value {
        json!({"idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{kind}")})
    }
    let bare = SentenceTransformersConfig::read(with_files(&[]).path(), "org/plain", 8).unwrap();
    assert_eq!((bare.pooling, bare.normalize, bare.max_seq_length), (Pooling::Mean, true, None));
    assert!(bare.prompts.is_empty());

    let dir = with_files(&[
        ("modules.json", json!([module("Transformer", ""), module("Pooling", "1_Pooling")])),
        ("1_Pooling/config.json", json!({"word_embedding_dimension": 8, "pooling_mode_cls_token": true})),
        ("sentence_bert_config.json", json!({"max_seq_length": 128, "do_lower_case": true})),
        ("config_sentence_transformers.json", json!({"prompts": {"q": "ask "}, "default_prompt_name": "q"})),
    ]);
    let settings = SentenceTransformersConfig::read(dir.path(), "org/plain", 8).unwrap();
    let expected = SentenceTransformersConfig {
        pooling: Pooling::Cls,
        modules: Vec::new(),
        normalize: false,
        dimensions: 8,
        max_seq_length: Some(128),
        lowercase: true,
        prompts: BTreeMap::from([("q".to_owned(), "ask ".to_owned())]),
        default_prompt: Some("q".to_owned()),
    };
    assert_eq!(settings, expected);
    let error = SentenceTransformersConfig::read(dir.path(), "org/plain", 9).unwrap_err();
    assert!(format!("{error:#}").contains("the dimension is 8"), "{error:#}");
}

#[test]
fn unserved_packages_are_refused() {
    fn check(files: &[(&str, serde_json::Value)], part: &str) {
        let error = SentenceTransformersConfig::read(with_files(files).path(), "org/plain", 8).unwrap_err();
        assert!(format!("{error:#}").contains(part), "{error:#}");
    }
    let first = json!([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]);
    check(&[("modules.json", first)], "invalid module `sentence_transformers.models.Dense` at index 0");
    let max = json!({"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true});
    check(&[("1_Pooling/config.json", max)], "invalid pooling `max and mean`: expected one mode");
    check(&[("1_Pooling/config.json", json!({"pooling_mode": "median"}))], "1_Pooling/config.json");
    check(&[("1_Pooling/config.json", json!({"include_prompt": false}))], "include_prompt");
    check(
        &[("config_sentence_transformers.json", json!({"default_prompt_name": "q"}))],
        "default_prompt_name",
    );
}

#[test]
fn modules_follow_the_pooling() {
    let listed = |kinds: &[&str]| {
        let entry = |(place, kind): (usize, &&str)| json!({"path": format!("{place}_{kind}"), "type": format!("x.{kind}")});
        json!(kinds.iter().enumerate().map(entry).collect::<Vec<_>>())
    };
    let read = |kinds: &[&str], dense: serde_json::Value| {
        let dir = with_files(&[("modules.json", listed(kinds)), ("2_Dense/config.json", dense)]);
        SentenceTransformersConfig::read(dir.path(), "org/plain", 8)
    };
    let config = json!({"in_features": 8, "out_features": 3, "activation_function": "torch.nn.modules.activation.GELU"});
    let kinds = ["Transformer", "Pooling", "Dense", "LayerNorm", "Normalize"];
    let settings = read(&kinds, config).unwrap();
    assert_eq!((settings.dimensions, settings.normalize, settings.modules.len()), (3, true, 2));
    let expected = Module::Dense {
        folder: "2_Dense".to_owned(),
        inputs: 8,
        outputs: 3,
        bias: true,
        activation: DenseActivation::Gelu,
    };
    assert_eq!(settings.modules[0], expected);
    let fails = |dense: serde_json::Value, part: &str| {
        let error = format!("{:#}", read(&kinds[..3], dense).unwrap_err());
        assert!(error.contains(part), "{error}");
    };
    fails(
        json!({"in_features": 9, "out_features": 3}),
        "2_Dense/config.json: invalid in_features 9, out_features 3: its input has 8 values",
    );
    fails(json!({"in_features": 8}), "2_Dense/config.json");
    let mish = json!({"in_features": 8, "out_features": 3, "activation_function": "torch.nn.Mish"});
    fails(mish, "invalid activation_function `torch.nn.Mish`");
    fails(json!({"in_features": 8, "out_features": 3, "use_residual": true}), "invalid use_residual true");
}

#[test]
fn e5_models_bring_their_prompts() {
    fn check(name: &str, expected: usize) {
        let settings = SentenceTransformersConfig::read(with_files(&[]).path(), name, 8).unwrap();
        assert_eq!(settings.prompts.len(), expected, "{name}");
    }
    check("intfloat/multilingual-e5-base", 2);
    check("intfloat/e5-small-v2", 2);
    check("intfloat/multilingual-e5-large-instruct", 0);
    check("org/bge-m3", 0);
}
