//! Answers documents on standard input as `observatory extract` does, in this process: `extract
//! [--spans] [--no-implicit] [ESCO_DIR...] < in.jsonl > out.jsonl`. Says on standard error how
//! fast.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use observatory_pipeline::testing::{
    domain::skill::Mention,
    enhancer::rules,
    extractor::{Extractor, Patterns, oneshot},
    lexicon::Lexicon,
    taxonomy::{Taxonomy, esco},
};

fn main() -> Result<()> {
    let (flags, dirs): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let dirs: Vec<PathBuf> = dirs.into_iter().map(PathBuf::from).collect();
    let started = Instant::now();
    let taxonomy = match dirs.is_empty() {
        true => None,
        false => {
            let loaded = esco::read(&dirs, &[])?;
            eprintln!(
                "{} concepts, {} relations read in {:?}",
                loaded.concepts.len(),
                loaded.relations.len(),
                started.elapsed()
            );
            Some(Arc::new(Taxonomy::new("esco", "example", loaded.concepts)))
        }
    };
    let extractor =
        Extractor::new(Arc::new(Lexicon::built_in()?), Arc::new(Patterns::built_in()?), taxonomy)?;
    eprintln!("{} ready in {:?}", extractor.version(), started.elapsed());
    let lines: Vec<String> =
        io::stdin().lock().lines().collect::<io::Result<_>>().context("cannot read standard input")?;
    let started = Instant::now();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (index, line) in lines.iter().enumerate() {
        let read = oneshot::parse_document(line).with_context(|| format!("line {}", index + 1))?;
        let extraction = extractor.extract(&read.document);
        let answer = if has("--spans") {
            oneshot::spans_answer(&read.id, &extraction)
        } else {
            let named: Vec<Mention> = extraction.named().cloned().collect();
            let mut skills = rules::enhance(&named, extractor.taxonomy(), extractor.lexicon());
            skills.retain(|skill| skill.explicit || !has("--no-implicit"));
            oneshot::answer(&read.id, &extraction, &skills, &oneshot::personal_data(&read.document))
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{} documents in {seconds:.2} s, {:.0} a second", lines.len(), lines.len() as f64 / seconds);
    Ok(())
}
