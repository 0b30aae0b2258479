//! Language models against transformers, on tiny seeded checkpoints; see
//! goldens/make_decoder_goldens.py.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use observatory_inference::testing::generation::{ChatTemplate, Message};
use observatory_inference::testing::kernels::Matrix;
use observatory_inference::testing::models::DecoderConfig;
use observatory_inference::testing::models::Gguf;
use observatory_inference::testing::models::LoadProgress;
use observatory_inference::testing::models::{CpuDecoder, LanguageModel, StepPiece};
use observatory_inference::testing::models::{GgufWeights, Source};
use observatory_inference::testing::text::TextTokenizer;
use serde::Deserialize;

use crate::gguf;
use crate::support::{copy, goldens};

/// Tokens of a block.
pub(crate) const BLOCK: usize = 32;
/// Of logits up to 30: what sums in another order may differ by.
pub(crate) const NEAR: f32 = 1e-4;

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) model: String,
    pub(crate) prompts: Vec<Prompt>,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    /// Logits behind the last token.
    pub(crate) last: Vec<f32>,
    inner: Vec<Inner>,
    pub(crate) continuation: Vec<u32>,
}

/// Logits behind a token in the middle, in part.
#[derive(Deserialize)]
struct Inner {
    position: usize,
    argmax: usize,
    logsumexp: f64,
    first: Vec<f32>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<ChatMessage>,
    rendered: String,
    ids: Vec<u32>,
    continuation: Vec<u32>,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    content: String,
}

pub(crate) fn all() -> Vec<Golden> {
    serde_json::from_str(&std::fs::read_to_string(goldens().join("decoders.json")).unwrap()).unwrap()
}

fn load(dir: &Path) -> CpuDecoder {
    let config = DecoderConfig::read(dir).unwrap();
    let loading = Arc::<LoadProgress>::default();
    reserved(config, &mut Source::checkpoint(dir, &loading).unwrap())
}

pub(crate) fn load_gguf(path: &Path) -> CpuDecoder {
    let file = Gguf::open(path).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let weights = GgufWeights::new(file, &config, &Arc::<LoadProgress>::default()).unwrap();
    reserved(config, &mut Source::Gguf(weights))
}

fn reserved(config: DecoderConfig, source: &mut Source) -> CpuDecoder {
    let mut decoder = CpuDecoder::load(config, source).unwrap();
    decoder.reserve(64).unwrap();
    decoder
}

/// One text of a model, its blocks in an order of their own.
pub(crate) struct Text {
    blocks: Vec<u32>,
    length: usize,
}

impl Text {
    pub(crate) fn new(first: u32) -> Self {
        Self { blocks: (0..16).map(|index| first + (index * 5) % 16).collect(), length: 0 }
    }

    /// Logits behind the last of these tokens.
    pub(crate) fn step(&mut self, decoder: &mut CpuDecoder, tokens: &[u32]) -> Vec<f32> {
        let end = self.length + tokens.len();
        let blocks = &self.blocks[..end.div_ceil(BLOCK)];
        let piece = StepPiece { tokens, start: self.length, blocks, prompt: usize::MAX, logits: true };
        let logits: &Matrix = decoder.step(&[piece]).unwrap();
        self.length = end;
        logits.row(0).to_vec()
    }
}

pub(crate) fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap()
}

#[track_caller]
pub(crate) fn near(got: &[f32], expected: &[f32], place: &str) {
    let difference = got.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(difference <= NEAR, "{place}: {difference}");
}

fn check(model: &str, decoder: &mut CpuDecoder, prompts: &[Prompt]) {
    for (index, prompt) in prompts.iter().enumerate() {
        let place = format!("{model}, prompt {index}");
        let mut text = Text::new(0);
        let mut logits = text.step(decoder, &prompt.ids);
        assert_eq!(logits.len(), prompt.last.len(), "{place}");
        near(&logits, &prompt.last, &place);
        // Token by token, which is how the logits in the middle are had.
        let mut slow = Text::new(16);
        for (position, id) in prompt.ids.iter().enumerate() {
            let behind = slow.step(decoder, std::slice::from_ref(id));
            if position + 1 == prompt.ids.len() {
                assert_eq!(behind, logits, "{place}: the same bits whole and token by token");
            }
            for inner in prompt.inner.iter().filter(|inner| inner.position == position) {
                assert_eq!(argmax(&behind), inner.argmax, "{place}, position {position}");
                near(&behind[..inner.first.len()], &inner.first, &place);
                let sum: f64 = behind.iter().map(|x| f64::from(*x).exp()).sum();
                assert!((sum.ln() - inner.logsumexp).abs() < f64::from(NEAR), "{place}, position {position}");
            }
        }
        for (step, expected) in prompt.continuation.iter().enumerate() {
            assert_eq!(argmax(&logits) as u32, *expected, "{place}, token {step}");
            logits = text.step(decoder, std::slice::from_ref(expected));
        }
    }
}

