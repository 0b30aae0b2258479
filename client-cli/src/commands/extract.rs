//! `extract`: skills of advertisements that are not stored.
//!
//! Answers come in the order of the lines; an invalid line is reported and the others are
//! processed.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use observatory_proto::pipeline::v1::{
    ExtractRequest, ExtractResponse, extractor_service_client::ExtractorServiceClient,
};
use serde_json::json;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;

use super::lines;
use crate::client::{MAX_MESSAGE_BYTES, Streaming, refusal};
use crate::context::Context;
use crate::output::{self, Outcome, Progress, Stdout, progress};

/// Extract skills from advertisements, with evidence, without storing anything.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// JSON Lines file with id, title, description, requirements, country, language; `-` reads
    /// standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "text", required_unless_present = "text")]
    jsonl: Option<PathBuf>,
    /// One advertisement as plain text.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Output only spans labelled skill or knowledge.
    #[arg(long)]
    spans: bool,
    /// Output file [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Sends every line and prints the answers in order. An invalid line is reported, the others are
/// answered.
///
/// # Errors
/// If a file cannot be read or written, or the service cannot be reached.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    // Input and output first: connecting may start a stack.
    let input = open(&arguments)?;
    let mut answers = Answers::open(arguments.out.as_deref())?;
    let mut extractor = ExtractorServiceClient::new(context.client.pipeline().await?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    // Not tuned: it keeps the service busy, and a large file out of memory.
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    // The service answers in order, so a queue of line numbers pairs answers with lines. It needs
    // no limit, since the channel of requests has one.
    let (numbers, mut places) = tokio::sync::mpsc::unbounded_channel();
    let spans = arguments.spans;
    let reader = tokio::task::spawn_blocking(move || send_lines(input, spans, &sender, &numbers));
    let mut stream = extractor
        .extract(ReceiverStream::new(receiver))
        .await
        .map_err(|status| refusal(&status))?
        .into_inner();
    // On a terminal the answers themselves are the progress.
    let watched = arguments.out.is_none() && output::is_terminal();
    let live = (!watched).then(|| Progress::open_ended("advertisements read"));
    let failures = receive(&mut stream, &mut places, &mut answers, live).await?;
    // A buffered writer that is only dropped hides the error of its last write.
    answers.end()?;
    // After the answers: an unreadable input ends the stream without an error of the service.
    let read = reader.await??;
    if read == 0 {
        bail!("the input contains no advertisements");
    }
    Ok(Outcome::done_if(failures == 0))
}

/// Writes the answers and reports the failures; returns how many there were.
async fn receive(
    stream: &mut Streaming<ExtractResponse>,
    places: &mut UnboundedReceiver<u64>,
    answers: &mut Answers,
    mut live: Option<Progress>,
) -> anyhow::Result<u64> {
    let mut failures = 0;
    while let Some(found) = stream.message().await.map_err(|status| refusal(&status))? {
        let line = places.recv().await.unwrap_or_default();
        if let Some(live) = &mut live {
            live.advance(1);
        }
        if found.error.is_empty() {
            answers.line(&found.result_json)?;
        } else {
            failures += 1;
            progress(format_args!("line {line}: {}", found.error));
        }
    }
    Ok(failures)
}

/// Output for the answers.
struct Answers {
    writer: Box<dyn Write + Send>,
    /// `None` for standard output, whose errors name it.
    path: Option<PathBuf>,
}

impl Answers {
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let writer: Box<dyn Write + Send> = match path {
            None => Box::new(io::BufWriter::new(Stdout)),
            Some(path) => {
                // In place, unlike an export: the answers before a failure are results, too.
                let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
                Box::new(io::BufWriter::new(file))
            }
        };
        Ok(Self { writer, path: path.map(Path::to_owned) })
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        let written = writeln!(self.writer, "{text}");
        self.name_file(written)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let flushed = self.writer.flush();
        self.name_file(flushed)
    }

    fn name_file(&self, written: io::Result<()>) -> anyhow::Result<()> {
        match &self.path {
            Some(path) => written.with_context(|| format!("cannot write {}", path.display())),
            None => Ok(written?),
        }
    }
}

fn open(arguments: &Arguments) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if let Some(text) = &arguments.text {
        let line = json!({ "id": "text", "description": text }).to_string();
        return Ok(Box::new(io::Cursor::new(line)));
    }
    lines::open(&arguments.jsonl.clone().unwrap_or_default())
}

/// Sends the lines to the service and their numbers to `numbers`; returns how many were sent.
fn send_lines(
    mut input: Box<dyn BufRead + Send>,
    spans: bool,
    sender: &Sender<ExtractRequest>,
    numbers: &UnboundedSender<u64>,
) -> anyhow::Result<u64> {
    let mut sent = 0;
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).context("cannot read the input")? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        // The service reports a line that is not UTF-8 as it does any other that is not JSON.
        let document_json = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
        sent += 1;
        // The number first: it must be there when the answer is.
        if numbers.send(line).is_err()
            || sender.blocking_send(ExtractRequest { document_json, spans }).is_err()
        {
            break;
        }
    }
    Ok(sent)
}
