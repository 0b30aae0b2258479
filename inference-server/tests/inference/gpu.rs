//! Decoders on a GPU: on the emulator, see `emulated`, or with the feature `cuda` on a real one.
//!
//! References are transformers' goldens, the CPU's decoder, and the same texts computed alone.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use observatory_inference::testing::device;
use observatory_inference::testing::device::DeviceChoice;
use observatory_inference::testing::generation::Constraint;
use observatory_inference::testing::generation::EngineLimits;
use observatory_inference::testing::generation::StopStrings;
use observatory_inference::testing::generation::{Event, Request};
use observatory_inference::testing::generation::{GenerationProfile, Generator};
use observatory_inference::testing::generation::{Sampler, SamplingParams};
use observatory_inference::testing::kernels::{Element, Gpu};
#[cfg(not(feature = "cuda"))]
use observatory_inference::testing::models::ComputeError;
use observatory_inference::testing::models::DecoderConfig;
use observatory_inference::testing::models::Gguf;
use observatory_inference::testing::models::GpuDecoder;
use observatory_inference::testing::models::LoadProgress;
use observatory_inference::testing::models::{CpuDecoder, LanguageModel, StepPiece};
use observatory_inference::testing::models::{GgufWeights, Source};
use observatory_inference::testing::scheduler::Priority;
use observatory_inference::testing::text::TextTokenizer;
use tokio_util::sync::CancellationToken;

use crate::decoders::{self, BLOCK, Golden, argmax, cosine, load_gguf, near};
#[cfg(not(feature = "cuda"))]
use crate::emulated::Emulated;
use crate::gguf;
use crate::llama;
use crate::support::goldens;

#[cfg(not(feature = "cuda"))]
pub(crate) type Device = Emulated;
#[cfg(feature = "cuda")]
pub(crate) type Device = observatory_inference::testing::kernels::CudaGpu;

#[cfg(not(feature = "cuda"))]
pub(crate) fn device(element: Element) -> Device {
    Emulated::new(element)
}

#[cfg(feature = "cuda")]
pub(crate) fn device(element: Element) -> Device {
    let open = device::open(DeviceChoice::Cuda(0)).unwrap();
    Device::new(open.device.as_cuda_device().unwrap(), element).unwrap()
}

fn load(model: &str, element: Element) -> GpuDecoder<Device> {
    let dir = goldens().join("models").join(model);
    let config = DecoderConfig::read(&dir).unwrap();
    let loading = Arc::<LoadProgress>::default();
    let mut source = Source::checkpoint(&dir, &loading).unwrap();
    reserved(GpuDecoder::load(device(element), config, &mut source).unwrap())
}

fn load_file(path: &Path, element: Element) -> GpuDecoder<Device> {
    let file = Gguf::open(path).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let weights = GgufWeights::new(file, &config, &Arc::<LoadProgress>::default()).unwrap();
    let mut source = Source::Gguf(weights);
    reserved(GpuDecoder::load(device(element), config, &mut source).unwrap())
}

fn reserved(mut decoder: GpuDecoder<Device>) -> GpuDecoder<Device> {
    decoder.reserve(64).unwrap();
    decoder
}

/// A sequence on the device: a prompt, and the tokens generated after it.
#[derive(Debug, Clone)]
struct Text {
    tokens: Vec<u32>,
    prompt: usize,
    computed: usize,
    blocks: Vec<u32>,
}

impl Text {
    /// A sequence with 16 blocks from `first` on, shuffled.
    fn new(prompt: &[u32], first: u32) -> Self {
        let blocks = (0..16).map(|index| first + (index * 5) % 16).collect();
        Self { tokens: prompt.to_vec(), prompt: prompt.len(), computed: 0, blocks }
    }

    /// The next `count` tokens, or all that are left.
    fn piece(&self, count: usize) -> StepPiece<'_> {
        let end = (self.computed + count).min(self.tokens.len());
        StepPiece {
            tokens: &self.tokens[self.computed..end],
            start: self.computed,
            blocks: &self.blocks[..end.div_ceil(BLOCK)],
            prompt: self.prompt,
            logits: end == self.tokens.len(),
        }
    }

    /// Computes the rest of the sequence by itself, and returns the logits after it.
    fn finish<G: Gpu>(&mut self, decoder: &mut GpuDecoder<G>) -> Vec<f32>
    where
        G::Graph: Send,
    {
        let logits = decoder.step(&[self.piece(usize::MAX - self.computed)]).unwrap().row(0).to_vec();
        self.computed = self.tokens.len();
        logits
    }
}

