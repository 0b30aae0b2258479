//! A model store with random weights, and texts of a known number of tokens.
//!
//! Speed does not depend on the values of weights, so a bench needs no model from the network.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use observatory_inference::testing::text::{TextTokenizer, Truncation};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tempfile::TempDir;

/// Name of the model.
pub(crate) const MODEL: &str = "bench/random";

const WORDS: [&str; 16] = [
    "gestión",
    "de",
    "proyectos",
    "análisis",
    "datos",
    "SQL",
    "Python",
    "en",
    "la",
    "nube",
    "atención",
    "al",
    "cliente",
    "inglés",
    "ventas",
    "y",
];

/// How large a network is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Shape {
    /// multilingual-e5-base: 12 layers of 768.
    Base,
    /// MiniLM: 6 layers of 384.
    Small,
    /// 2 layers of 128, for a first try.
    Tiny,
}

impl Shape {
    /// Layers, width, heads.
    pub(crate) fn sizes(self) -> (usize, usize, usize) {
        match self {
            Self::Base => (12, 768, 12),
            Self::Small => (6, 384, 12),
            Self::Tiny => (2, 128, 4),
        }
    }
}

/// Numbers that look random and are the same every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number of the sequence.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Evenly spread over `reach` to both sides of `around`.
    fn weights(&mut self, count: usize, around: f32, reach: f32) -> Vec<u8> {
        let weight = |value: u64| around + (value as f32 / (1_u64 << 30) as f32 - 1.0) * reach;
        (0..count).flat_map(|_| weight(self.next()).to_le_bytes()).collect()
    }
}

/// A store with one model of this shape: the tokenizer of a fixture, and so a small vocabulary.
pub(crate) fn store(shape: Shape) -> TempDir {
    let store = tempfile::tempdir().unwrap();
    write_model(store.path(), shape);
    store
}

/// Writes that model into a store.
pub(crate) fn write_model(store: &Path, shape: Shape) {
    let dir = store.join(MODEL);
    fs::create_dir_all(&dir).unwrap();
    let fixture = "../inference-server/tests/goldens/models/golden/tiny-e5";
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    fs::copy(fixture.join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    let (layers, hidden, heads) = shape.sizes();
    let text = fs::read_to_string(fixture.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["hidden_size"] = json!(hidden);
    config["intermediate_size"] = json!(4 * hidden);
    config["num_hidden_layers"] = json!(layers);
    config["num_attention_heads"] = json!(heads);
    config["max_position_embeddings"] = json!(514);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let vocabulary = config["vocab_size"].as_u64().unwrap() as usize;
    write_weights(&dir.join("model.safetensors"), &tensors(layers, hidden, vocabulary));
}

/// Name and shape of every tensor.
fn tensors(layers: usize, hidden: usize, vocabulary: usize) -> BTreeMap<String, Vec<usize>> {
    let inner = 4 * hidden;
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        tensors.insert(format!("{name}.weight"), shape.to_vec());
        if !name.contains("_embeddings") {
            tensors.insert(format!("{name}.bias"), vec![shape[0]]);
        }
    };
    add("embeddings.word_embeddings".to_owned(), &[vocabulary, hidden]);
    add("embeddings.position_embeddings".to_owned(), &[514, hidden]);
    add("embeddings.token_type_embeddings".to_owned(), &[1, hidden]);
    add("embeddings.LayerNorm".to_owned(), &[hidden]);
    for layer in 0..layers {
        let at = format!("encoder.layer.{layer}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            add(format!("{at}.attention.{part}"), &[hidden, hidden]);
        }
        add(format!("{at}.attention.output.LayerNorm"), &[hidden]);
        add(format!("{at}.intermediate.dense"), &[inner, hidden]);
        add(format!("{at}.output.dense"), &[hidden, inner]);
        add(format!("{at}.output.LayerNorm"), &[hidden]);
    }
    tensors
}

fn write_weights(file: &Path, tensors: &BTreeMap<String, Vec<usize>>) {
    let mut random = Random(1);
    // Scales of layer norms lie around 1, as trained ones do; the rest around 0.
    let around = |name: &str| if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
    let mut weights =
        |(name, shape): (&String, &Vec<usize>)| random.weights(shape.iter().product(), around(name), 0.06);
    let bytes: Vec<Vec<u8>> = tensors.iter().map(&mut weights).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, file).unwrap();
}

/// The tokenizer of the store's model.
pub(crate) fn tokenizer(store: &Path) -> TextTokenizer {
    TextTokenizer::read(&store.join(MODEL), usize::MAX, 512, false).unwrap()
}

/// Texts of exactly `tokens` tokens, special tokens included.
pub(crate) fn texts(
    tokenizer: &TextTokenizer,
    random: &mut Random,
    tokens: usize,
    count: usize,
) -> Vec<String> {
    let length =
        |text: &str| tokenizer.encode("", "", text, Truncation::Right).map_or(0, |text| text.ids.len());
    let mut text = || {
        let mut text = String::new();
        loop {
            let word = WORDS[random.next() as usize % WORDS.len()];
            let longer = if text.is_empty() { word.to_owned() } else { format!("{text} {word}") };
            match length(&longer) {
                found if found == tokens => return longer,
                found if found < tokens => text = longer,
                _ => text.clear(),
            }
        }
    };
    (0..count).map(|_| text()).collect()
}
