//! Configuration: flags, environment, and the optional `observatory.toml`; checked whole before any
//! port opens.

mod callers;
mod numbers;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
pub(crate) use callers::Options as CallerOptions;
use clap::{Args, Parser, Subcommand};
use observatory_client::Secret;
use serde::de::DeserializeOwned;

use crate::{
    domain::run::StageName,
    inference,
    worker::{ModuleConfig, Timing},
};

/// Stages and runs of the Labor Market Observatory
#[derive(Debug, Parser)]
#[command(name = "pipeline-services", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    /// What this process does
    #[command(subcommand)]
    pub role: Role,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Role {
    /// Visit job portals
    Scraper,
    /// Read skills from postings
    Extractor,
    /// Normalise and deduplicate skills, infer implicit ones
    Enhancer,
    /// Turn skills into vectors
    Embedder,
    /// Cluster the vectors
    Analyzer,
    /// Write reports
    Reporter,
    /// Start and watch runs, and serve the API
    Orchestrator,
    /// Everything above in one process
    All,
    /// Bring the database schema up to date, then end
    Migrate,
    /// Wait until the database schema is recent enough, then end
    WaitSchema {
        /// Version to wait for; the newest this binary knows when absent
        #[arg(long)]
        min_version: Option<i64>,
        /// Seconds to wait
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
}

impl Role {
    /// Stages that the role works on.
    pub fn stages(self) -> Vec<StageName> {
        match self {
            Self::Scraper => vec![StageName::Scrape],
            Self::Extractor => vec![StageName::Extract],
            Self::Enhancer => vec![StageName::Enhance],
            Self::Embedder => vec![StageName::Embed],
            Self::Analyzer => vec![StageName::Analyze],
            Self::Reporter => vec![StageName::Report],
            Self::All => STAGES.to_vec(),
            Self::Orchestrator | Self::Migrate | Self::WaitSchema { .. } => Vec::new(),
        }
    }

    /// Returns whether the role drives runs and serves the API.
    pub const fn orchestrates(self) -> bool {
        matches!(self, Self::Orchestrator | Self::All)
    }
}

/// Every stage, in order.
pub(crate) const STAGES: [StageName; 6] = StageName::ALL;

/// The block of a module that the file does not mention. The scraper is opt-in.
fn default_module(stage: StageName) -> ModuleConfig {
    ModuleConfig { enabled: stage != StageName::Scrape, ..ModuleConfig::default() }
}

#[derive(Debug, Clone, Args)]
struct Options {
    /// PostgreSQL with pgvector
    // Help would print the value of the variable, password and all.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<Secret>,
    /// Connections to the database at most
    #[arg(long, env = "OBSERVATORY_DATABASE_CONNECTIONS", default_value_t = 20, global = true,
        value_parser = clap::value_parser!(u32).range(4..=1000))]
    database_connections: u32,
    #[command(flatten)]
    inference: inference::Options,
    /// Key of the language model endpoint of modules.enhancer.settings, sent as a bearer token
    #[arg(long, env = "OBSERVATORY_LLM_API_KEY", hide_env_values = true, global = true)]
    llm_api_key: Option<Secret>,
    /// Address of the gRPC API; port 0 picks a free one
    #[arg(long, env = "OBSERVATORY_LISTEN", default_value = "127.0.0.1:7401", global = true)]
    listen: SocketAddr,
    #[command(flatten)]
    callers: CallerOptions,
    /// Address of the Prometheus metrics (GET /metrics) and of health over HTTP (GET /livez, GET
    /// /readyz), always without TLS and tokens; port 0 picks a free one
    #[arg(long, env = "OBSERVATORY_METRICS_LISTEN", default_value = "127.0.0.1:0", global = true)]
    metrics_listen: SocketAddr,
    /// File that receives the bound addresses as JSON once the process serves
    #[arg(long, env = "OBSERVATORY_ANNOUNCE_FILE", global = true)]
    announce_file: Option<PathBuf>,
    /// Module blocks, see docs/configuration.md
    #[arg(long, env = "OBSERVATORY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Directory that receives reports
    #[arg(long, env = "OBSERVATORY_REPORTS", default_value = "reports", global = true)]
    reports_dir: PathBuf,
    /// Directory of the on-disk embedding cache; no disk cache if unset
    #[arg(long, env = "OBSERVATORY_CACHE", global = true)]
    cache_dir: Option<PathBuf>,
    /// Seconds for which the API is served on after a request to stop, with every health name
    /// NOT_SERVING; workers take no new work meanwhile
    #[arg(long, env = "OBSERVATORY_LAME_DUCK_SECONDS", default_value_t = 0, global = true,
        value_parser = clap::value_parser!(u64).range(..=3600))]
    lame_duck_seconds: u64,
    /// Seconds that work in flight may take after that
    #[arg(long, env = "OBSERVATORY_DRAIN_SECONDS", default_value_t = 20, global = true)]
    drain_seconds: u64,
    /// Seconds that a claimed task stays its worker's without a sign of life
    #[arg(long, env = "OBSERVATORY_LEASE_SECONDS", default_value_t = 30, global = true,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease_seconds: u64,
    /// Seconds before the first retry of a task; each further one waits twice as long, up to 60 or
    /// this
    #[arg(long, env = "OBSERVATORY_BACKOFF_SECONDS", default_value_t = 2.0, global = true,
        value_parser = backoff)]
    backoff_seconds: f64,
}

