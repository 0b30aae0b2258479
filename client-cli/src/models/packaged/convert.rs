//! Converts the package's container to a model's files as a hub publishes them.
//!
//! The result is deterministic; its checksums are pinned in `packaged`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use super::charsmap;
use super::container::{Container, Special, Stored, write_f16};

/// Writes `config.json`, `tokenizer.json`, `model.safetensors` and the files of
/// sentence-transformers that define the pooling.
///
/// # Errors
/// If the container lacks a tensor or the folder cannot be written.
pub(super) fn write_model(container: &Container<'_>, folder: &Path) -> anyhow::Result<()> {
    write_json(&folder.join("config.json"), &config(container))?;
    write_descriptions(container, Letters::AsWritten, folder)?;
    write_weights(container, &folder.join("model.safetensors"))
}

/// How a tokenizer reads capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// As pieces of their own.
    AsWritten,
    /// As the small letters.
    Small,
}

/// Writes every file but `config.json` and the weights.
///
/// # Errors
/// If the folder cannot be written.
pub(super) fn write_descriptions(
    container: &Container<'_>,
    letters: Letters,
    folder: &Path,
) -> anyhow::Result<()> {
    write_json(&folder.join("tokenizer.json"), &tokenizer(container, letters))?;
    write_json(&folder.join("tokenizer_config.json"), &tokenizer_config(container))?;
    write_json(&folder.join("modules.json"), &modules())?;
    fs::create_dir_all(folder.join("1_Pooling"))?;
    write_json(&folder.join("1_Pooling/config.json"), &pooling(container))
}

/// Writes a file of JSON with a line end.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The configuration of the network, as `config.json` has it.
pub(super) fn config(container: &Container<'_>) -> Value {
    let sizes = container.sizes;
    json!({
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.feed_forward,
        // By way of decimal text, since 1e-12 as f32 is not 1e-12 as f64.
        "layer_norm_eps": container.epsilon.to_string().parse::<f64>().unwrap_or(1e-12),
        "max_position_embeddings": sizes.positions,
        "model_type": "bert",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        // As published: positions of a BERT count from 0, and the tokenizer defines its own
        // padding.
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "tokenizer_class": "XLMRobertaTokenizer",
        "torch_dtype": "float16",
        "type_vocab_size": sizes.types,
        "vocab_size": sizes.vocabulary,
    })
}

fn tokenizer_config(container: &Container<'_>) -> Value {
    json!({
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": container.sizes.positions,
        "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
        "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
    })
}

fn modules() -> Value {
    json!([
        module(0, "", "Transformer"),
        module(1, "1_Pooling", "Pooling"),
        module(2, "2_Normalize", "Normalize")
    ])
}

fn module(index: usize, path: &str, kind: &str) -> Value {
    let kind = format!("sentence_transformers.models.{kind}");
    json!({ "idx": index, "name": index.to_string(), "path": path, "type": kind })
}

fn pooling(container: &Container<'_>) -> Value {
    json!({
        "word_embedding_dimension": container.sizes.hidden,
        "pooling_mode_cls_token": false,
        "pooling_mode_mean_tokens": true,
        "pooling_mode_max_tokens": false,
        "pooling_mode_mean_sqrt_len_tokens": false,
    })
}

/// The tokens that are recognised before the model splits a text, by id.
fn added_tokens(container: &Container<'_>) -> Vec<Value> {
    let Special { begin, end, pad, unknown } = container.special;
    // Not among the special ids of the container; it is the last piece of that name.
    let mask = container.pieces.iter().rposition(|(piece, _)| piece == "<mask>");
    let ids = [Some(begin), Some(pad), Some(end), Some(unknown), mask];
    let mut ids: Vec<usize> = ids.into_iter().flatten().collect();
    ids.sort_unstable();
    let tokens = ids.into_iter().map(|id| {
        let content = &container.pieces[id].0;
        json!({ "id": id, "content": content, "single_word": false, "lstrip": Some(id) == mask,
                "rstrip": false, "normalized": false, "special": true })
    });
    tokens.collect()
}

