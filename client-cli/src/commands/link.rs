//! `link`: concepts of a taxonomy that single texts may mean; nothing is stored.
//!
//! Answers come in the order of the lines; an invalid line is reported and the others are answered.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use observatory_proto::pipeline::v1::{
    LinkRequest, LinkResponse, LinkedText, taxonomy_service_client::TaxonomyServiceClient,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lines;
use crate::client::{Connection, MAX_MESSAGE_BYTES, answer};
use crate::context::Context;
use crate::output::{self, Outcome, Progress, Stdout, progress};

/// Texts of a call. Not tuned: a call of some hundred milliseconds, so that progress is seen.
const BATCH: usize = 64;
/// Concepts of a call, fewer than the service answers: with many for each text it has fewer texts.
const CONCEPTS: usize = 16_000;
/// Most characters of a text, as the service takes them: one that is longer is reported with its
/// line.
const CHARACTERS: usize = 2_000;

/// Link wordings of skills or job titles to concepts of a taxonomy, without storing anything.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// Link wordings of skills.
    Skill(Given),
    /// Link job titles to occupations.
    Occupation(Given),
}

#[derive(Debug, clap::Args)]
struct Given {
    /// JSON Lines file with id and text; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "text", required_unless_present = "text")]
    jsonl: Option<PathBuf>,
    /// One text.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Output file [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Concepts of each text.
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    top: u32,
    /// Rank every label of every concept instead of one row per concept.
    #[arg(long)]
    surface: bool,
    /// Give no concept where the best one is not clearly right.
    #[arg(long)]
    abstain: bool,
    /// NAME@VERSION, or NAME where one version is stored; cuoc needs no import [default: the active
    /// taxonomy].
    #[arg(long, value_name = "NAME[@VERSION]")]
    taxonomy: Option<String>,
    /// Language of the labels, where a concept has one in it; else they are English.
    #[arg(long, value_name = "LANGUAGE", default_value = "es")]
    language: String,
}

#[derive(Deserialize)]
struct Line {
    id: Value,
    text: String,
}

/// Sends the texts in batches and prints the answers in order. An invalid line is reported, the
/// others are answered.
///
/// # Errors
/// If a file cannot be read or written, or the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let (kind, given) = match arguments.kind {
        Kind::Skill(given) => ("skill", given),
        Kind::Occupation(given) => ("occupation", given),
    };
    // Input and output first: connecting may start a stack.
    let mut input = open(&given)?;
    let mut out = create(given.out.as_deref())?;
    let request = LinkRequest {
        kind: kind.to_owned(),
        texts: Vec::new(),
        top: given.top,
        surface: given.surface,
        abstain: given.abstain,
        taxonomy: given.taxonomy.clone().unwrap_or_default(),
        language: given.language.clone(),
    };
    let mut service = service(context.client.pipeline().await?);
    let texts = texts_of_a_call(request.top);
    // On a terminal the answers themselves are the progress.
    let watched = given.out.is_none() && output::is_terminal();
    let mut live = (!watched).then(|| Progress::open_ended("texts linked"));
    let (mut number, mut failures, mut read) = (0, 0, 0);
    let mut told = false;
    loop {
        let batch = next(&mut input, &mut number, texts)?;
        if batch.is_empty() {
            break;
        }
        let count = batch.len();
        read += count;
        failures += batch.iter().filter(|(_, line)| line.is_err()).count();
        let linked = link(&mut service, &request, &batch).await?;
        if !told && !linked.methods.is_empty() {
            told = true;
            tell(&linked);
        }
        print(&mut out, batch, linked.texts).with_context(|| format!("cannot write {}", shown(&given)))?;
        if let Some(live) = &mut live {
            live.advance(count as u64);
        }
    }
    // A buffered writer that is only dropped hides the error of its last write.
    out.flush().with_context(|| format!("cannot write {}", shown(&given)))?;
    if read == 0 {
        bail!("the input contains no texts");
    }
    Ok(Outcome::done_if(failures == 0))
}

/// A line with its number: its id and text, or what is wrong with it.
type Read = (u64, Result<Line, String>);

/// The next lines that are not blank; none at the end.
fn next(input: &mut impl BufRead, number: &mut u64, texts: usize) -> anyhow::Result<Vec<Read>> {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    while batch.len() < texts {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).context("cannot read the input")? == 0 {
            break;
        }
        *number += 1;
        if !bytes.trim_ascii().is_empty() {
            batch.push((*number, parse(bytes.trim_ascii())));
        }
    }
    Ok(batch)
}

fn parse(bytes: &[u8]) -> Result<Line, String> {
    let line: Line = serde_json::from_slice(bytes)
        .map_err(|error| format!("{error}; expected an object with id and text"))?;
    if !(line.id.is_string() || line.id.is_number()) {
        return Err("`id` must be a text or a number".to_owned());
    }
    if line.text.trim().is_empty() {
        return Err("`text` is empty".to_owned());
    }
    let length = line.text.chars().count();
    if length > CHARACTERS {
        return Err(format!("`text` has {length} characters, at most {CHARACTERS} are read"));
    }
    Ok(line)
}

/// Asks for the texts of a batch.
async fn link(
    service: &mut TaxonomyServiceClient<Connection>,
    request: &LinkRequest,
    batch: &[Read],
) -> anyhow::Result<LinkResponse> {
    let texts: Vec<String> =
        batch.iter().filter_map(|(_, line)| line.as_ref().ok()).map(|line| line.text.clone()).collect();
    ask(service, request, texts).await
}

