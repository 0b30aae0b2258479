//! `run`: starts, watches, cancels and retries runs.
//!
//! Watching survives a restart of the service, and leaving the watch does not end the run.

mod summary;

use observatory_proto::pipeline::v1::{
    CancelRunRequest, GetRunRequest, ListRunsRequest, RetryRunRequest, Run, RunOptions, RunState,
    StageProgress, StartRunRequest, WatchRunRequest, orchestrator_service_client::OrchestratorServiceClient,
};
use serde_json::{Value, json};

use crate::client::{Code, Connection, Status, answer, refusal};
use crate::commands::text::{self, time};
use crate::context::Context;
use crate::output::{LiveLine, Outcome, Table, progress};
pub(crate) use summary::RunSummary;

/// Start, watch, list, cancel and retry runs over the stored postings.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start a run over the stored postings that match the filters.
    Start(Start),
    /// List runs, newest first.
    List {
        /// Maximum number of runs to list.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=500))]
        limit: i32,
    },
    /// Show a run and its stages.
    Show {
        /// Run id, or its beginning.
        id: String,
    },
    /// Follow a run until it ends.
    Watch {
        /// Run id, or its beginning.
        id: String,
    },
    /// Cancel a run; results so far are kept.
    Cancel {
        /// Run id, or its beginning.
        id: String,
    },
    /// Re-open a finished run.
    Retry {
        /// Run id, or its beginning.
        id: String,
        /// Retry only failed tasks, not cancelled ones.
        #[arg(long)]
        failed_only: bool,
    },
}

/// Filters and stages of a run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Start {
    /// Only postings seen on this portal; may be given several times.
    #[arg(long = "portal", value_name = "P")]
    pub portals: Vec<String>,
    /// Only postings seen in this country (ISO 3166-1, such as CO); may be given several times.
    #[arg(long = "country", value_name = "CC")]
    pub countries: Vec<String>,
    /// Only postings collected within this time, such as 7d, 12h, 30m or 90s; by date of
    /// publication if the date of collection is unknown.
    #[arg(long, value_parser = text::seconds, value_name = "TIME")]
    pub since: Option<u64>,
    /// Maximum number of postings; of those that match, the ones stored first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Comma-separated stages: scrape, extract, enhance, embed, analyze, report [default: all
    /// configured ones].
    #[arg(long, value_delimiter = ',', value_name = "STAGES")]
    pub stages: Vec<String>,
    /// Follow the run until it ends; exit code 1 unless it succeeds.
    #[arg(long)]
    pub watch: bool,
}

impl Start {
    fn options(&self) -> RunOptions {
        RunOptions {
            portals: self.portals.clone(),
            countries: self.countries.clone(),
            since_seconds: self.since.unwrap_or(0),
            limit: self.limit.unwrap_or(0),
            stages: self.stages.clone(),
        }
    }
}

type Runs = OrchestratorServiceClient<Connection>;

/// Runs the subcommand.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut runs = Runs::new(context.client.pipeline().await?);
    match arguments.action {
        Action::Start(start) => {
            let run = start_run(&mut runs, &start).await?;
            if start.watch {
                // To stderr, because stdout gets the run when it has ended.
                progress(format_args!("run {}", run.run_id));
                return watch_or_leave(context, &mut runs, &run.run_id).await;
            }
            print_run(context, &run)?;
            Ok(Outcome::Done)
        }
        Action::List { limit } => list(context, &mut runs, limit).await,
        Action::Show { id } => {
            let found = answer(runs.get_run(GetRunRequest { run_id: id }).await)?.run.unwrap_or_default();
            print_run(context, &found)?;
            Ok(Outcome::Done)
        }
        Action::Watch { id } => watch_or_leave(context, &mut runs, &id).await,
        Action::Cancel { id } => {
            let ended =
                answer(runs.cancel_run(CancelRunRequest { run_id: id }).await)?.run.unwrap_or_default();
            print_run(context, &ended)?;
            Ok(Outcome::Done)
        }
        Action::Retry { id, failed_only } => {
            let opened = answer(runs.retry_run(RetryRunRequest { run_id: id, failed_only }).await)?;
            progress(format_args!("retrying {} tasks", opened.tasks_retried));
            print_run(context, &opened.run.unwrap_or_default())?;
            Ok(Outcome::Done)
        }
    }
}

/// Starts a run.
///
/// # Errors
/// If the service refuses.
pub(crate) async fn start_run(runs: &mut Runs, start: &Start) -> anyhow::Result<Run> {
    let request = StartRunRequest { options: Some(start.options()) };
    Ok(answer(runs.start_run(request).await)?.run.unwrap_or_default())
}