/// The special tokens around one text and around a pair, as XLM-RoBERTa has them: two `</s>` are
/// between the texts of a pair.
fn template(Special { begin, end, .. }: Special) -> Value {
    let (first, last) = (special_token("<s>"), special_token("</s>"));
    json!({
        "type": "TemplateProcessing",
        "single": [first, sequence("A"), last],
        "pair": [first, sequence("A"), last, last, sequence("B"), last],
        "special_tokens": {
            "<s>": { "id": "<s>", "ids": [begin], "tokens": ["<s>"] },
            "</s>": { "id": "</s>", "ids": [end], "tokens": ["</s>"] },
        },
    })
}

fn special_token(token: &str) -> Value {
    json!({ "SpecialToken": { "id": token, "type_id": 0 } })
}

fn sequence(name: &str) -> Value {
    json!({ "Sequence": { "id": name, "type_id": 0 } })
}

/// The tokenizer in the same parts as that of XLM-RoBERTa: the map of the normalizer, collapsing of
/// blanks, word-start marks, and a unigram model.
fn tokenizer(container: &Container<'_>, letters: Letters) -> Value {
    let map = STANDARD.encode(charsmap::compile(&with_compositions(&container.normaliser)));
    let mut normalizers = vec![
        json!({ "type": "Precompiled", "precompiled_charsmap": map }),
        json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }),
    ];
    normalizers.extend((letters == Letters::Small).then(|| json!({ "type": "Lowercase" })));
    let mark = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(container),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": mark,
        "post_processor": template(container.special),
        "decoder": mark,
        "model": {
            "type": "Unigram",
            "unk_id": container.special.unknown,
            "vocab": container.pieces.iter().map(|(piece, score)| json!([piece, f64::from(*score)])).collect::<Vec<_>>(),
            "byte_fallback": false,
        },
    })
}

/// Adds the letters that can be written as a letter and a combining mark.
///
/// The package has only single code points, while the map of SentencePiece (`nmt_nfkc`) also
/// composes. Of those entries the `tokenizers` library can reach the ones with two code points,
/// with the mark in any of its canonical forms.
fn with_compositions(single: &BTreeMap<char, String>) -> BTreeMap<String, String> {
    /// Combining marks whose canonical form is another mark (Unicode, singleton decompositions).
    const MARKS: [(char, char); 3] = [('\u{340}', '\u{300}'), ('\u{341}', '\u{301}'), ('\u{343}', '\u{313}')];
    let mut map: BTreeMap<String, String> =
        single.iter().map(|(from, to)| (from.to_string(), to.clone())).collect();
    for composed in '\u{80}'..=char::MAX {
        let parts: Vec<char> = std::iter::once(composed).nfd().collect();
        let [letter, mark] = parts[..] else { continue };
        let is_syllable = ('\u{AC00}'..='\u{D7A3}').contains(&composed);
        // Those that Unicode excludes from composition stay in two in the normal form.
        if is_syllable || !parts.iter().copied().nfc().eq([composed]) {
            continue;
        }
        let to = single.get(&composed).cloned().unwrap_or_else(|| composed.to_string());
        let others = MARKS.into_iter().filter(|(_, canonical)| *canonical == mark).map(|(other, _)| other);
        for mark in others.chain([mark]) {
            map.insert(format!("{letter}{mark}"), to.clone());
        }
    }
    map
}

/// A tensor of the checkpoint: its names as published and in the container, its shape and storage.
pub(super) struct Tensor {
    pub(super) published: String,
    pub(super) packaged: String,
    pub(super) shape: Vec<usize>,
    pub(super) stored: Stored,
}

fn tensor(published: String, packaged: String, shape: &[usize], stored: Stored) -> Tensor {
    Tensor { published, packaged, shape: shape.to_vec(), stored }
}

/// Weight and bias of a layer norm.
fn norm(published: &str, packaged: &str, hidden: usize) -> [Tensor; 2] {
    [("weight", "w"), ("bias", "b")].map(|(name, short)| {
        tensor(format!("{published}.{name}"), format!("{packaged}.{short}"), &[hidden], Stored::F32)
    })
}