/// The service, for answers of as many concepts as a call may have.
pub(super) fn service(pipeline: Connection) -> TaxonomyServiceClient<Connection> {
    TaxonomyServiceClient::new(pipeline).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// How many texts a call may have.
pub(super) fn texts_of_a_call(top: u32) -> usize {
    (CONCEPTS / top.max(1) as usize).clamp(1, BATCH)
}

/// Asks for some texts in one call; an answer for each, in their order. Without a text nothing is
/// asked.
///
/// # Errors
/// If the service refuses, or answers another number of texts.
pub(super) async fn ask(
    service: &mut TaxonomyServiceClient<Connection>,
    request: &LinkRequest,
    texts: Vec<String>,
) -> anyhow::Result<LinkResponse> {
    if texts.is_empty() {
        return Ok(LinkResponse::default());
    }
    let asked = texts.len();
    let linked = answer(service.link(LinkRequest { texts, ..request.clone() }).await)?;
    if linked.texts.len() != asked {
        bail!("the service answered {} of {asked} texts", linked.texts.len());
    }
    Ok(linked)
}

/// Says what the ranking goes by, since a taxonomy without vectors is ranked worse.
pub(super) fn tell(linked: &LinkResponse) {
    progress(format_args!("linking to {} by {}", linked.taxonomy, linked.methods.join(", ")));
}

fn print(out: &mut impl Write, batch: Vec<Read>, linked: Vec<LinkedText>) -> io::Result<()> {
    let mut linked = linked.into_iter();
    for (number, line) in batch {
        match line {
            Err(problem) => progress(format_args!("line {number}: {problem}")),
            Ok(line) => {
                let concepts: Vec<Value> = linked
                    .next()
                    .unwrap_or_default()
                    .concepts
                    .into_iter()
                    .map(|found| json!({ "uri": found.uri, "label": found.label, "score": rounded(found.score) }))
                    .collect();
                writeln!(out, "{}", json!({ "id": line.id, "text": line.text, "concepts": concepts }))?;
            }
        }
    }
    Ok(())
}

fn rounded(score: f32) -> f64 {
    // Enough to order a thousand concepts; an f32 of 0.9 would print as 0.8999999761581421.
    (f64::from(score) * 1e6).round() / 1e6
}

fn open(given: &Given) -> anyhow::Result<Box<dyn BufRead + Send>> {
    match (&given.text, &given.jsonl) {
        (Some(text), _) => {
            let line = json!({ "id": "text", "text": text }).to_string();
            Ok(Box::new(BufReader::new(io::Cursor::new(line))))
        }
        (None, path) => lines::open(path.as_deref().unwrap_or(Path::new("-"))),
    }
}

fn create(path: Option<&Path>) -> anyhow::Result<Box<dyn Write + Send>> {
    Ok(match path {
        None => Box::new(io::BufWriter::new(Stdout)),
        Some(path) => {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Box::new(io::BufWriter::new(file))
        }
    })
}

fn shown(given: &Given) -> String {
    given.out.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers_and_bad_ones_say_why() {
        let text = "{\"id\": 1, \"text\": \"Excel\"}\n\n{\"id\": \"b\"}\n{\"id\": null, \"text\": \"a\"}\n\
                    {\"id\": 2, \"text\": \" \"}\nnull";
        let mut number = 0;
        let batch = next(&mut io::Cursor::new(text), &mut number, 64).unwrap();
        let numbers: Vec<u64> = batch.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 3, 4, 5, 6]);
        let problems: Vec<&str> =
            batch.iter().filter_map(|(_, line)| line.as_ref().err()).map(String::as_str).collect();
        for (problem, expected) in problems.iter().zip([
            "missing field `text` at line 1 column 11; expected an object with id and text",
            "`id` must be a text or a number",
            "`text` is empty",
            "invalid type: null",
        ]) {
            assert!(problem.starts_with(expected), "{problem}");
        }
        assert!(next(&mut io::Cursor::new(""), &mut number, 64).unwrap().is_empty());
        assert_eq!([1, 400, 1_000].map(texts_of_a_call), [64, 40, 16]);
        let long = json!({ "id": 1, "text": "ñ".repeat(2_001) }).to_string();
        assert!(parse(long.as_bytes()).is_err_and(|problem| problem.contains("2001 characters")));
    }

    #[test]
    fn answers_are_paired_with_their_lines() {
        let line = |text: &str| Line { id: json!(text), text: text.to_owned() };
        let batch = vec![(1, Ok(line("a"))), (2, Err("bad".to_owned())), (3, Ok(line("b")))];
        let concept = observatory_proto::pipeline::v1::LinkedConcept {
            uri: "x:1".to_owned(),
            label: "uno".to_owned(),
            score: 0.9,
        };
        let linked = vec![LinkedText { concepts: vec![] }, LinkedText { concepts: vec![concept] }];
        let mut out = Vec::new();
        print(&mut out, batch, linked).unwrap();
        let written: Vec<Value> =
            serde_json::Deserializer::from_slice(&out).into_iter().map(Result::unwrap).collect();
        let expected = [
            json!({ "id": "a", "text": "a", "concepts": [] }),
            json!({ "id": "b", "text": "b", "concepts": [{ "uri": "x:1", "label": "uno", "score": 0.9 }] }),
        ];
        assert_eq!(written, expected);
    }
}