/// Follows a run until it ends or the user interrupts, which does not end the run.
async fn watch_or_leave(context: &Context, runs: &mut Runs, id: &str) -> anyhow::Result<Outcome> {
    let ended = tokio::select! {
        ended = watch(runs, id) => Some(ended?),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None)?,
    };
    match ended {
        Some(run) => finish(context, &run),
        None => {
            let program = &context.program;
            // The line break ends the line on which the terminal has echoed `^C`.
            progress(format_args!(
                "\nrun {id} keeps running; `{program} run watch {id}` follows it again, `{program} run cancel {id}` stops it"
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Follows a run, with progress on stderr; returns the finished run.
///
/// # Errors
/// If the stream ends before the run does.
pub(crate) async fn watch(runs: &mut Runs, id: &str) -> anyhow::Result<Run> {
    // Kept across reconnects, so that no stage is reported twice.
    let mut lines = ProgressLines::default();
    let mut losses = 0;
    loop {
        match follow(runs, id, &mut lines).await {
            Ok(run) => return Ok(run),
            // The run outlives a restart of the service, so try again for a minute.
            Err(status) if is_passing(&status) && losses < 60 => {
                losses += 1;
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Err(status) => return Err(refusal(&status)),
        }
    }
}

fn is_passing(status: &Status) -> bool {
    // A connection that is lost during a stream surfaces as Unknown or Cancelled, too.
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

async fn follow(runs: &mut Runs, id: &str, lines: &mut ProgressLines) -> Result<Run, Status> {
    let mut stream = runs.watch_run(WatchRunRequest { run_id: id.to_owned() }).await?.into_inner();
    while let Some(message) = stream.message().await? {
        let run = message.run.unwrap_or_default();
        lines.tell(&run);
        if run.state() != RunState::Running {
            lines.live.clear();
            return Ok(run);
        }
    }
    // Like a lost connection, so that `watch` tries again.
    Err(Status::unavailable("the service stopped reporting on the run"))
}

/// A live line on a terminal, and one line per finished stage elsewhere.
#[derive(Default)]
struct ProgressLines {
    told: Vec<String>,
    live: LiveLine,
}

impl ProgressLines {
    fn tell(&mut self, run: &Run) {
        for stage in &run.stages {
            let over = matches!(stage.state.as_str(), "done" | "failed" | "skipped");
            if over && !self.told.contains(&stage.stage) {
                self.told.push(stage.stage.clone());
                // The live line would stay behind the new one.
                self.live.clear();
                progress(stage_line(stage));
            }
        }
        if let Some(stage) = run.stages.iter().find(|stage| stage.state == "running") {
            self.live.show(stage_line(stage));
        }
    }
}

fn stage_line(stage: &StageProgress) -> String {
    let mut line = format!("{:<8} {:<8} {} done", stage.stage, stage.state, stage.done);
    for (count, word) in
        [(stage.ready + stage.running, "open"), (stage.failed, "failed"), (stage.up_to_date, "up to date")]
    {
        if count > 0 {
            line.push_str(&format!(", {count} {word}"));
        }
    }
    if let (Some(start), Some(end)) = (&stage.started_at, &stage.finished_at) {
        line.push_str(&format!(", {:.1} s", text::seconds_between(start, end)));
    }
    line
}

async fn list(context: &Context, runs: &mut Runs, limit: i32) -> anyhow::Result<Outcome> {
    let request = ListRunsRequest { page_size: limit, ..ListRunsRequest::default() };
    let found = answer(runs.list_runs(request).await)?.runs;
    let rows = found
        .iter()
        .map(|run| {
            let stages: Vec<&str> = run.stages.iter().map(|stage| stage.stage.as_str()).collect();
            vec![
                run.run_id.clone(),
                state_name(run).to_owned(),
                time(run.created_at.as_ref()),
                stages.join(","),
            ]
        })
        .collect();
    let table = Table::new(&["run", "state", "started", "stages"], rows, found.iter().map(as_json).collect());
    context.output.list(&table, || "no runs yet; start one with `observatory run start --watch`".to_owned())
}

/// Prints a finished run; the outcome reflects its success.
fn finish(context: &Context, run: &Run) -> anyhow::Result<Outcome> {
    print_run(context, run)?;
    Ok(Outcome::done_if(run.state() == RunState::Succeeded))
}

/// The summary of the run, as in `run.json`.
pub(crate) fn as_json(run: &Run) -> Value {
    serde_json::from_str(&run.summary_json).unwrap_or(Value::Null)
}

/// Name of a run's state.
pub(crate) fn state_name(run: &Run) -> &'static str {
    match run.state() {
        RunState::Unspecified => "unknown",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Partial => "partial",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}

fn print_run(context: &Context, run: &Run) -> anyhow::Result<()> {
    context.output.print(&Shown(run))
}

struct Shown<'a>(&'a Run);

impl serde::Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut summary = as_json(self.0);
        if summary.is_null() {
            summary = json!({ "run_id": self.0.run_id });
        }
        summary.serialize(serializer)
    }
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let run = self.0;
        writeln!(f, "run      {}", run.run_id)?;
        writeln!(f, "state    {}", state_name(run))?;
        for stage in &run.stages {
            writeln!(f, "{}", stage_line(stage))?;
        }
        for problem in &run.problems {
            writeln!(f, "problem  {problem}")?;
        }
        match RunSummary::of(run).facts.report.directory {
            Some(directory) => writeln!(f, "report   {directory}"),
            None => Ok(()),
        }
    }
}
