//! Trains the tagger that ships: `train_tagger --clusters FILE --out FILE ADS.jsonl[.gz]...`, see
//! scripts/train-tagger.
//!
//! An advertisement is a line with `id`, `description` and `spans`, each of these with `start`,
//! `end`, `kind` and `place`; those of the test part (SHA-256 of the id begins with a byte below
//! 46) are left out. A line with `tokens`, `tags_skill` and `tags_knowledge` is a sentence of
//! SkillSpan.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use observatory_pipeline::testing::{extractor::names, lexicon::Lexicon};
use observatory_tagging::{Clusters, Kind, Mark, Place, Settings, Trainer};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Ad(Ad),
    Sentence(Sentence),
}

#[derive(Deserialize)]
struct Sentence {
    tokens: Vec<String>,
    tags_skill: Vec<String>,
    tags_knowledge: Vec<String>,
}

#[derive(Deserialize)]
struct Ad {
    id: String,
    description: String,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    start: u32,
    end: u32,
    kind: String,
    place: String,
}

/// First bytes below this make the test part of the written advertisements (tests/data/README.md).
const TEST: u8 = 46;

fn main() -> Result<()> {
    let (mut clusters, mut out, mut files) = (None, None, Vec::new());
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--clusters") => clusters = arguments.next().map(PathBuf::from),
            Some("--out") => out = arguments.next().map(PathBuf::from),
            _ => files.push(PathBuf::from(argument)),
        }
    }
    let (Some(clusters), Some(out)) = (clusters, out) else { bail!("--clusters and --out are needed") };
    let table = text(&clusters)?;
    let names = names(&Lexicon::built_in()?);
    let mut trainer = Trainer::new(Settings::default(), names, Clusters::parse(&table)?);
    let mut count = 0;
    for file in &files {
        for (index, line) in text(file)?.lines().enumerate() {
            let place = || format!("{}:{}", file.display(), index + 1);
            let line: Line = serde_json::from_str(line).with_context(place)?;
            let (text, marks) = match line {
                Line::Ad(ad) if Sha256::digest(&ad.id)[0] < TEST => continue,
                Line::Ad(ad) => {
                    let marks: Result<Vec<Mark>> = ad.spans.iter().map(mark).collect();
                    (ad.description, marks.with_context(place)?)
                }
                Line::Sentence(sentence) => (sentence.tokens.join(" "), sentence.marks()),
            };
            trainer.add(&text, &marks);
            count += 1;
        }
    }
    ensure!(count > 0, "no advertisements");
    eprintln!("{count} texts");
    let model = trainer.train(|epoch, loss| eprintln!("pass {epoch}: loss {loss:.0}"));
    eprintln!("{} bytes", model.len());
    std::fs::write(&out, model).with_context(|| format!("cannot write {}", out.display()))
}

impl Sentence {
    /// Skills are things one does, knowledge is named or known; a knowledge in a skill is left out.
    fn marks(&self) -> Vec<Mark> {
        let mut marks = self.layer(&self.tags_skill, Kind::Ability);
        marks.extend(self.layer(&self.tags_knowledge, Kind::Knowledge));
        marks
    }

    fn layer(&self, tags: &[String], kind: Kind) -> Vec<Mark> {
        let mut marks: Vec<Mark> = Vec::new();
        let (mut start, mut open) = (0, false);
        for (token, tag) in self.tokens.iter().zip(tags) {
            let end = start + token.chars().count() as u32;
            match (tag.as_str(), marks.last_mut()) {
                ("I", Some(mark)) if open => mark.end = end,
                ("B" | "I", _) => marks.push(Mark { start, end, kind, place: Place::Required }),
                _ => {}
            }
            open = tag != "O";
            start = end + 1;
        }
        marks
    }
}

fn mark(span: &Span) -> Result<Mark> {
    let kind = Kind::from_name(&span.kind).with_context(|| format!("kind `{}`", span.kind))?;
    let place = match span.place.as_str() {
        "R" => Place::Required,
        "D" => Place::Duty,
        other => bail!("place `{other}`"),
    };
    Ok(Mark { start: span.start, end: span.end, kind, place })
}

fn text(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn BufRead> = if packed {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    reader.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
