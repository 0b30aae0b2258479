//! Model directories as they are published, in forms that none of the fixtures has.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use observatory_inference::testing::registry::load;
use observatory_proto::inference::v1 as pb;
use serde_json::{Value, json};

use crate::store::edit;
use crate::support::{Running, config, device, reference, store};

const GEMMA: &str = "golden/gemma3";

/// Renames the tensors of a checkpoint.
fn rename(file: &Path, name: impl Fn(&str) -> String) {
    let bytes = fs::read(file).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: HashMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let renamed = header.into_iter().map(|(tensor, value)| {
        let kept = tensor.starts_with("__");
        (if kept { tensor } else { name(&tensor) }, value)
    });
    let header = serde_json::to_vec(&renamed.collect::<HashMap<_, _>>()).unwrap();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(&bytes[8 + length..]);
    fs::write(file, out).unwrap();
}

/// The text that a language model writes without chance.
async fn written(store: tempfile::TempDir) -> String {
    let server = observatory_inference::Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, Some(store)).await;
    running.loaded().await;
    let settings = pb::GenerationSettings {
        model: reference(GEMMA),
        limits: Some(pb::GenerationLimits { max_new_tokens: 12, ..Default::default() }),
        ..Default::default()
    };
    let prompt = pb::Prompt { kind: Some(pb::prompt::Kind::Text("hola".to_owned())) };
    let request = pb::GenerateBatchRequest { settings: Some(settings), prompts: vec![prompt] };
    let answer = running.generation().generate_batch(request).await.unwrap().into_inner();
    assert!(answer.texts[0].status.as_ref().unwrap().ok, "{answer:?}");
    answer.texts[0].text.clone()
}

/// gemma-3-1b has a token for the place of a picture, and no vector for it; the larger ones name
/// their tensors after the model that holds the language model.
#[tokio::test]
async fn every_published_gemma3_loads() {
    let expected = written(store(&[GEMMA])).await;
    for prefix in ["language_model.model.", "model.language_model."] {
        let store = store(&[GEMMA]);
        let dir = store.path().join(GEMMA);
        rename(&dir.join("model.safetensors"), |tensor| tensor.replacen("model.", prefix, 1));
        edit(&dir.join("config.json"), |config| {
            let text = config.clone();
            *config = json!({"model_type": "gemma3", "text_config": text, "eos_token_id": 319});
        });
        edit(&dir.join("tokenizer.json"), |tokenizer| {
            let id = 320 + tokenizer["added_tokens"].as_array().unwrap().len();
            let token = json!({"id": id, "content": "<image_soft_token>", "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false});
            tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
        });
        assert_eq!(written(store).await, expected, "{prefix}");
    }
}

#[test]
fn older_encoders_load() {
    let name = "golden/bert";
    let vector = |change: fn(&mut Value)| {
        let store = store(&[name]);
        edit(&store.path().join(name).join("config.json"), change);
        load(store.path(), name, &device()).unwrap().info
    };
    for architecture in [json!(["BertForPreTraining"]), json!(["BertForNextSentencePrediction"]), Value::Null]
    {
        let store = store(&[name]);
        edit(&store.path().join(name).join("config.json"), |config| {
            config["architectures"] = architecture.clone();
        });
        let info = load(store.path(), name, &device()).unwrap().info;
        assert_eq!((info.architecture, info.dimensions), ("bert", 32), "{architecture}");
    }
    let untold = vector(|config| {
        config.as_object_mut().unwrap().remove("model_type");
        config["architectures"] = json!(["BertModel"]);
        config["id2label"] = Value::Null;
    });
    assert_eq!(untold.architecture, "bert");
}

#[test]
fn sentence_packages_with_nulls_load() {
    let name = "golden/bert";
    let store = store(&[name]);
    let dir = store.path().join(name);
    edit(&dir.join("sentence_bert_config.json"), |config| {
        config["max_seq_length"] = Value::Null;
        config["do_lower_case"] = Value::Null;
    });
    let prompts = json!({"prompts": null, "default_prompt_name": null, "similarity_fn_name": null});
    fs::write(dir.join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    load(store.path(), name, &device()).unwrap();
}