fn models() -> Vec<Golden> {
    decoders::all()
}

#[test]
fn in_f32_logits_and_greedy_texts_are_those_of_transformers() {
    for golden in models() {
        let mut decoder = load(&golden.model, Element::F32);
        for (index, prompt) in golden.prompts.iter().enumerate().skip(2) {
            let place = format!("{}, prompt {index}", golden.model);
            let mut text = Text::new(&prompt.ids, 0);
            let mut logits = text.finish(&mut decoder);
            near(&logits, &prompt.last, &place);
            let mut written = Text::new(&prompt.ids, 16);
            written.prompt = 1;
            near(&written.finish(&mut decoder), &prompt.last, &format!("{place}, as written tokens"));
            for (step, expected) in prompt.continuation.iter().take(8).enumerate() {
                assert_eq!(argmax(&logits) as u32, *expected, "{place}, token {step}");
                text.tokens.push(*expected);
                logits = text.finish(&mut decoder);
            }
        }
    }
}

#[test]
fn in_16_bits_logits_are_near_those_of_transformers() {
    for golden in models() {
        for (element, least) in [(Element::F16, 0.99999), (Element::Bf16, 0.999)] {
            let mut decoder = load(&golden.model, element);
            for (index, prompt) in golden.prompts.iter().enumerate().skip(2).step_by(2) {
                let place = format!("{} {element:?}, prompt {index}", golden.model);
                let logits = Text::new(&prompt.ids, 0).finish(&mut decoder);
                let near = cosine(&logits, &prompt.last);
                assert!(near > least, "{place}: {near}");
                let mut slow = Text::new(&prompt.ids, 16);
                slow.prompt = 1;
                let near = cosine(&slow.finish(&mut decoder), &prompt.last);
                assert!(near > least, "{place}, as written tokens: {near}");
            }
        }
    }
}

/// Compares a quantised file with the same weights dequantised, on the CPU.
#[track_caller]
fn check_file(file: &Path, element: Element, prompt: &[u32], place: &str) {
    let mut dense = load_gguf(gguf::dense(file).path());
    let expected = decoders::Text::new(0).step(&mut dense, prompt);
    let mut decoder = load_file(file, element);
    let least = if element == Element::Bf16 { 0.999 } else { 0.99999 };
    for written in [0, prompt.len() - 1] {
        let mut text = Text::new(prompt, 0);
        text.prompt -= written;
        let near = cosine(&text.finish(&mut decoder), &expected);
        assert!(near > least, "{place} {element:?}, {written} written: {near}");
    }
}

#[test]
fn layers_in_blocks_are_near_those_in_f32() {
    use GgmlDType::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    for golden in models().into_iter().filter(|golden| gguf::MODELS.contains(&golden.model.as_str())) {
        for (dtype, element) in [(Q8_0, Element::F16), (Q4_1, Element::Bf16)] {
            let file = gguf::written(&golden.model, dtype);
            let place = format!("{} {dtype:?}", golden.model);
            check_file(file.path(), element, &golden.prompts[2].ids, &place);
        }
    }
    for (dtype, element) in [
        (Q4_0, Element::F32),
        (Q5_0, Element::F16),
        (Q5_1, Element::F32),
        (Q4K, Element::F16),
        (Q5K, Element::F32),
        (Q6K, Element::F16),
        (Q6K, Element::F32),
    ] {
        check_file(llama::wide(dtype).path(), element, &tokens(9, 1), &format!("{dtype:?}"));
    }
}

/// A checkpoint with a longer context than its configuration says.
fn long(model: &str) -> (DecoderConfig, Source) {
    let dir = goldens().join("models").join(model);
    let mut config = DecoderConfig::read(&dir).unwrap();
    config.context = 1_024;
    (config, Source::checkpoint(&dir, &Arc::<LoadProgress>::default()).unwrap())
}

fn tokens(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|index| ((index * index * 7 + index * 13 + seed * 31) % 300) as u32).collect()
}

