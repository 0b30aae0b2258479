//! `infer generate`: streams generated text to stdout.
//!
//! Figures go to stderr; with `--json` everything is one document at the end.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use observatory_client::Connection;
use observatory_proto::inference::v1::{
    Chat, ChatMessage, Choices, Constraint, FinishReason, GenerateRequest, GenerationFinished,
    GenerationLimits, GenerationSettings, GenerationStarted, ModelRef, Priority, Prompt, Sampling,
    constraint, generate_response::Event, generation_service_client::GenerationServiceClient, prompt,
};
use serde_json::json;

use crate::client::{Response, answer};
use crate::context::Context;
use crate::output::{Outcome, print, progress};

/// Prompt, sampling and constraints.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// User message; `-` reads it from standard input.
    prompt: String,
    /// System message.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Complete the prompt as plain text, without the chat template.
    #[arg(long)]
    raw: bool,
    /// Maximum number of tokens to generate [default: 256, or what fits into the context].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    max_tokens: u32,
    /// Sampling temperature; 0 always picks the most likely token.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    temperature: f32,
    /// Nucleus sampling: keep the smallest set of tokens whose probability reaches P.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Random seed; the same seed gives the same text.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Stop before this text; may be given several times.
    #[arg(long = "stop", value_name = "TEXT")]
    stops: Vec<String>,
    /// Constrain the output to the JSON Schema in a file.
    #[arg(long, value_name = "FILE", group = "constraint")]
    json_schema: Option<PathBuf>,
    /// Constrain the output to a regular expression.
    #[arg(long, value_name = "EXPRESSION", group = "constraint")]
    regex: Option<String>,
    /// Constrain the output to a grammar in llguidance's Lark-like syntax.
    #[arg(long, value_name = "FILE", group = "constraint")]
    grammar: Option<PathBuf>,
    /// Constrain the output to one of the given texts; may be given several times.
    #[arg(long = "choice", value_name = "TEXT", group = "constraint")]
    choices: Vec<String>,
}

impl Arguments {
    fn request(&self, model: Option<ModelRef>) -> anyhow::Result<GenerateRequest> {
        let sampling = Sampling {
            temperature: Some(self.temperature),
            top_p: self.top_p,
            seed: self.seed,
            ..Sampling::default()
        };
        let limits = GenerationLimits {
            max_new_tokens: self.max_tokens,
            stop: self.stops.clone(),
            ..GenerationLimits::default()
        };
        let settings = GenerationSettings {
            model,
            priority: Priority::Interactive.into(),
            sampling: Some(sampling),
            limits: Some(limits),
            constraint: self.constraint()?.map(|kind| Constraint { kind: Some(kind) }),
            ..GenerationSettings::default()
        };
        let text = if self.prompt == "-" { io::read_to_string(io::stdin())? } else { self.prompt.clone() };
        let kind = if self.raw {
            prompt::Kind::Text(text)
        } else {
            let system = self.system.clone().map(|content| message("system", content));
            let messages = system.into_iter().chain([message("user", text)]).collect();
            prompt::Kind::Chat(Chat { messages, ..Chat::default() })
        };
        Ok(GenerateRequest { settings: Some(settings), prompt: Some(Prompt { kind: Some(kind) }) })
    }

    fn constraint(&self) -> anyhow::Result<Option<constraint::Kind>> {
        // The group of these arguments allows one of them at most.
        if let Some(file) = &self.json_schema {
            return Ok(Some(constraint::Kind::JsonSchema(read(file)?)));
        }
        if let Some(file) = &self.grammar {
            return Ok(Some(constraint::Kind::Lark(read(file)?)));
        }
        let regex = self.regex.clone().map(constraint::Kind::Regex);
        let choices = (!self.choices.is_empty())
            .then(|| constraint::Kind::Choices(Choices { texts: self.choices.clone() }));
        Ok(regex.or(choices))
    }
}

fn message(role: &str, content: String) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut opened = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    opened.read_to_string(&mut text).with_context(|| format!("cannot read {} as text", file.display()))?;
    Ok(text)
}

/// Streams the text to stdout and prints figures to stderr; with `--json`, prints one document at
/// the end.
///
/// # Errors
/// If the server refuses, or the stream ends early.
pub(super) async fn run(
    context: &Context,
    channel: Connection,
    model: Option<ModelRef>,
    arguments: &Arguments,
) -> anyhow::Result<Outcome> {
    let request = arguments.request(model)?;
    let mut events = answer(GenerationServiceClient::new(channel).generate(request).await)?;
    let as_json = context.output.is_json();
    let (mut text, mut begun) = (String::new(), GenerationStarted::default());
    while let Some(event) = answer(events.message().await.map(Response::new))? {
        match event.event {
            Some(Event::Started(started)) => begun = started,
            Some(Event::Delta(delta)) if as_json => text += &delta.text,
            Some(Event::Delta(delta)) => print(&delta.text)?,
            Some(Event::Finished(finished)) => {
                return end(as_json, &text, &begun, &finished);
            }
            // A kind of event that a newer server sends and this client does not know.
            None => {}
        }
    }
    bail!("the stream ended before the text was finished")
}

fn end(
    as_json: bool,
    text: &str,
    begun: &GenerationStarted,
    finished: &GenerationFinished,
) -> anyhow::Result<Outcome> {
    let usage = finished.usage.unwrap_or_default();
    let timing = finished.timing.unwrap_or_default();
    let reason = match finished.reason() {
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Unspecified => "stop",
    };
    if as_json {
        let document = json!({
            "text": text, "reason": reason, "model": begun.model_name, "revision": begun.model_revision,
            "seed": begun.seed, "prompt_tokens": usage.prompt_tokens,
            "cached_prompt_tokens": usage.cached_prompt_tokens, "completion_tokens": usage.completion_tokens,
            "queue_seconds": seconds(timing.queue_ns), "first_token_seconds": seconds(timing.first_token_ns),
            "seconds": seconds(timing.total_ns),
        });
        print(format_args!("{document:#}\n"))?;
        return Ok(Outcome::Done);
    }
    // The text need not end with a line break. The figures are not part of it, so `> FILE` keeps
    // the text alone.
    print("\n")?;
    progress(figures(begun, finished, reason));
    Ok(Outcome::Done)
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The figures of a text on one line. The speed leaves out the first token, which includes the
/// prompt.
fn figures(begun: &GenerationStarted, finished: &GenerationFinished, reason: &str) -> String {
    let usage = finished.usage.unwrap_or_default();
    let timing = finished.timing.unwrap_or_default();
    let decoding = seconds(timing.total_ns.saturating_sub(timing.first_token_ns));
    let after_first = f64::from(usage.completion_tokens.saturating_sub(1));
    let speed = if decoding > 0.0 { after_first / decoding } else { 0.0 };
    format!(
        "{}: prompt {} tokens ({} cached), generated {} in {:.2} s ({speed:.1} tok/s), finish reason: {reason}, seed {}",
        begun.model_name,
        usage.prompt_tokens,
        usage.cached_prompt_tokens,
        usage.completion_tokens,
        seconds(timing.total_ns),
        begun.seed,
    )
}