fn backoff(text: &str) -> Result<f64, String> {
    // NaN is in no range, so it is refused too.
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.ok_or_else(|| format!("invalid back-off `{text}`: expected seconds from 0.01 to 3600"))
}

/// Checked configuration of a process.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// PostgreSQL URL.
    pub database_url: Secret,
    /// Pool size.
    pub database_connections: u32,
    /// Connection to the inference server.
    pub inference: inference::Options,
    /// Key of the enhancer's endpoint.
    pub llm_api_key: Option<Secret>,
    /// gRPC address.
    pub listen: SocketAddr,
    /// Callers: their rights, their connections and their number.
    pub callers: CallerOptions,
    /// Metrics address.
    pub metrics_listen: SocketAddr,
    /// File that receives the bound addresses.
    pub announce_file: Option<PathBuf>,
    /// Directory of reports.
    pub reports_dir: PathBuf,
    /// Directory of the cache of vectors.
    pub cache_dir: Option<PathBuf>,
    /// Time for which the API is served on after a request to stop.
    pub lame_duck: Duration,
    /// Time for work in flight after that.
    pub drain: Duration,
    /// Leases and delays of the workers.
    pub timing: Timing,
    modules: BTreeMap<String, ModuleConfig>,
}

impl Config {
    /// Checks flags, environment and file together.
    ///
    /// # Errors
    /// If something is missing, unknown or out of range; the text names it.
    pub(crate) fn new(cli: &Cli) -> Result<Self> {
        let options = cli.options.clone();
        let database_url = options
            .database_url
            .context("no database is configured; set DATABASE_URL or give --database-url")?;
        let modules = match &options.config {
            Some(path) => read_modules(path)?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            database_url,
            database_connections: options.database_connections,
            inference: options.inference,
            llm_api_key: options.llm_api_key,
            callers: options.callers,
            listen: options.listen,
            metrics_listen: options.metrics_listen,
            announce_file: options.announce_file,
            reports_dir: options.reports_dir,
            cache_dir: options.cache_dir,
            lame_duck: Duration::from_secs(options.lame_duck_seconds),
            drain: Duration::from_secs(options.drain_seconds),
            timing: timing(options.lease_seconds, options.backoff_seconds),
            modules,
        })
    }

    /// Block of a stage's module; the defaults when the file has none.
    pub(crate) fn module(&self, stage: StageName) -> ModuleConfig {
        self.modules.get(stage.service()).cloned().unwrap_or_else(|| default_module(stage))
    }

    /// Returns whether a process of `role` works on a stage: as its block says; without one, the
    /// scraper only where it was asked for by name.
    pub(crate) fn works_on(&self, stage: StageName, role: Role) -> bool {
        match self.modules.get(stage.service()) {
            Some(module) => module.enabled,
            // `all` must not begin to visit portals just because no file was written.
            None => stage != StageName::Scrape || role == Role::Scraper,
        }
    }

    /// Settings that only the module understands.
    ///
    /// # Errors
    /// If a key is unknown, a number makes no sense or a value has the wrong type.
    pub(crate) fn settings<T: DeserializeOwned>(&self, stage: StageName, known: &[&str]) -> Result<T> {
        let settings = self.module(stage).settings;
        let place = format!("modules.{}.settings", stage.service());
        // Before serde, whose own refusal proposes no key.
        refuse_unknown(&place, &settings, known)?;
        numbers::check(stage.service(), &settings)?;
        T::deserialize(settings).with_context(|| format!("{place} is not valid"))
    }
}

/// Keys of a module block.
const MODULE_KEYS: [&str; 7] =
    ["name", "enabled", "batch_size", "max_retries", "timeout", "patience", "settings"];

/// Longest `timeout` and `patience`: a day, a week. Not tuned: more is a typing error.
const LONGEST_TIMES: [u64; 2] = [86_400, 604_800];