/// The tensors of the container, in the order of the network.
pub(super) fn tensors(container: &Container<'_>) -> Vec<Tensor> {
    let sizes = container.sizes;
    let (hidden, wide) = (sizes.hidden, sizes.feed_forward);
    let mut all = Vec::new();
    let tables = [
        ("word_embeddings", "emb.word", sizes.vocabulary, Stored::Q4),
        ("position_embeddings", "emb.pos", sizes.positions, Stored::F32),
        ("token_type_embeddings", "emb.type", sizes.types, Stored::F32),
    ];
    for (published, packaged, rows, stored) in tables {
        let published = format!("embeddings.{published}.weight");
        all.push(tensor(published, packaged.to_owned(), &[rows, hidden], stored));
    }
    all.extend(norm("embeddings.LayerNorm", "emb.ln", hidden));
    for layer in 0..sizes.layers {
        let (published, packaged) = (format!("encoder.layer.{layer}"), format!("l{layer}"));
        let products = [
            ("attention.self.query", "q", hidden, hidden),
            ("attention.self.key", "k", hidden, hidden),
            ("attention.self.value", "v", hidden, hidden),
            ("attention.output.dense", "ao", hidden, hidden),
            ("intermediate.dense", "fi", wide, hidden),
            ("output.dense", "fo", hidden, wide),
        ];
        for (name, short, rows, columns) in products {
            let (name, short) = (format!("{published}.{name}"), format!("{packaged}.{short}"));
            all.push(tensor(format!("{name}.weight"), format!("{short}.w"), &[rows, columns], Stored::Q4));
            all.push(tensor(format!("{name}.bias"), format!("{short}.b"), &[rows], Stored::F32));
        }
        all.extend(norm(
            &format!("{published}.attention.output.LayerNorm"),
            &format!("{packaged}.aln"),
            hidden,
        ));
        all.extend(norm(&format!("{published}.output.LayerNorm"), &format!("{packaged}.oln"), hidden));
    }
    all
}

fn write_weights(container: &Container<'_>, path: &Path) -> anyhow::Result<()> {
    let tensors = tensors(container);
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|tensor| Entry { name: tensor.published.clone(), dtype: "F16", shape: tensor.shape.clone() })
        .collect();
    write_safetensors(path, &entries, |index| as_f16(container, &tensors[index]))
}

/// The bytes of a tensor as f16.
///
/// # Errors
/// If the container lacks it or has another size.
pub(super) fn as_f16(container: &Container<'_>, tensor: &Tensor) -> anyhow::Result<Vec<u8>> {
    let values = tensor.shape.iter().product();
    let bytes = container.tensor(&tensor.packaged, values, tensor.stored)?;
    let mut written = Vec::with_capacity(2 * values);
    write_f16(tensor.stored, bytes, |value| written.extend_from_slice(value));
    Ok(written)
}

/// A tensor of a file that is written; its type is F16 or I8.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    pub(super) shape: Vec<usize>,
}

/// Writes a safetensors file; `bytes` gives those of an entry by its number.
///
/// # Errors
/// If the file cannot be written, or those of `bytes`.
pub(super) fn write_safetensors(
    path: &Path,
    entries: &[Entry],
    mut bytes: impl FnMut(usize) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    let mut header = serde_json::Map::new();
    let mut end = 0_usize;
    for entry in entries {
        let start = end;
        let width = if entry.dtype == "I8" { 1 } else { 2 };
        end += width * entry.shape.iter().product::<usize>();
        let described = json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, end] });
        header.insert(entry.name.clone(), described);
    }
    let mut header = serde_json::to_vec(&header)?;
    // The safetensors format requires the data to start at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let cannot = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(fs::File::create(path).with_context(cannot)?);
    file.write_all(&u64::try_from(header.len())?.to_le_bytes()).with_context(cannot)?;
    file.write_all(&header).with_context(cannot)?;
    for index in 0..entries.len() {
        file.write_all(&bytes(index)?).with_context(cannot)?;
    }
    // `into_inner` writes the rest and reports the error, which a drop would hide.
    file.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .with_context(cannot)
}
