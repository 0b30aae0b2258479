//! Encoders on a GPU: on the emulator, see `emulated`, or with the feature `cuda` on a real one.
//!
//! References are transformers' goldens, pooling by hand, and the same texts computed alone.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;

use observatory_inference::testing::kernels::Element;
#[cfg(not(feature = "cuda"))]
use observatory_inference::testing::kernels::Gpu as _;
#[cfg(not(feature = "cuda"))]
use observatory_inference::testing::models::ComputeError;
use observatory_inference::testing::models::{
    Backbone as _, EncoderConfig, GpuEncoder, LoadProgress, Pooling, Weights,
};
use observatory_inference::testing::registry::{LoadedModel, load as load_model};

use crate::decoders::cosine;
use crate::goldens::{cases, encode, model_on, run, unit};
use crate::gpu::{Device, Numbers, device};
use crate::support;

const MODELS: [&str; 2] = ["golden/bert", "golden/tiny-e5"];
const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

fn load(model: &str, gpu: Device) -> GpuEncoder<Device> {
    load_dir(&support::goldens().join("models").join(model), gpu)
}

fn load_dir(dir: &Path, gpu: Device) -> GpuEncoder<Device> {
    let config = EncoderConfig::read(dir).unwrap();
    let progress = Arc::<LoadProgress>::default();
    let mut weights = Weights::open_encoder(dir, &config, &candle_core::Device::Cpu, &progress).unwrap();
    let encoder = GpuEncoder::load(gpu, &config, &mut weights).unwrap();
    assert!(weights.parameters() > 10_000);
    encoder
}

fn pooled(encoder: &GpuEncoder<Device>, rows: &[Vec<u32>], pooling: Pooling) -> Vec<Vec<f32>> {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    encoder.pooled(&rows, pooling).unwrap().unwrap()
}

fn hidden(encoder: &GpuEncoder<Device>, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    encoder.hidden(&rows).unwrap().to_vec2().unwrap()
}

/// Rows of these lengths, of token ids that both models know.
fn rows(lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut numbers = Numbers(11);
    lengths.iter().map(|length| (0..*length).map(|_| 5 + numbers.below(140) as u32).collect()).collect()
}

#[test]
fn vectors_equal_transformers() {
    for (element, least) in [(Element::F32, 0.999_999), (Element::F16, 0.999_99), (Element::Bf16, 0.999_5)] {
        let mut encoders = HashMap::new();
        let mut tokenizers: HashMap<String, LoadedModel> = HashMap::new();
        for case in cases() {
            let encoder =
                encoders.entry(case.model.clone()).or_insert_with_key(|model| load(model, device(element)));
            let tokenizer = tokenizers
                .entry(case.model.clone())
                .or_insert_with_key(|model| model_on(&support::device(), model, "mean"));
            let pooling = if case.pooling == "cls" { Pooling::Cls } else { Pooling::Mean };
            let vectors = pooled(encoder, &encode(tokenizer, &case), pooling);
            for (index, (vector, expected)) in vectors.iter().zip(&case.unit).enumerate() {
                let cosine = cosine(&unit(vector), expected);
                let place = format!("{} {} {element:?}, text {index}", case.model, case.pooling);
                assert!(cosine >= least, "{place}: {cosine}");
            }
        }
    }
}

/// Texts on either side of the 16 rows of a slot, and as long as the models take.
#[test]
fn company_changes_no_bit() {
    let all = rows(&[1, 16, 17, 31, 32, 2, 15, 30, 8]);
    for element in ELEMENTS {
        for model in MODELS {
            let encoder = load(model, device(element));
            let together = pooled(&encoder, &all, Pooling::Mean);
            let states = hidden(&encoder, &all);
            let mut start = 0;
            for (row, vector) in all.iter().zip(&together) {
                let row = std::slice::from_ref(row);
                let place = format!("{model} {element:?}, {} tokens", row[0].len());
                assert_eq!(pooled(&encoder, row, Pooling::Mean)[0], *vector, "{place}");
                assert_eq!(hidden(&encoder, row), states[start..start + row[0].len()], "{place}");
                start += row[0].len();
            }
        }
    }
}

