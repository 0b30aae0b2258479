//! The Rust sides of a comparison: this project's encoder, and that of candle-transformers.
//!
//! A line read is a JSON object with "do" ("run" or "vectors") and the file of a workload; a line
//! written answers it.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::xlm_roberta::{Config, XLMRobertaModel};
use nix::time::{ClockId, clock_gettime};
use observatory_inference::testing::device;
use observatory_inference::testing::device::{DeviceChoice, Precision};
use observatory_inference::testing::models::{Extras, Model};
use observatory_inference::testing::registry::{LoadedModel, load};
use serde::Deserialize;
use serde_json::json;

use crate::store::MODEL;

/// Tokens of one forward pass, the server's default.
const BATCH_TOKENS: usize = 1_024;
/// Texts of one forward pass of candle-transformers.
const CANDLE_BATCH: usize = 32;

/// Which side to play.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The side.
    #[arg(long, value_enum)]
    side: Side,
    /// The model store.
    #[arg(long)]
    store: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    /// This project's encoder in float32.
    Ours,
    /// The same in bf16, where the processor multiplies it.
    OursBf16,
    /// candle-transformers, padding batches of 32 in order of arrival.
    Candle,
}

#[derive(Deserialize)]
struct Command {
    #[serde(rename = "do")]
    what: String,
    workload: PathBuf,
}

enum Encoder {
    Ours(Box<LoadedModel>),
    Candle(XLMRobertaModel, u32),
}

/// Answers commands until standard input ends.
pub(crate) fn serve(args: &Args) -> Result<()> {
    let ours = |precision: Precision| {
        let device = device::open(DeviceChoice::Cpu)?.with_precision(precision)?;
        anyhow::Ok(Encoder::Ours(Box::new(load(&args.store, MODEL, &device)?)))
    };
    let encoder = match args.side {
        Side::Ours => ours(Precision::F32)?,
        Side::OursBf16 => ours(Precision::Bf16)?,
        Side::Candle => candle(&args.store.join(MODEL))?,
    };
    for line in std::io::stdin().lock().lines() {
        let command: Command = serde_json::from_str(&line?)?;
        let texts: Vec<Vec<u32>> = serde_json::from_str(&std::fs::read_to_string(&command.workload)?)?;
        let (wall, cpu) = (Instant::now(), processor_time()?);
        let vectors = encoder.vectors(&texts)?;
        let (wall, cpu) = (wall.elapsed(), processor_time()? - cpu);
        let answer = match command.what.as_str() {
            "run" => json!({"cpu": cpu.as_secs_f64(), "wall": wall.as_secs_f64()}),
            "vectors" => json!({ "vectors": vectors }),
            other => anyhow::bail!("unknown command {other:?}"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Processor time of all threads of this process, those that ended included.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

fn candle(dir: &Path) -> Result<Encoder> {
    let text = std::fs::read_to_string(dir.join("config.json"))?;
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)?;
    // Newer checkpoints leave out what candle's configuration asks for.
    fields.entry("position_embedding_type").or_insert_with(|| json!("absolute"));
    let config: Config = serde_json::from_value(fields.into())?;
    let pad = config.pad_token_id;
    let tensors = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu)?;
    let model = XLMRobertaModel::new(&config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?;
    Ok(Encoder::Candle(model, pad))
}

impl Encoder {
    /// The mean of each text's hidden states.
    fn vectors(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::with_capacity(texts.len());
        match self {
            Self::Ours(model) => {
                for batch in filled(texts) {
                    let rows: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
                    let outputs = model.network.run(&rows, Extras::default())?;
                    vectors.extend(outputs.into_iter().map(|output| output.values));
                }
            }
            Self::Candle(model, pad) => {
                for batch in texts.chunks(CANDLE_BATCH) {
                    vectors.extend(padded(model, *pad, batch)?.to_vec2::<f32>()?);
                }
            }
        }
        Ok(vectors)
    }
}

/// Texts in order of arrival, cut where the next would exceed the tokens of a forward pass.
fn filled(texts: &[Vec<u32>]) -> Vec<&[Vec<u32>]> {
    let mut batches = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        if tokens + text.len() > BATCH_TOKENS && index > first {
            batches.push(&texts[first..index]);
            (first, tokens) = (index, 0);
        }
        tokens += text.len();
    }
    batches.push(&texts[first..]);
    batches
}

/// A padded forward pass and the mean over what is no padding.
fn padded(model: &XLMRobertaModel, pad: u32, texts: &[Vec<u32>]) -> Result<Tensor> {
    let longest = texts.iter().map(Vec::len).max().context("an empty batch")?;
    let fill = |text: &Vec<u32>| {
        let mut row = text.clone();
        row.resize(longest, pad);
        row
    };
    let shape = (texts.len(), longest);
    let ids = Tensor::from_vec(texts.iter().flat_map(fill).collect::<Vec<u32>>(), shape, &Device::Cpu)?;
    let inside =
        |text: &Vec<u32>| (0..longest).map(|at| f32::from(u8::from(at < text.len()))).collect::<Vec<f32>>();
    let mask = Tensor::from_vec(texts.iter().flat_map(inside).collect::<Vec<f32>>(), shape, &Device::Cpu)?;
    let hidden = model.forward(&ids, &mask, &ids.zeros_like()?, None, None, None)?;
    let weights = mask.broadcast_div(&mask.sum_keepdim(1)?)?.unsqueeze(1)?;
    Ok(weights.matmul(&hidden)?.squeeze(1)?)
}
