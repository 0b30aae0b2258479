//! `eval`: compares the extraction with texts that people have marked.
//!
//! The texts go to the running service without their marks, as `extract` and `link` send them; what
//! comes back is compared here, so that the figures are those of the installed version, its
//! lexicon, its models and the active taxonomy.

mod concepts;
mod figures;
mod gold;
mod labels;
mod lists;
mod mentions;
mod occupations;
mod predictions;
mod rankings;
mod report;
mod sentences;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::context::Context;
use crate::output::{Outcome, progress};
use gold::{Cases, Gold, Measure};
use labels::Aliases;
use predictions::ask;
use report::Report;

/// Compare the extraction with texts that people have marked.
///
/// The gold is sent to the services without its marks, and nothing is stored. Figures are fractions
/// between 0 and 1. A text that the service refuses counts as one in which nothing was found; it is
/// reported, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    measure: Measured,
}

#[derive(Debug, clap::Subcommand)]
enum Measured {
    /// Measure the skills of advertisements.
    ///
    /// Advertisements with marked spans: kind.hard_soft, the share of matched spans whose skill is
    /// hard or soft as marked, and precision, recall and F1 of distinct concepts (uri).
    /// Advertisements with lists of hard and soft skills: the same of folded names, pooled (micro)
    /// and as the mean over advertisements (macro); leak is the share of found names that are
    /// neither marked anywhere nor in their own advertisement.
    Skills {
        #[command(flatten)]
        given: Given,
        /// Also compare lists of skills by this table of names that mean the same: lines of a
        /// variant, a tab and the name it means; `#` begins a comment.
        #[arg(long, value_name = "FILE")]
        aliases: Option<PathBuf>,
    },
    /// Measure where skills are found in texts.
    ///
    /// Advertisements with marked spans: exact (equal bounds), overlap (intersection over union of
    /// at least 0.5, one to one), touched.recall (marks that share a character with a span), recall
    /// by kind, place, country and source, and the shares of overlapping spans with the right kind
    /// and place. Sentences with tagged tokens: strict F1 over label, first and last token.
    Spans(Given),
    /// Measure the concepts that skills are linked to.
    ///
    /// Of marked spans that were found: accuracy (an accepted concept, or none where there is
    /// none), abstained (none though there is one) and wrong (another one), and precision, recall
    /// and F1 of distinct concepts (uri). Of a table of sentences and the skills they name: mean
    /// reciprocal rank and R-precision at 1, 5 and 10 of a ranking of 100.
    Linking(Linked),
    /// Measure the occupations of advertisements.
    ///
    /// Of answered advertisements whose gold has an ESCO occupation: given (it gets one), esco (an
    /// accepted one), precision (accepted among those given), and isco and cuoc if the service
    /// gives these codes. Of job titles with the names of occupations that are right: mean
    /// reciprocal rank and success at 1, 5 and 10 of a ranking of 100 names (surface) or concepts
    /// (concept), also without the titles for which only a group of ISCO is right (_esco).
    Occupations(Linked),
}

#[derive(Debug, clap::Args)]
struct Linked {
    #[command(flatten)]
    given: Given,
    /// Taxonomy that single texts are linked to, NAME@VERSION, or NAME where one version is stored
    /// [default: the active taxonomy].
    #[arg(long, value_name = "NAME[@VERSION]")]
    taxonomy: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Given {
    /// JSON Lines of marked texts, `.gz` too; `-` reads standard input. The form is recognised by
    /// its fields: `spans` (with id, title, description, country, source, occupation),
    /// `hard_skills` and `soft_skills` (with job_id, title, description, requirements, country,
    /// lang), or `tokens`, `tags_skill` and `tags_knowledge`. Single texts are a CSV file with the
    /// columns sentence and label, or a folder with queries.tsv, annotations.tsv,
    /// corpus_elements.tsv and concept_mapping.tsv.
    #[arg(long, value_name = "FILE")]
    gold: PathBuf,
    /// Add 95 % intervals of F1 and of means, from N samples of the texts, drawn with replacement.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=100_000))]
    bootstrap: u32,
    /// Write what was missed and what was wrong to this file, one a line: fault, id, kind, place
    /// and text, tab separated.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

/// Asks for the extraction of every text, compares it with the marks and prints figures.
///
/// # Errors
/// If a file cannot be read or written, the gold is damaged or of another form than the measure
/// needs, or the service cannot be reached or stops answering.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let (measure, given, aliases, taxonomy) = match arguments.measure {
        Measured::Skills { given, aliases } => (Measure::Skills, given, aliases, None),
        Measured::Spans(given) => (Measure::Spans, given, None, None),
        Measured::Linking(Linked { given, taxonomy }) => (Measure::Linking, given, None, taxonomy),
        Measured::Occupations(Linked { given, taxonomy }) => (Measure::Occupations, given, None, taxonomy),
    };
    // Files first: connecting may start a stack.
    let gold = Gold::read(&given.gold, measure)?;
    if taxonomy.is_some() && !matches!(gold.cases, Cases::Texts(_) | Cases::Titles(_)) {
        bail!("--taxonomy is for single texts; {} has texts that are linked to the active one", gold.name);
    }
    if aliases.is_some() && !matches!(gold.cases, Cases::Lists(_)) {
        bail!("--aliases is for lists of skills (`hard_skills`, `soft_skills`); {} has none", gold.name);
    }
    let aliases = aliases.as_deref().map(Aliases::read).transpose()?;
    // Opened now, so that a path that cannot be written costs no evaluation.
    let errors = given.errors.as_deref().map(create).transpose()?;
    let options = Options { aliases, taxonomy: taxonomy.unwrap_or_default(), rounds: given.bootstrap };
    let report = compare(context, &gold, measure, options).await?;
    // Before the figures, so that the file is whole when they appear.
    if let (Some(file), Some(path)) = (errors, &given.errors) {
        let written = report::write(&report.differences, BufWriter::new(file));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let missing = report.missing;
    if missing > 0 {
        progress(format_args!("{missing} of the texts were refused and count as missing"));
    }
    context.output.print(&report.document())?;
    Ok(Outcome::done_if(missing == 0))
}

/// Asks for what the service makes of every text and compares it with the marks.
async fn compare(
    context: &Context,
    gold: &Gold,
    measure: Measure,
    options: Options,
) -> anyhow::Result<Report> {
    let (pipeline, questions) = (context.client.pipeline().await?, gold.questions());
    let Options { aliases, taxonomy, rounds } = options;
    Ok(match &gold.cases {
        Cases::Ads(ads) => match measure {
            Measure::Spans => mentions::report(ads, &ask(pipeline, questions).await?, rounds),
            Measure::Occupations => occupations::report(ads, &ask(pipeline, questions).await?),
            Measure::Skills | Measure::Linking => {
                concepts::report(ads, &ask(pipeline, questions).await?, measure, rounds)
            }
        },
        Cases::Lists(lists) => {
            lists::report(lists, &ask(pipeline, questions).await?, aliases.as_ref(), rounds)
        }
        Cases::Sentences(sentences) => sentences::report(sentences, &ask(pipeline, questions).await?, rounds),
        Cases::Texts(texts) => rankings::skills(pipeline, texts, &taxonomy, rounds).await?,
        Cases::Titles(titles) => rankings::occupations(pipeline, titles, &taxonomy, rounds).await?,
    })
}

/// What changes the figures.
struct Options {
    aliases: Option<Aliases>,
    /// Empty for the active one.
    taxonomy: String,
    /// Of the bootstrap.
    rounds: u32,
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}