/// Texts of more than 64 tokens have attention of their own, in tiles of up to 128 queries.
#[test]
fn long_texts_are_those_of_the_processor() {
    let store = support::store(&["golden/bert"]);
    let dir = store.path().join("golden/bert");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    config["max_position_embeddings"] = 300.into();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let file = dir.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
    let mut numbers = Numbers(5);
    let values: Vec<f32> = (0..300 * 32).map(|_| numbers.below(2_001) as f32 / 1_000.0 - 1.0).collect();
    let positions = Tensor::from_vec(values, (300, 32), &candle_core::Device::Cpu).unwrap();
    tensors.insert("embeddings.position_embeddings.weight".to_owned(), positions);
    candle_core::safetensors::save(&tensors, &file).unwrap();

    let texts = rows(&[65, 64, 129, 300, 7, 256]);
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let expected = run(&load_model(store.path(), "golden/bert", &support::device()).unwrap(), &texts);
    for (element, least) in [(Element::F32, 0.999_999), (Element::F16, 0.999_99), (Element::Bf16, 0.999_5)] {
        let vectors = load_dir(&dir, device(element)).pooled(&texts, Pooling::Mean).unwrap().unwrap();
        for (text, (vector, expected)) in texts.iter().zip(vectors.iter().zip(&expected)) {
            let cosine = cosine(vector, expected);
            assert!(cosine >= least, "{element:?}, {} tokens: {cosine}", text.len());
        }
    }
}

#[test]
fn poolings_are_those_of_the_hidden_states() {
    let lengths = [3, 32, 1, 9];
    for element in ELEMENTS {
        let encoder = load("golden/tiny-e5", device(element));
        let states = hidden(&encoder, &rows(&lengths));
        for pooling in [
            Pooling::Mean,
            Pooling::Cls,
            Pooling::Last,
            Pooling::Max,
            Pooling::MeanSqrtLen,
            Pooling::WeightedMean,
        ] {
            let vectors = pooled(&encoder, &rows(&lengths), pooling);
            let mut start = 0;
            for (length, vector) in lengths.iter().zip(&vectors) {
                let expected = by_hand(&states[start..start + length], pooling);
                let far = vector.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                assert!(far <= 1e-5, "{pooling:?} {element:?}, {length} tokens: {far}");
                start += length;
            }
        }
    }
}

/// A column at a time, in f64, as sentence-transformers' `Pooling` defines them.
fn by_hand(states: &[Vec<f32>], pooling: Pooling) -> Vec<f32> {
    let count = states.len() as f64;
    let column = |at: usize| {
        let values: Vec<f64> = states.iter().map(|state| f64::from(state[at])).collect();
        let sum: f64 = values.iter().sum();
        let weighted: f64 = values.iter().zip(1..).map(|(value, weight)| value * f64::from(weight)).sum();
        match pooling {
            Pooling::Mean => sum / count,
            Pooling::Cls => values[0],
            Pooling::Last => values[states.len() - 1],
            Pooling::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Pooling::MeanSqrtLen => sum / count.sqrt(),
            Pooling::WeightedMean => weighted / (count * (count + 1.0) / 2.0),
        }
    };
    (0..states[0].len()).map(|at| column(at) as f32).collect()
}

/// Two threads that enqueue passes in turn get what each gets alone, although they share the
/// buffers of the device.
#[test]
fn passes_of_two_threads_do_not_mix() {
    let encoder = load("golden/bert", device(Element::F32));
    let batches = [rows(&[30, 4, 17]), rows(&[2, 9])];
    let expected = batches.each_ref().map(|batch| pooled(&encoder, batch, Pooling::Mean));
    std::thread::scope(|scope| {
        for (batch, expected) in batches.iter().zip(&expected) {
            let encoder = &encoder;
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(pooled(encoder, batch, Pooling::Mean), *expected);
                }
            });
        }
    });
}

/// A batch that does not fit is an error by itself; a smaller one is computed afterwards.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_batch_too_large_for_the_memory_fails_alone() {
    let mut gpu = device(Element::F32);
    // A megabyte is enough for the weights and a text, but not for a thousand.
    gpu.capacity = 1 << 20;
    let free = gpu.memory().unwrap().free;
    assert_eq!(free, 1 << 20);
    let encoder = load("golden/bert", gpu);
    let before = pooled(&encoder, &rows(&[12]), Pooling::Mean);
    let many = rows(&[32; 1_000]);
    let many: Vec<&[u32]> = many.iter().map(Vec::as_slice).collect();
    let error = encoder.pooled(&many, Pooling::Mean).unwrap_err();
    assert!(matches!(error, ComputeError::OutOfMemory(_)), "{error}");
    assert_eq!(pooled(&encoder, &rows(&[12]), Pooling::Mean), before);
}