/// Long enough for several splits of the attention.
#[test]
fn long_texts_are_those_of_the_processor() {
    for model in ["golden/qwen2-window", "golden/gemma3"] {
        let (config, mut source) = long(model);
        let mut processor = CpuDecoder::load(config, &mut source).unwrap();
        processor.reserve(64).unwrap();
        let prompt = tokens(700, 1);
        let blocks: Vec<u32> = (0..32).collect();
        let piece = StepPiece { tokens: &prompt, start: 0, blocks: &blocks, prompt: 700, logits: true };
        let expected = processor.step(&[piece]).unwrap().row(0).to_vec();
        for element in [Element::F32, Element::F16] {
            let (config, mut source) = long(model);
            let mut decoder = reserved(GpuDecoder::load(device(element), config, &mut source).unwrap());
            for written in [0, 30] {
                let mut text = Text { blocks: blocks.clone(), ..Text::new(&prompt, 0) };
                text.prompt -= written;
                let logits = text.finish(&mut decoder);
                let place = format!("{model} {element:?}, {written} written");
                if element == Element::F32 {
                    near(&logits, &expected, &place);
                }
                let near = cosine(&logits, &expected);
                assert!(near > 0.9999, "{place}: {near}");
            }
        }
    }
}

/// A linear congruential generator.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Logits after each token of a sequence from the last of its prompt on, decoded by itself, token
/// by token.
fn alone(decoder: &mut GpuDecoder<Device>, whole: &[u32], prompt: usize) -> Vec<Vec<f32>> {
    let mut text = Text::new(&whole[..prompt], 48);
    let mut all = vec![text.finish(decoder)];
    for id in &whole[prompt..] {
        text.tokens.push(*id);
        all.push(text.finish(decoder));
    }
    all
}

