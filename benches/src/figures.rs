//! What is measured, and against whom.
//!
//! Groups that compare encoders first check that every peer computes the same vectors, and only
//! then measure.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use observatory_inference::testing::kernels::Unit;

use crate::peers::{Peer, Seconds, least_cosine};
use crate::report::{Row, Section};
use crate::store::{self, MODEL, Shape};
use crate::workload::{Workload, spread};

/// Two implementations in float32 agree at least this well on every vector.
const SAME: f64 = 0.999_999;

/// bf16 agrees with float32 at least this well on every vector.
const NEAR: f64 = 0.9999;

/// A group of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Skill strings of 4 to 64 tokens, against candle-transformers and onnxruntime.
    Skills,
    /// Texts of 512 tokens, against onnxruntime.
    Long,
    /// Texts of 8 to 512 tokens, against texts of one length.
    Mixed,
    /// Skill strings and texts of 512 tokens in bf16, against onnxruntime in float32.
    Bf16,
    /// The cost of gRPC on top of the forward pass, and overload.
    Serving,
    /// A language model through gRPC, against llama.cpp.
    Language,
}

impl Kind {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 6] =
        [Self::Skills, Self::Long, Self::Mixed, Self::Bf16, Self::Serving, Self::Language];

    /// Its heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Skills => "Spanish skill strings of 4 to 64 tokens",
            Self::Long => "Texts of 512 tokens",
            Self::Mixed => "Texts of 8 to 512 tokens against as many of one length: operations per second",
            Self::Bf16 => "bf16 against float32",
            Self::Serving => "gRPC and overload",
            Self::Language => "Language model",
        }
    }
}

/// Everything that figures need.
pub(crate) struct Bench {
    store: PathBuf,
    python: PathBuf,
    /// A Python that has llama-cpp-python, where it could be built.
    llama: Option<PathBuf>,
    rounds: usize,
    skills: Workload,
    long: Workload,
    mixed: Workload,
    uniform: Workload,
}

/// What a ratio has to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    /// Below this it is a miss.
    pub(crate) bar: f64,
    /// What is hoped for.
    pub(crate) goal: f64,
}

impl Bench {
    /// Writes the model (the shape of multilingual-e5-base, random weights, a small vocabulary) and
    /// the texts.
    pub(crate) fn prepare(data: &Path, python: &Path, llama: &Path, rounds: usize) -> Result<Self> {
        ensure!(rounds > 0, "--rounds is 0, it must be positive");
        let store = data.join("models");
        fs::create_dir_all(&store)?;
        store::write_model(&store, Shape::Base);
        let tokenizer = store::tokenizer(&store);
        let texts = |name: &str, lengths: Vec<usize>| Workload::write(data, name, &tokenizer, lengths);
        let mixed = texts("mixed", spread(8, 512, 3_072, 5))?;
        let uniform = texts("uniform", equal(&mixed))?;
        Ok(Self {
            skills: texts("skills", spread(4, 64, 2_048, 3))?,
            long: texts("long", vec![512; 4])?,
            mixed,
            uniform,
            python: python.to_owned(),
            llama: llama.exists().then(|| llama.to_owned()),
            store,
            rounds,
        })
    }

    /// Takes a group of figures.
    pub(crate) fn take(&self, kind: Kind) -> Result<Section> {
        eprintln!("bench: {}", kind.title());
        match kind {
            Kind::Skills => self.skills(),
            Kind::Long => self.long(),
            Kind::Mixed => self.mixed(),
            Kind::Bf16 => self.bf16(),
            Kind::Serving => serving(),
            Kind::Language => self.language(),
        }
    }

    fn language(&self) -> Result<Section> {
        let mut section = Section::new(Kind::Language.title());
        section.text(
            "The shape of Qwen2.5-0.5B (24 layers of 896, 151,936 words) with random weights in a GGUF file that both \
             sides read, temperature 1 here; medians, after a round to warm up. Processor and memory of a shared machine \
             change from minute to minute: sides take turns."
                .to_owned(),
        );
        // Weights in f32 are what memory, not arithmetic, is the limit of.
        for (recipe, most) in [("f32", 1), ("q8_0", 3), ("q4_k_m", 3)] {
            let rounds = self.rounds.min(most).to_string();
            let mut args: Vec<&OsStr> =
                ["generation", "--recipe", recipe, "--rounds", &rounds].map(OsStr::new).to_vec();
            if let Some(llama) = &self.llama {
                args.extend(["--llama".as_ref(), llama.as_os_str()]);
            }
            section.text(table(&args)?);
        }
        Ok(section)
    }

    fn skills(&self) -> Result<Section> {
        let mut section = Section::new(Kind::Skills.title());
        section.text(format!("{} texts, {} tokens.", self.skills.lengths.len(), self.skills.tokens()));
        let candle_aim = Aim { bar: 2.0, goal: 3.0 };
        let form = self.onnx(1)?.tune(&self.skills)?;
        for threads in [1, 2] {
            let ours = Peer::rust("ours", &self.store, threads)?;
            let candle = Peer::rust("candle", &self.store, threads)?;
            let mut onnx = self.onnx(threads)?;
            onnx.shape(&form, &self.skills)?;
            let mut peers = [ours, candle, onnx];
            same(&mut peers, &self.skills)?;
            let times = self.turns(&mut peers, [&self.skills; 3])?;
            let per_second = |seconds: Seconds| self.skills.tokens() as f64 / seconds.cpu;
            let name = "candle-transformers, padded batches of 32 in order of arrival";
            section.row(Row::tokens(name, threads, &times, (0, 1), per_second).aiming(candle_aim));
            let name = format!("onnxruntime, sorted by length, {form}");
            section.row(Row::tokens(&name, threads, &times, (0, 2), per_second));
        }
        Ok(section)
    }

