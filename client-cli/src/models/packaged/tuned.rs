//! The encoder of our own: the packaged one with the pieces of the vocabulary that it keeps and the
//! differences that it has learned.
//!
//! Its weights are stored in 8 bits with one factor for each row, as compressed-tensors writes
//! them. Its tokenizer makes letters small: advertisements write whole sections in capitals. The
//! result is deterministic; its checksums are pinned in `packaged`.

mod difference;

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::container::Container;
use super::convert::{self, Entry, Tensor};
use difference::Difference;

/// The learned differences, described in `client-cli/encoder/README.md`.
const DIFFERENCE: &[u8] = include_bytes!("../../../encoder/difference.safetensors");
/// The kept pieces: a line for each with its id, a tabulator and its text, by rising id.
const PIECES: &[u8] = include_bytes!("../../../encoder/pieces.tsv.gz");
/// Largest quantized value; symmetric, so -128 is not used.
const LARGEST: f32 = 127.0;
/// Name of the word embeddings, of which the kept rows are written.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Writes the files of the model, as `convert` does those of the untrained one.
///
/// # Errors
/// If container and differences do not fit each other, or the folder cannot be written.
pub(super) fn write_model(container: &Container<'_>, folder: &Path) -> anyhow::Result<()> {
    let kept = kept_pieces(container)?;
    let cut = container.cut(&kept)?;
    convert::write_json(&folder.join("config.json"), &config(&cut))?;
    convert::write_json(&folder.join("config_sentence_transformers.json"), &prompts())?;
    convert::write_descriptions(&cut, convert::Letters::Small, folder)?;
    let difference = Difference::read(DIFFERENCE)?;
    let mut entries = Vec::new();
    let mut contents = Vec::new();
    for tensor in convert::tensors(container) {
        for (entry, bytes) in tuned(container, &difference, &kept, tensor)? {
            entries.push(entry);
            contents.push(bytes);
        }
    }
    convert::write_safetensors(&folder.join("model.safetensors"), &entries, |index| {
        Ok(std::mem::take(&mut contents[index]))
    })
}

/// Ids of the kept pieces, whose texts must be those of the container.
fn kept_pieces(container: &Container<'_>) -> anyhow::Result<Vec<usize>> {
    let mut text = String::new();
    GzDecoder::new(PIECES).read_to_string(&mut text)?;
    let mut kept = Vec::new();
    for line in text.lines() {
        let (id, piece) = line.split_once('\t').context("a line of the pieces has no tabulator")?;
        let id: usize = id.parse().with_context(|| format!("invalid id of a piece {id}"))?;
        let found = container.pieces.get(id).map(|(piece, _)| piece.as_str());
        ensure!(found == Some(piece), "piece {id} is {found:?} in the package, expected {piece:?}");
        ensure!(kept.last().is_none_or(|last| *last < id), "piece {id} is out of order");
        kept.push(id);
    }
    Ok(kept)
}

/// The network's configuration, with the entry by which readers of compressed-tensors recognise the
/// format of the weights.
fn config(cut: &Container<'_>) -> Value {
    let mut config = convert::config(cut);
    config["quantization_config"] = json!({
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": { "group_0": {
            "targets": ["Linear", "re:.*word_embeddings"],
            "weights": { "num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel" },
        }},
        "ignore": [],
    });
    config
}

/// Stored texts and queries were trained under the same prompt.
fn prompts() -> Value {
    json!({ "prompts": { "query": "query: ", "passage": "query: " } })
}

/// A tensor as it is written: weights of products and words with factors, learned norms, and
/// everything else as it was.
fn tuned(
    container: &Container<'_>,
    difference: &Difference<'_>,
    kept: &[usize],
    tensor: Tensor,
) -> anyhow::Result<Vec<(Entry, Vec<u8>)>> {
    let Tensor { published, shape, .. } = &tensor;
    if published == WORDS {
        let columns = shape[1];
        let words = convert::as_f16(container, &tensor)?;
        let row = 2 * columns;
        let rows: Vec<u8> = kept.iter().flat_map(|id| &words[id * row..][..row]).copied().collect();
        return Ok(quantized(published, &mut floats(&rows), columns));
    }
    if let Some(factors) = difference.factors(published, shape)? {
        let mut weights = floats(&convert::as_f16(container, &tensor)?);
        factors.add_to(&mut weights);
        return Ok(quantized(published, &mut weights, shape[1]));
    }
    let bytes = match difference.learned(published, shape)? {
        Some(bytes) => bytes.to_vec(),
        None => convert::as_f16(container, &tensor)?,
    };
    Ok(vec![(Entry { name: published.clone(), dtype: "F16", shape: shape.clone() }, bytes)])
}

/// The values of f16 numbers.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|pair| half::f16::from_le_bytes(*pair).to_f32()).collect()
}

/// Rows as integers of 8 bits, and the factors that give them back.
fn quantized(name: &str, weights: &mut [f32], columns: usize) -> Vec<(Entry, Vec<u8>)> {
    let rows = weights.len() / columns;
    let mut integers = Vec::with_capacity(weights.len());
    let mut factors = Vec::with_capacity(2 * rows);
    for row in weights.chunks_exact(columns) {
        let largest = row.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
        let factor = half::f16::from_f32(largest / LARGEST);
        factors.extend(factor.to_le_bytes());
        // A row of zeros has the factor 0 and stays one.
        let inverse = if largest == 0.0 { 0.0 } else { factor.to_f32().recip() };
        integers.extend(row.iter().map(|value| nearest(value * inverse).to_le_bytes()[0]));
    }
    let shape = vec![rows, columns];
    vec![
        (Entry { name: name.to_owned(), dtype: "I8", shape }, integers),
        (Entry { name: format!("{name}_scale"), dtype: "F16", shape: vec![rows, 1] }, factors),
    ]
}

/// The nearest integer, halves away from zero.
#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of the type before")]
fn nearest(value: f32) -> i8 {
    value.round().clamp(-LARGEST, LARGEST) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_within_half_a_step() {
        let mut weights = [0.5, -1.27, 0.004, 0.0, 0.0, 0.0];
        let written = quantized("w", &mut weights, 3);
        let [(entry, integers), (_, factors)] = &written[..] else { panic!("two tensors") };
        assert_eq!((entry.dtype, &entry.shape), ("I8", &vec![2, 3]));
        let factors = floats(factors);
        for (index, value) in weights.iter().enumerate() {
            let factor = factors[index / 3];
            let back = f32::from(integers[index].cast_signed()) * factor;
            assert!((back - value).abs() <= factor / 2.0 + 1e-6, "{value} {back}");
        }
        assert_eq!(factors[1], 0.0);
    }
}