/// For any cut of its prompt, any other sequences in the step, and after preemption.
#[test]
fn a_text_is_the_same_bits_in_any_company() {
    let file = gguf::written("golden/qwen2", GgmlDType::Q5_1);
    let mut all = vec![load_file(file.path(), Element::Bf16)];
    for (model, element) in [
        ("golden/qwen2-window", Element::F16),
        ("golden/gemma3", Element::Bf16),
        ("golden/llama", Element::F32),
    ] {
        all.push(load(model, element));
    }
    let mut numbers = Numbers(3);
    for decoder in &mut all {
        let texts: Vec<(Vec<u32>, usize)> =
            (0..3).map(|index| (tokens(90 + 40 * index, index), 60 + 45 * index)).collect();
        let expected: Vec<_> = texts.iter().map(|(whole, prompt)| alone(decoder, whole, *prompt)).collect();
        for _ in 0..2 {
            let mut running: Vec<Text> =
                (0..3).map(|index| Text::new(&texts[index].0[..texts[index].1], 16 * index as u32)).collect();
            while (0..3).any(|index| running[index].computed < texts[index].0.len()) {
                let mut pieces = Vec::new();
                for text in running.iter().filter(|text| text.computed < text.tokens.len()) {
                    if numbers.below(4) > 0 {
                        pieces.push(text.piece(1 + numbers.below(70)));
                    }
                }
                if pieces.is_empty() {
                    continue;
                }
                let ends: Vec<(usize, bool)> =
                    pieces.iter().map(|piece| (piece.start + piece.tokens.len(), piece.logits)).collect();
                let lists: Vec<u32> = pieces.iter().map(|piece| piece.blocks[0]).collect();
                let logits = decoder.step(&pieces).unwrap();
                let mut row = 0;
                for ((end, asked), list) in ends.into_iter().zip(lists) {
                    let index = list as usize / 16;
                    let (whole, prompt) = &texts[index];
                    let text = &mut running[index];
                    text.computed = end;
                    if asked {
                        assert_eq!(
                            logits.row(row),
                            expected[index][end - prompt],
                            "text {index}, {end} tokens"
                        );
                        row += 1;
                        if end < whole.len() {
                            text.tokens.push(whole[end]);
                        }
                    }
                    if numbers.below(12) == 0 {
                        text.computed = 0;
                    }
                }
            }
        }
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn steps_that_only_write_are_recorded_once() {
    let mut decoder = load("golden/qwen3", Element::F16);
    let mut text = Text::new(&tokens(20, 1), 0);
    text.finish(&mut decoder);
    assert_eq!((decoder.gpu().replays, decoder.gpu().captures), (0, 0), "a prompt is no such step");
    let multiplied = decoder.gpu().multiplied;
    for id in 0..10 {
        text.tokens.push(id);
        text.finish(&mut decoder);
    }
    assert_eq!((decoder.gpu().replays, decoder.gpu().captures), (10, 1));
    assert_eq!(decoder.gpu().multiplied, multiplied, "no product of many rows");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn what_a_device_cannot_do_is_said() {
    let dir = goldens().join("models/golden/qwen3");
    let open = |config: DecoderConfig, capacity: u64| {
        let loading = Arc::<LoadProgress>::default();
        let mut source = Source::checkpoint(&dir, &loading).unwrap();
        let mut gpu = Emulated::new(Element::F16);
        gpu.capacity = capacity;
        GpuDecoder::load(gpu, config, &mut source).map_err(|error| format!("{error:#}"))
    };
    let config = || DecoderConfig::read(&dir).unwrap();
    let mut biased = config();
    biased.mlp_bias = true;
    let error = open(biased, 1 << 30).err().unwrap();
    assert_eq!(
        error,
        "layer 0: biases of o_proj and of the feed-forward network are supported on the CPU only"
    );
    let mut odd = config();
    odd.inner = 100;
    let error = open(odd, 1 << 30).err().unwrap();
    assert_eq!(error, "invalid hidden_size 64 or intermediate_size 100: expected multiples of 8 on a GPU");
    assert_eq!(open(config(), 10_000).err().unwrap(), "no room for 40960 bytes");
    let mut decoder = open(config(), 2 << 20).unwrap();
    let error = decoder.reserve(1_000).unwrap_err();
    assert!(matches!(error, ComputeError::OutOfMemory(_)), "{error}");
}

/// Tokens that an engine generates for these prompts at once, every other one under a constraint of
/// small letters.
fn generated_by_an_engine(prompts: &[Vec<u32>], limits: EngineLimits) -> (Vec<Vec<u32>>, u64, u64) {
    let dir = goldens().join("models/golden/qwen3");
    let decoder = load("golden/qwen3", Element::F16);
    let tokenizer = TextTokenizer::read(&dir, 320, 256, false).unwrap().shared();
    let profile = GenerationProfile { template: None, eos_ids: vec![0], context: 256, vocabulary: 320 };
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let generator = Generator::start(Box::new(decoder), tokenizer, profile, limits, &device).unwrap();
    let letters = Constraint::Regex("[a-z]{1,500}".to_owned());
    let receivers: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let (events, receiver) = tokio::sync::mpsc::unbounded_channel();
            let sampling =
                SamplingParams { temperature: 0.9, seed: prompt.len() as u64, ..SamplingParams::default() };
            let request = Request {
                prompt: prompt.clone(),
                sampler: Sampler::new(&sampling, prompt),
                detokenizer: generator.detokenizer(),
                stop_strings: StopStrings::new(Vec::new()),
                matcher: (prompt.len() / 20 % 2 == 1)
                    .then(|| (String::new(), generator.matcher("", &letters).unwrap())),
                append_forced: false,
                eos_ids: Vec::new(),
                stop_token_ids: Vec::new(),
                max_new_tokens: 30,
                priority: Priority::Bulk,
                cancel: CancellationToken::new(),
                deadline: None,
                begin_by: None,
                permit: generator.admission().reserve(1).unwrap(),
                events,
            };
            generator.submit(request).unwrap();
            receiver
        })
        .collect();
    let texts = receivers.into_iter().map(|mut receiver| {
        let mut ids = Vec::new();
        while let Some(event) = receiver.blocking_recv() {
            match event.unwrap() {
                Event::Token { sampled, .. } => ids.push(sampled.id),
                Event::Finished { .. } => break,
                Event::Started { .. } => {}
            }
        }
        ids
    });
    let texts = texts.collect();
    let figures = generator.figures();
    (texts, figures.preemptions, figures.cached_prompt_tokens)
}

/// The last prompt continues what the first one generated, as a chat does.
#[test]
fn an_engine_writes_the_same_in_any_company() {
    let wide = EngineLimits { step_tokens: 512, max_running_sequences: 8, blocks: 64 };
    let alone = |prompt: &Vec<u32>| generated_by_an_engine(std::slice::from_ref(prompt), wide).0.remove(0);
    let prompt = |index: usize| tokens(64, 5).into_iter().chain(tokens(10 + 20 * index, index)).collect();
    let mut prompts: Vec<Vec<u32>> = (0..4).map(prompt).collect();
    let mut expected: Vec<Vec<u32>> = prompts.iter().map(alone).collect();
    prompts.push(prompts[0].iter().chain(&expected[0]).copied().collect());
    expected.push(alone(&prompts[4]));
    let narrow = EngineLimits { step_tokens: 40, max_running_sequences: 8, blocks: 11 };
    let (together, preemptions, cached) = generated_by_an_engine(&prompts, narrow);
    assert!(preemptions > 0 && cached > 0, "{preemptions} {cached}");
    assert_eq!(together, expected);
}