#[test]
fn logits_and_greedy_texts_are_those_of_transformers() {
    for golden in all() {
        let mut decoder = load(&goldens().join("models").join(&golden.model));
        check(&golden.model, &mut decoder, &golden.prompts);
    }
}

#[test]
fn gguf_files_in_f32_mean_the_same() {
    for golden in all().into_iter().filter(|golden| gguf::MODELS.contains(&golden.model.as_str())) {
        let file = gguf::written(&golden.model, GgmlDType::F32);
        check(&format!("GGUF {}", golden.model), &mut load_gguf(file.path()), &golden.prompts);
    }
}

/// The weights are rounded on both sides; on one the activations are too, to 8 bits.
#[test]
fn layers_in_blocks_are_near_those_in_f32() {
    for golden in all().into_iter().filter(|golden| gguf::MODELS.contains(&golden.model.as_str())) {
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q5_1] {
            let rounded = gguf::written(&golden.model, dtype);
            let dense = gguf::dense(rounded.path());
            let (mut rounded, mut dense) = (load_gguf(rounded.path()), load_gguf(dense.path()));
            assert!(rounded.weight_bytes() * 2 < dense.weight_bytes());
            for prompt in &golden.prompts {
                let (mut text, mut slow, mut expected) = (Text::new(0), Text::new(16), Text::new(0));
                let expected = expected.step(&mut dense, &prompt.ids);
                let logits = text.step(&mut rounded, &prompt.ids);
                let one_by_one = prompt.ids.iter().map(|id| slow.step(&mut rounded, &[*id]));
                let place = format!("{} {dtype:?}", golden.model);
                assert_eq!(one_by_one.last().unwrap(), logits, "{place}: whole and token by token");
                assert!(cosine(&logits, &expected) > 0.995, "{place}: {}", cosine(&logits, &expected));
            }
        }
    }
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn configurations_of_older_transformers_mean_the_same() {
    for golden in all() {
        let name = golden.model.split('/').next_back().unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy(&goldens().join("models").join(&golden.model), dir.path());
        let older = goldens().join("older-configs").join(format!("{name}.json"));
        std::fs::copy(older, dir.path().join("config.json")).unwrap();
        check(&format!("older {}", golden.model), &mut load(dir.path()), &golden.prompts[..3]);
    }
}

#[test]
fn chats_are_written_out_and_read_as_by_transformers() {
    for golden in all() {
        let dir = goldens().join("models").join(&golden.model);
        let mut decoder = load(&dir);
        let config = decoder.config();
        let tokenizer = TextTokenizer::read(&dir, config.vocabulary, config.context, false).unwrap();
        let template = ChatTemplate::read(&dir).unwrap().unwrap();
        for chat in &golden.chats {
            let messages: Vec<Message> = chat
                .messages
                .iter()
                .map(|message| Message { role: message.role.clone(), content: message.content.clone() })
                .collect();
            let rendered = template.render(&messages, &Default::default(), true).unwrap();
            assert_eq!(rendered, chat.rendered, "{}", golden.model);
            assert_eq!(tokenizer.encode_prompt(&rendered, false).unwrap(), chat.ids, "{}", golden.model);
            let mut text = Text::new(0);
            let mut logits = text.step(&mut decoder, &chat.ids);
            for expected in &chat.continuation {
                assert_eq!(argmax(&logits) as u32, *expected, "{}", golden.model);
                logits = text.step(&mut decoder, std::slice::from_ref(expected));
            }
        }
    }
}

/// What transformers computes on a checkpoint with other settings of its rotation.
#[derive(Deserialize)]
struct Rescaled {
    model: String,
    rope_parameters: serde_json::Value,
    prompts: Vec<Prompt>,
}

#[test]
fn longer_texts_by_yarn_are_those_of_transformers() {
    let text = std::fs::read_to_string(goldens().join("decoders-yarn.json")).unwrap();
    let golden: Rescaled = serde_json::from_str(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    copy(&goldens().join("models").join(&golden.model), dir.path());
    let config = dir.path().join("config.json");
    let mut settings: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    settings["rope_parameters"] = golden.rope_parameters;
    std::fs::write(&config, settings.to_string()).unwrap();
    check("yarn", &mut load(dir.path()), &golden.prompts);
}

#[test]
fn steps_at_fault_are_refused() {
    let mut decoder = load(&goldens().join("models/golden/qwen2"));
    let blocks: Vec<u32> = (0..16).collect();
    let mut check = |tokens: &[u32], start: usize, count: usize, part: &str| {
        let piece = StepPiece { tokens, start, blocks: &blocks[..count], prompt: usize::MAX, logits: true };
        let error = decoder.step(&[piece]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&[], 0, 1, "a piece without tokens");
    check(&[100_000], 0, 1, "token id 100000 exceeds");
    check(&[1, 2], 31, 1, "1 KV blocks for 33 tokens");
    check(&[1], 256, 9, "a sequence of 257 tokens exceeds the context of 256");
}
