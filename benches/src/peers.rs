//! Processes that do the same work in turns.
//!
//! A peer reads commands as lines of JSON and answers each with one line; between commands it
//! sleeps, so that only one side works at a time.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::workload::Workload;

/// A process with one encoder in memory; ended with this.
pub(crate) struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    name: String,
}

/// Seconds that a workload took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds {
    /// User and system time of all threads.
    pub(crate) cpu: f64,
    /// On the clock.
    pub(crate) wall: f64,
}

/// A form of the graph in `onnx_peer.py`, and the texts of one batch.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Form {
    form: String,
    batch: usize,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, batches of {}", self.form, self.batch)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// One of the sides in `worker.rs`.
    pub(crate) fn rust(side: &str, store: &Path, threads: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", "--side", side, "--store"]).arg(store);
        Self::start(&mut command, side, threads)
    }

    /// onnxruntime.
    pub(crate) fn onnx(python: &Path, model: &Path, threads: usize) -> Result<Self> {
        let mut command = Command::new(python);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx_peer.py");
        command.arg(script).args(["--threads", &threads.to_string(), "--model"]).arg(model);
        Self::start(&mut command, "onnxruntime", threads)
    }

    fn start(command: &mut Command, name: &str, threads: usize) -> Result<Self> {
        let command = command.env("RAYON_NUM_THREADS", threads.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let to = child.stdin.take().context("no standard input")?;
        let from = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, to, from, name: name.to_owned() })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.to, "{command}")?;
        let mut line = String::new();
        let read = self.from.read_line(&mut line)?;
        ensure!(read > 0, "{} ended; its message is above", self.name);
        Ok(serde_json::from_str(&line)?)
    }

    /// Works through the texts once.
    pub(crate) fn run(&mut self, workload: &Workload) -> Result<Seconds> {
        let answer = self.ask(&json!({"do": "run", "workload": workload.file}))?;
        let number = |name: &str| answer[name].as_f64().with_context(|| format!("{}: no {name}", self.name));
        Ok(Seconds { cpu: number("cpu")?, wall: number("wall")? })
    }

    /// Lets onnxruntime look for its fastest form and batch size.
    pub(crate) fn tune(&mut self, workload: &Workload) -> Result<Form> {
        let answer = self.ask(&json!({"do": "tune", "workload": workload.file}))?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Lets onnxruntime work in this form.
    pub(crate) fn shape(&mut self, form: &Form, workload: &Workload) -> Result<()> {
        let command = json!({"do": "use", "form": form.form, "batch": form.batch, "workload": workload.file});
        self.ask(&command).map(drop)
    }

    /// The vectors of the texts.
    pub(crate) fn vectors(&mut self, workload: &Workload) -> Result<Vec<Vec<f32>>> {
        let answer = self.ask(&json!({"do": "vectors", "workload": workload.file}))?;
        Ok(serde_json::from_value(answer["vectors"].clone())?)
    }
}

/// The least cosine between the vectors of two peers for the same text.
pub(crate) fn least_cosine(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    a.iter().zip(b).map(cosine).fold(1.0, f64::min)
}
