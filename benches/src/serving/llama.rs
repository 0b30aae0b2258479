//! llama.cpp as the peer, driven through `benches/llama_peer.py`.
//!
//! One line of JSON asks for a figure and one answers, so that both sides are timed in turns.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A process that does one thing at a time, and sleeps between.
pub(crate) struct Llama {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Version and settings.
    pub(crate) settings: String,
}

impl Llama {
    /// With as many threads and texts at once as we have.
    pub(crate) fn start(python: &Path, model: &Path, threads: usize, texts: usize) -> Self {
        let mut child = Command::new(python)
            .args(["-c", include_str!("../../llama_peer.py")])
            .arg("--model")
            .arg(model)
            .args(["--threads", &threads.to_string(), "--sequences", &texts.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut peer = Self { child, input, output: BufReader::new(output), settings: String::new() };
        let begun = peer.answer();
        let text = |key: &str| begun[key].as_str().unwrap().to_owned();
        peer.settings = format!("llama-cpp-python {}: {}", text("version"), text("settings"));
        peer
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("llama_peer.py said {line:?}: {error}"))
    }

    /// Tokens in a second.
    fn speed(&mut self, command: &Value) -> f64 {
        writeln!(self.input, "{command}").unwrap();
        self.input.flush().unwrap();
        let answer = self.answer();
        answer["tokens"].as_f64().unwrap() / answer["seconds"].as_f64().unwrap()
    }

    /// Of one prompt.
    pub(crate) fn reading(&mut self, tokens: usize) -> f64 {
        self.speed(&json!({"do": "read", "tokens": tokens}))
    }

    /// Of one text.
    pub(crate) fn writing(&mut self, prompt: usize, tokens: u32) -> f64 {
        self.speed(&json!({"do": "write", "prompt": prompt, "tokens": tokens}))
    }

    /// Tokens per second over `texts` sequences at once.
    pub(crate) fn together(&mut self, texts: usize, prompt: usize, tokens: u32) -> f64 {
        self.speed(&json!({"do": "batch", "sequences": texts, "prompt": prompt, "tokens": tokens}))
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
