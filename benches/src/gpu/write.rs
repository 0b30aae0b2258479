//! Steps of a language model in this process: texts written alone and in company, and prompts read.
//!
//! There is no engine around it: the likeliest token of each sequence goes into its next step.

use std::fmt::Write as _;
use std::time::Instant;

use observatory_inference::testing::device;
use observatory_inference::testing::device::{DeviceChoice, Precision};
use observatory_inference::testing::kernels::CudaGpu;
use observatory_inference::testing::kernels::Element;
use observatory_inference::testing::models::DecoderConfig;
use observatory_inference::testing::models::GpuDecoder;
use observatory_inference::testing::models::Source;
use observatory_inference::testing::models::{LanguageModel, StepPiece};

use crate::ModelArgs;

/// Flags of the decoding bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Texts that are written at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,64,128,256")]
    texts: Vec<usize>,
    /// Tokens before those that are written.
    #[arg(long, default_value_t = 512)]
    before: usize,
    /// Tokens that are written of each text.
    #[arg(long, default_value_t = 64)]
    written: usize,
    /// Tokens of the prompts that are read.
    #[arg(long, value_delimiter = ',', default_value = "128,512,2048")]
    prompts: Vec<usize>,
}

/// Tokens of a block.
const BLOCK: usize = 32;

/// Texts whose blocks follow each other.
struct Texts {
    tokens: Vec<Vec<u32>>,
    blocks: Vec<Vec<u32>>,
    computed: usize,
    prompt: usize,
}

impl Texts {
    fn new(count: usize, prompt: usize, room: usize) -> Self {
        let blocks_each = room.div_ceil(BLOCK) as u32;
        let token = |text: usize, place: usize| ((text * 977 + place * place * 31 + place) % 50_000) as u32;
        Self {
            tokens: (0..count).map(|text| (0..prompt).map(|place| token(text, place)).collect()).collect(),
            blocks: (0..count as u32)
                .map(|text| (text * blocks_each..(text + 1) * blocks_each).collect())
                .collect(),
            computed: 0,
            prompt,
        }
    }

    fn piece(&self, text: usize) -> StepPiece<'_> {
        StepPiece {
            tokens: &self.tokens[text][self.computed..],
            start: self.computed,
            blocks: &self.blocks[text],
            prompt: self.prompt,
            logits: true,
        }
    }

    /// Computes what is left of all texts, and puts the likeliest token behind each.
    fn step(&mut self, decoder: &mut GpuDecoder<CudaGpu>) {
        let pieces: Vec<_> = (0..self.tokens.len()).map(|text| self.piece(text)).collect();
        let logits = decoder.step(&pieces).unwrap();
        let likeliest =
            |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
        let next: Vec<u32> = (0..self.tokens.len()).map(|text| likeliest(logits.row(text))).collect();
        self.computed = self.tokens[0].len();
        self.tokens.iter_mut().zip(next).for_each(|(tokens, id)| tokens.push(id));
    }

    /// Reads the prompts, one text at a time.
    fn read(&mut self, decoder: &mut GpuDecoder<CudaGpu>) {
        for text in 0..self.tokens.len() {
            decoder.step(&[self.piece(text)]).unwrap();
        }
        self.computed = self.prompt;
        self.tokens.iter_mut().for_each(|tokens| tokens.push(1));
    }
}

/// Runs the bench and prints its table.
pub(crate) fn run(of: &ModelArgs, args: &Args) {
    let choice: DeviceChoice = of.device.parse().unwrap();
    let device = device::open(choice).unwrap().with_precision(of.precision).unwrap();
    let element = match device.precision {
        Precision::F32 => Element::F32,
        Precision::F16 => Element::F16,
        Precision::Auto | Precision::Bf16 => Element::Bf16,
    };
    let dir = of.store.join(&of.model);
    let config = DecoderConfig::read(&dir).unwrap();
    let mut source = Source::checkpoint(&dir, &Default::default()).unwrap();
    let started = Instant::now();
    let gpu = CudaGpu::new(device.device.as_cuda_device().unwrap(), element).unwrap();
    let mut decoder = GpuDecoder::load(gpu, config, &mut source).unwrap();
    let (bytes, room) = (decoder.weight_bytes(), args.before + args.written + 8);
    let most = args.texts.iter().copied().max().unwrap_or(1);
    let longest = args.prompts.iter().copied().max().unwrap_or(1).max(room);
    decoder.reserve((most * room.div_ceil(BLOCK)).max(longest.div_ceil(BLOCK))).unwrap();
    println!(
        "| {:?}, {} MB of weights, loaded in {:.0} s |",
        element,
        bytes >> 20,
        started.elapsed().as_secs_f64()
    );
    for &count in &args.texts {
        let mut texts = Texts::new(count, args.before, room);
        texts.read(&mut decoder);
        // The first step of a size is recorded.
        texts.step(&mut decoder);
        texts.step(&mut decoder);
        let started = Instant::now();
        for _ in 2..args.written {
            texts.step(&mut decoder);
        }
        let step = started.elapsed().as_secs_f64() / (args.written - 2) as f64;
        let mut line =
            format!("| {count} texts behind {} tokens | {:.0} tokens/s", args.before, count as f64 / step);
        write!(line, " | {:.3} ms a step | {:.0} GB/s of weights |", step * 1e3, bytes as f64 / step / 1e9)
            .unwrap();
        println!("{line}");
    }
    for &length in &args.prompts {
        let time = |_| {
            let mut texts = Texts::new(1, length, length + 1);
            let started = Instant::now();
            texts.read(&mut decoder);
            started.elapsed().as_secs_f64()
        };
        let best = (0..4).map(time).fold(f64::INFINITY, f64::min);
        println!("| prompt of {length} | {:.0} tokens/s | {:.2} ms |", length as f64 / best, best * 1e3);
    }
}
