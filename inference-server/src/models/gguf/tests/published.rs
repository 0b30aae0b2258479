//! Vocabularies of published models, fetched by `scripts/fetch-vocabularies`, against the ids that
//! their authors' tokenizers and llama.cpp give.
//!
//! Where the vocabularies are absent, the tests say so and pass.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::super::pre_tokenizer::PreTokenizer;
use super::*;

/// What separates the texts of llama.cpp's test files.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// A file of the fetched vocabularies, or `None` if there are none.
fn fetched(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("OBSERVATORY_VOCABULARIES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/vocabularies")),
        PathBuf::from,
    );
    let path = folder.join(path);
    if !path.exists() {
        eprintln!("skipped: {} is absent; `make setup` fetches it", path.display());
        return None;
    }
    Some(path)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false).unwrap().get_ids().to_vec()
}

/// The ids that llama.cpp's authors recorded from transformers.
#[test]
fn vocabularies_of_llama_cpp_give_the_recorded_ids() {
    let names = [
        "command-r",
        "deepseek-coder",
        "deepseek-llm",
        "falcon",
        "gpt-2",
        "llama-bpe",
        "llama-spm",
        "mpt",
        "phi-3",
        "qwen2",
        "qwen35",
        "refact",
        "starcoder",
    ];
    for name in names {
        let Some(path) = fetched(&format!("llama.cpp/ggml-vocab-{name}.gguf")) else { return };
        let tokenizer = Gguf::open(&path).unwrap().tokenizer().unwrap();
        let texts = fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        let expected = fs::read_to_string(path.with_extension("gguf.out")).unwrap();
        let (texts, expected): (Vec<_>, Vec<_>) =
            (texts.split(SEPARATOR).collect(), expected.lines().collect());
        assert!(texts.len() >= expected.len() && expected.len() > 40, "{name}: {}", expected.len());
        for (text, expected) in texts.iter().zip(expected) {
            let expected: Vec<u32> = expected.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(ids(&tokenizer, text), expected, "{name}: {text:?}");
        }
    }
}

/// What `make_split_goldens.py` wrote: a vocabulary in which another split gives other ids, and the
/// ids of texts by llama.cpp or, where it approximates a pattern, by the tokenizers library.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    rows: Vec<Row>,
    tokens: Vec<String>,
    merges: Vec<String>,
}

/// Names that split these texts alike.
#[derive(Deserialize)]
struct Row {
    names: Vec<String>,
    /// Beginnings of the SHA-256 of the ids of each text.
    digests: Vec<String>,
}

fn expected() -> Expected {
    serde_json::from_str(include_str!("published/splits.json")).unwrap()
}

fn digest(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    hex::encode(Sha256::digest(ids.join(" ")))[..8].to_owned()
}

#[test]
fn every_pre_tokenizer_splits_as_its_reference_does() {
    let expected = expected();
    let mut known: Vec<&str> = PreTokenizer::names().collect();
    let mut tested: Vec<&str> =
        expected.rows.iter().flat_map(|row| row.names.iter().map(String::as_str)).collect();
    known.sort_unstable();
    tested.sort_unstable();
    assert_eq!(tested, known);
    let mut file = opened(
        &[
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.tokens", texts(expected.tokens.iter().map(String::as_str))),
            ("tokenizer.ggml.merges", texts(expected.merges.iter().map(String::as_str))),
        ],
        &[],
    );
    for row in &expected.rows {
        assert_eq!(row.digests.len(), expected.texts.len());
        for name in &row.names {
            file.metadata.insert("tokenizer.ggml.pre".to_owned(), Value::String(name.clone()));
            let tokenizer = file.tokenizer().unwrap();
            for (text, digest_of_text) in expected.texts.iter().zip(&row.digests) {
                let encoding = tokenizer.encode(text.as_str(), false).unwrap();
                let (found, tokens) = (digest(encoding.get_ids()), encoding.get_tokens());
                assert_eq!(&found, digest_of_text, "{name}: {text:?} is {tokens:?}");
            }
        }
    }
}

/// A `tokenizer.json` as its authors published it, written as a GGUF file and read back.
#[test]
fn tokenizers_of_published_models_come_back() {
    for (folder, pre) in [("gpt4o", "gpt-4o"), ("deepseek_v3", "deepseek-v3")] {
        let Some(path) = fetched(&format!("{folder}/tokenizer.json")) else { continue };
        let original = Tokenizer::from_file(path).unwrap();
        let tokenizer = opened(&super::vocabulary::keys(&original, pre), &[]).tokenizer().unwrap();
        for text in &expected().texts {
            assert_eq!(ids(&tokenizer, text), ids(&original, text), "{pre}: {text:?}");
        }
    }
}