    fn long(&self) -> Result<Section> {
        let mut section = Section::new(Kind::Long.title());
        let form = self.onnx(1)?.tune(&self.long)?;
        for threads in [1, 2] {
            let mut onnx = self.onnx(threads)?;
            onnx.shape(&form, &self.long)?;
            let mut peers = [Peer::rust("ours", &self.store, threads)?, onnx];
            same(&mut peers, &self.long)?;
            let times = self.turns(&mut peers, [&self.long; 2])?;
            let per_second = |seconds: Seconds| self.long.tokens() as f64 / seconds.cpu;
            section.row(Row::tokens(&format!("onnxruntime, {form}"), threads, &times, (0, 1), per_second));
        }
        Ok(section)
    }

    fn mixed(&self) -> Result<Section> {
        let (count, tokens) = (self.mixed.lengths.len(), self.mixed.tokens());
        let mut section = Section::new(Kind::Mixed.title());
        section.text(format!("{count} texts, {tokens} tokens on both sides."));
        let (layers, width, _) = Shape::Base.sizes();
        for threads in [1, 2] {
            // Two processes, so that both sides of the comparison are treated alike.
            let mut peers =
                [Peer::rust("ours", &self.store, threads)?, Peer::rust("ours", &self.store, threads)?];
            let works = [&self.mixed, &self.uniform];
            let times = self.turns(&mut peers, works)?;
            let operations = works.map(|work| work.operations(layers, width));
            section.row(Row::operations("one length", threads, &times, operations));
        }
        Ok(section)
    }

    fn bf16(&self) -> Result<Section> {
        let mut section = Section::new(Kind::Bf16.title());
        let Some(unit) = Unit::detect() else {
            section.text(
                "Skipped: this processor has neither AMX nor AVX-512 instructions for bf16.".to_owned(),
            );
            return Ok(section);
        };
        section.text(format!("By the instructions {}.", unit.name()));
        let aim = Aim { bar: 3.0, goal: 8.0 };
        for (what, work) in [("4 to 64 tokens", &self.skills), ("512 tokens", &self.long)] {
            let form = self.onnx(1)?.tune(work)?;
            for threads in [1, 2] {
                let mut onnx = self.onnx(threads)?;
                onnx.shape(&form, work)?;
                let mut peers = [Peer::rust("ours-bf16", &self.store, threads)?, onnx];
                let [ours, theirs] = &mut peers;
                let least = least_cosine(&ours.vectors(work)?, &theirs.vectors(work)?);
                ensure!(least >= NEAR, "{what}: a cosine of {least} to float32, allowed is {NEAR}");
                let times = self.turns(&mut peers, [work; 2])?;
                let per_second = |seconds: Seconds| work.tokens() as f64 / seconds.cpu;
                let peer = format!("{what}: onnxruntime, {form}; least cosine {least:.6}");
                section.row(Row::tokens(&peer, threads, &times, (0, 1), per_second).aiming(aim));
            }
        }
        Ok(section)
    }

    fn onnx(&self, threads: usize) -> Result<Peer> {
        Peer::onnx(&self.python, &self.store.join(MODEL), threads)
    }

    /// Rounds of turns, each beginning with another peer; the first round warms up and is not kept.
    fn turns<const N: usize>(
        &self,
        peers: &mut [Peer; N],
        works: [&Workload; N],
    ) -> Result<Vec<[Seconds; N]>> {
        let mut rounds = Vec::new();
        for round in 0..=self.rounds {
            let mut times = [Seconds { cpu: 0.0, wall: 0.0 }; N];
            for turn in 0..N {
                let who = (round + turn) % N;
                times[who] = peers[who].run(works[who])?;
            }
            if round > 0 {
                rounds.push(times);
            }
        }
        Ok(rounds)
    }
}

/// The aim against onnxruntime in float32.
pub(crate) const ONNX: Aim = Aim { bar: 1.0, goal: 1.15 };

/// As many texts and tokens, all of one length but for what does not divide.
fn equal(mixed: &Workload) -> Vec<usize> {
    let (count, tokens) = (mixed.lengths.len(), mixed.tokens());
    (0..count).map(|index| tokens / count + usize::from(index < tokens % count)).collect()
}

/// Every peer computes the same vectors as the first.
fn same(peers: &mut [Peer], workload: &Workload) -> Result<()> {
    let vectors = peers.iter_mut().map(|peer| peer.vectors(workload)).collect::<Result<Vec<_>>>()?;
    for other in &vectors[1..] {
        let least = least_cosine(&vectors[0], other);
        ensure!(least >= SAME, "two peers disagree: a cosine of {least}");
    }
    Ok(())
}

/// Tables of the program `serving`.
fn serving() -> Result<Section> {
    let mut section = Section::new(Kind::Serving.title());
    let server = sibling("inference-server")?;
    section.text(table(&["overhead".as_ref()])?);
    section.text(table(&["overload".as_ref(), "--server".as_ref(), server.as_ref()])?);
    Ok(section)
}

fn table(args: &[&OsStr]) -> Result<String> {
    let program = sibling("serving")?;
    let output =
        Command::new(&program).args(args).output().with_context(|| format!("{}", program.display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "serving {}: {error}", args[0].display());
    Ok(String::from_utf8(output.stdout)?)
}

/// A program that is built with this one.
fn sibling(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}
