//! Codes titles: `code_titles [--description] [--isco] [MODEL] < IN.jsonl > OUT.jsonl`.
//!
//! A line in has `id` and `text`, with `--description` also `description`, with `--isco` also
//! `isco`, the unit groups allowed. A line out has `id` and the ten best `concepts`, each with
//! `uri` (CUOC's code), `label`, `isco` and `score`. Titles a second go to standard error.

use std::{
    io::{BufWriter, Write, stdin, stdout},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result};
use observatory_occupations::{Coded, Coder};
use serde::Deserialize;
use serde_json::{Value, json};

/// Concepts of a line.
const TOP: usize = 10;

#[derive(Deserialize)]
struct Line {
    id: Value,
    text: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    isco: Vec<String>,
}

fn main() -> Result<()> {
    let (mut described, mut within, mut model) = (false, false, None);
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--description") => described = true,
            Some("--isco") => within = true,
            _ => model = Some(PathBuf::from(argument)),
        }
    }
    let coder = match model {
        Some(path) => Coder::new(&std::fs::read(&path).with_context(|| path.display().to_string())?)?,
        None => Coder::built_in()?,
    };
    let mut out = BufWriter::new(stdout().lock());
    let lines: Vec<Line> =
        stdin().lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
    let start = Instant::now();
    let code = |line: &Line| {
        let description = line.description.as_deref().filter(|_| described);
        let groups: Vec<&str> = line.isco.iter().map(String::as_str).collect();
        match within {
            true => coder.rank_within(&line.text, description, &groups, TOP).iter().map(concept).collect(),
            false => coder.rank(&line.text, description, TOP).iter().map(concept).collect(),
        }
    };
    let coded: Vec<Vec<Value>> = lines.iter().map(code).collect();
    eprintln!("{:.0} titles a second", lines.len() as f64 / start.elapsed().as_secs_f64());
    for (line, concepts) in lines.iter().zip(coded) {
        writeln!(out, "{}", json!({ "id": line.id, "concepts": concepts }))?;
    }
    Ok(out.flush()?)
}

fn concept(coded: &Coded<'_>) -> Value {
    json!({ "uri": coded.code, "label": coded.name, "isco": coded.isco, "score": coded.score })
}