fn read_modules(path: &Path) -> Result<BTreeMap<String, ModuleConfig>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_modules(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

fn parse_modules(text: &str) -> Result<BTreeMap<String, ModuleConfig>> {
    let root: toml::Table = toml::from_str(text)?;
    // A typo that is passed over costs a run, so unknown keys are refused at every level.
    refuse_unknown("the file", &root, &["modules"])?;
    let Some(modules) = root.get("modules") else { return Ok(BTreeMap::new()) };
    let modules = modules.as_table().context("modules is not a table")?;
    let services: Vec<&str> = STAGES.iter().map(|stage| stage.service()).collect();
    refuse_unknown("modules", modules, &services)?;
    modules.iter().map(|(name, block)| Ok((name.clone(), parse_module(name, block)?))).collect()
}

fn parse_module(name: &str, block: &toml::Value) -> Result<ModuleConfig> {
    let place = format!("modules.{name}");
    let table = block.as_table().with_context(|| format!("{place} is not a table"))?;
    refuse_unknown(&place, table, &MODULE_KEYS)?;
    // It repeats the table's name; a different one is a block that was copied.
    if let Some(stated) = table.get("name")
        && stated.as_str() != Some(name)
    {
        bail!("{place}.name is {stated}, expected \"{name}\"");
    }
    let module: ModuleConfig = block.clone().try_into().with_context(|| format!("{place} is not valid"))?;
    if !(1..=10_000).contains(&module.batch_size) {
        bail!("{place}.batch_size is {}, allowed are 1 to 10000", module.batch_size);
    }
    let [longest_timeout, longest_patience] = LONGEST_TIMES;
    if !(1..=longest_timeout).contains(&module.timeout) {
        bail!("{place}.timeout is {}, allowed are 1 to {longest_timeout} seconds", module.timeout);
    }
    if module.patience > longest_patience {
        bail!("{place}.patience is {}, allowed are 0 to {longest_patience} seconds", module.patience);
    }
    if module.max_retries > 100 {
        bail!("{place}.max_retries is {}, allowed are 0 to 100", module.max_retries);
    }
    Ok(module)
}

fn timing(lease: u64, backoff: f64) -> Timing {
    let backoff = Duration::from_secs_f64(backoff);
    // A first delay above the usual longest one is what the operator asked for.
    let longest_backoff = Timing::default().longest_backoff.max(backoff);
    Timing { lease: Duration::from_secs(lease), backoff, longest_backoff }
}

fn refuse_unknown(place: &str, table: &toml::Table, known: &[&str]) -> Result<()> {
    let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(unknown, candidate), *candidate))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        // By Jaro-Winkler. Not tuned: a wrong letter or two stay above it, another word does not.
        .filter(|(likeness, _)| *likeness > 0.75);
    match nearest {
        Some((_, candidate)) => bail!("unknown key `{unknown}` in {place}; did you mean `{candidate}`?"),
        None => bail!("unknown key `{unknown}` in {place}; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse_modules(text).expect_err("the text is refused");
        let message = format!("{error:#}");
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn damaged_files_are_read_or_refused() {
        let corpus = [
            "[modules.scraper]\nname = \"scraper\"\nenabled = true\nbatch_size = 10\nmax_retries = 3\ntimeout = 300\n\
             [modules.scraper.settings]\nportals = [\"elempleo\"]\ndelay = 0.5\n",
            "modules = { enhancer = { timeout = 60, settings = { url = \"http://x.example\" } } }",
        ];
        observatory_mutator::texts("modules", &corpus, |text| match parse_modules(text) {
            Ok(modules) => assert!(modules.values().all(|module| (1..=10_000).contains(&module.batch_size))),
            Err(error) => assert!(format!("{error:#}").len() <= 8 * text.len() + 2_000),
        });
    }

    #[test]
    fn blocks_are_read() {
        let modules =
            parse_modules("[modules.embedder]\nbatch_size = 7\n[modules.embedder.settings]\nmodel = 'm'")
                .expect("valid");
        let embedder = &modules["embedder"];
        assert_eq!((embedder.batch_size, embedder.max_retries, embedder.timeout), (7, 10, 300));
        assert!(embedder.enabled && embedder.settings.contains_key("model"));
    }

    #[test]
    fn bad_blocks_are_refused_with_place_and_hint() {
        refused("[modules.embeder]", "unknown key `embeder` in modules; did you mean `embedder`?");
        refused("[modules.embedder]\nbatchsize = 3", "did you mean `batch_size`?");
        refused("[modules.embedder]\nbatch_size = 0", "allowed are 1 to 10000");
        refused("[modules.embedder]\nbatch_size = 'x'", "modules.embedder is not valid");
        refused("[modules.embedder]\nname = 'x'", "expected \"embedder\"");
        refused("[zebra]", "known are modules");
        refused("[modules", "TOML parse error");
    }
}
