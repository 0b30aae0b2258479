//! Start-up and shutdown of a process: check, bind, announce, work, drain.
//!
//! Nothing is served before the configuration was checked whole and the schema is recent enough; a
//! request to stop gives work in flight its time and then gives back what is claimed.

mod schema;
mod stopping;

use std::{collections::BTreeMap, io::Write, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use crate::scraper::stage::{self as visits, ScraperStage};
use crate::{
    analyzer::AnalyzerStage,
    api::{self, Services, StageEntry},
    cache::CachedEmbeddings,
    config::{Cli, Config, Role},
    domain::run::StageName,
    embedder::{self, Embedder},
    enhancer::stage::EnhancerStage,
    extractor::{
        Patterns,
        stage::{ExtractorSource, ExtractorStage},
        tagger::Taggers,
    },
    inference::InferenceClient,
    lexicon::Lexicon,
    metrics,
    orchestrator::Orchestrator,
    reporter::stage::ReporterStage,
    stage::Stage,
    store::{self, PgPool},
    vocabulary::VocabularySource,
    worker::{Announcements, Circuits, Counters, ModuleConfig, Worker},
};
pub use stopping::exit_code;
use stopping::{Parts as Running, Signals, Stop};

/// Tasks of a stage that works on each by itself, side by side at most. Not tuned: as many visits
/// of portals as a process can keep at work.
const SIDE_BY_SIDE: u32 = 8;

/// Longest time that a server waits for the schema it needs. Not tuned: long enough for a migration
/// that was begun at the same time; `wait-schema` is for longer ones.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(60);

/// Runs what the command line asks for, until it is done or the process is asked to stop.
///
/// # Errors
/// If the configuration is not acceptable, an address is taken, or the database cannot be used.
pub async fn run(cli: &Cli) -> Result<()> {
    let config = Config::new(cli)?;
    let pool = store::open(config.database_url.reveal(), config.database_connections, config.timing.lease)?;
    // Before anything is waited for: the first process of a container has no other answer to a
    // signal.
    let mut signals = Signals::new()?;
    match cli.role {
        Role::Migrate => {
            let version = schema::migrate(&pool, &mut signals).await?;
            let said = writeln!(std::io::stdout(), "schema version {version}");
            said.context("cannot write to the standard output")
        }
        Role::WaitSchema { min_version, timeout } => {
            let needed = min_version.unwrap_or_else(store::needed_schema_version);
            tracing::info!(schema.needed = needed, "waiting for the schema of the database");
            schema::wait(&pool, needed, Duration::from_secs(timeout), &mut signals).await
        }
        role => serve(role, &config, pool, signals).await,
    }
}

async fn serve(role: Role, config: &Config, pool: PgPool, mut signals: Signals) -> Result<()> {
    // Before anything is waited for, so that a mistake in the configuration is said at once.
    let entrance = config.callers.entrance(config.listen)?;
    let parts = Parts::new(config, pool.clone())?;
    let stages = parts.stages(role, config)?;
    let needed = store::needed_schema_version();
    schema::wait(&pool, needed, SCHEMA_PATIENCE, &mut signals).await?;
    // Bound only now: an open port tells clients and probes that requests are served.
    let listener = api::bind(config.listen).await?;
    let metrics_listener = api::bind(config.metrics_listen).await?;
    let (address, metrics_address) = (listener.local_addr()?, metrics_listener.local_addr()?);
    let stop = Stop::default();
    let mut tasks = JoinSet::new();
    let entries = start_workers(stages, config, &pool, &stop, &mut tasks);
    let orchestrator = role.orchestrates().then(|| {
        // Of the configuration, not of this role: other processes may work on the other stages.
        let enabled = crate::config::STAGES.into_iter().filter(|stage| config.module(*stage).enabled);
        Orchestrator::new(pool.clone(), enabled.collect(), config.module(StageName::Extract).max_retries)
            .with_lease(config.timing.lease)
    });
    if let Some(orchestrator) = orchestrator.clone() {
        let stop = stop.work.clone();
        tasks.spawn(async move { orchestrator.run(stop).await });
    }
    let entries = Arc::new(entries);
    let closed = stop.closed.clone();
    tasks.spawn(metrics::serve(metrics_listener, entrance.clone(), Arc::clone(&entries), closed));
    // After binding: only then is the port known where the configuration says 0.
    if let Some(path) = &config.announce_file {
        announce(path, address, metrics_address)?;
    }
    tracing::info!(listen.address = %address, metrics.address = %metrics_address, "serving");
    let services = Services {
        pool,
        embeddings: parts.embeddings,
        extractor: parts.extractor,
        taggers: parts.taggers,
        orchestrator,
        reporter: entries.contains_key(&StageName::Report).then_some(parts.reporter),
        portals: portals(config)?,
        stages: entries,
        closed: stop.closed.clone(),
    };
    // Not among the tasks: its error is that of the process.
    let server = tokio::spawn(api::serve(services, listener, entrance, stop.work.clone()));
    Running { tasks, server, stop, signals }.until_stopped(config.lame_duck, config.drain).await
}

/// Names of the portals that runs visit; where their files lie with another process, those that the
/// settings name.
fn portals(config: &Config) -> Result<Arc<[String]>> {
    if !config.module(StageName::Scrape).enabled {
        return Ok(Arc::new([]));
    }
    let settings: visits::Settings = config.settings(StageName::Scrape, &visits::SETTINGS)?;
    Ok(visits::chosen(&settings).map_or(settings.portals, |found| found.into_keys().collect()).into())
}

/// State that several stages share.
struct Parts {
    pool: PgPool,
    embeddings: CachedEmbeddings,
    embedder: embedder::Settings,
    vocabulary: Arc<VocabularySource>,
    extractor: Arc<ExtractorSource>,
    taggers: Taggers,
    inference: InferenceClient,
    reporter: Arc<ReporterStage>,
}

impl Parts {
    fn new(config: &Config, pool: PgPool) -> Result<Self> {
        let settings: crate::extractor::stage::Settings =
            config.settings(StageName::Extract, &crate::extractor::stage::SETTINGS)?;
        let lexicon = match &settings.lexicon_dir {
            Some(directory) => Lexicon::from_dir(directory)?,
            None => Lexicon::built_in()?,
        };
        let patterns = match &settings.lexicon_dir {
            Some(directory) => Patterns::from_dir(directory)?,
            None => Patterns::built_in()?,
        };
        let vocabulary = Arc::new(VocabularySource::new(pool.clone(), lexicon));
        let embedder: embedder::Settings = config.settings(StageName::Embed, &embedder::SETTINGS)?;
        let inference = InferenceClient::new(&config.inference)?;
        Ok(Self {
            taggers: Taggers::new(inference.clone(), settings.taggers),
            embeddings: CachedEmbeddings::new(inference.clone(), &embedder.cache(config.cache_dir.clone())),
            inference,
            embedder,
            extractor: Arc::new(ExtractorSource::new(Arc::clone(&vocabulary), patterns)),
            reporter: Arc::new(ReporterStage::new(
                pool.clone(),
                config.reports_dir.clone(),
                config.settings(StageName::Report, &crate::reporter::stage::SETTINGS)?,
            )?),
            vocabulary,
            pool,
        })
    }

    /// The stages of a role; every settings block is checked here, before a port opens.
    fn stages(&self, role: Role, config: &Config) -> Result<Vec<Arc<dyn Stage>>> {
        let mut stages = Vec::new();
        for name in role.stages() {
            // Made even where this process does not work on it, since that checks its settings.
            let stage = self.stage(name, config)?;
            if config.works_on(name, role) {
                if name == StageName::Scrape {
                    let settings: visits::Settings = config.settings(name, &visits::SETTINGS)?;
                    settings.check_contact()?;
                }
                stages.push(stage);
            }
        }
        if stages.is_empty() && !role.orchestrates() {
            bail!("the module of this role is not enabled; set enabled = true in its block");
        }
        Ok(stages)
    }

    fn stage(&self, name: StageName, config: &Config) -> Result<Arc<dyn Stage>> {
        let pool = self.pool.clone();
        Ok(match name {
            StageName::Scrape => {
                let settings = config.settings(name, &visits::SETTINGS)?;
                Arc::new(ScraperStage::new(pool, settings)?)
            }
            StageName::Extract => {
                Arc::new(ExtractorStage::new(pool, Arc::clone(&self.extractor), self.taggers.clone()))
            }
            StageName::Enhance => {
                let settings = config.settings(name, &crate::enhancer::stage::SETTINGS)?;
                let (vocabulary, key) = (Arc::clone(&self.vocabulary), config.llm_api_key.clone());
                Arc::new(EnhancerStage::new(pool, vocabulary, settings, key, &self.inference)?)
            }
            StageName::Embed => Arc::new(Embedder::new(pool, self.embeddings.clone(), self.embedder.clone())),
            StageName::Analyze => {
                let settings = config.settings(name, &crate::analyzer::SETTINGS)?;
                Arc::new(AnalyzerStage::new(pool, settings))
            }
            StageName::Report => Arc::clone(&self.reporter) as Arc<dyn Stage>,
        })
    }
}

fn start_workers(
    stages: Vec<Arc<dyn Stage>>,
    config: &Config,
    pool: &PgPool,
    stop: &Stop,
    tasks: &mut JoinSet<()>,
) -> BTreeMap<StageName, StageEntry> {
    let circuits = Arc::<Circuits>::default();
    let announcements = Arc::<Announcements>::default();
    tasks.spawn({
        let (announcements, pool, stop) = (Arc::clone(&announcements), pool.clone(), stop.work.clone());
        async move { announcements.listen(&pool, &stop).await }
    });
    let mut entries = BTreeMap::new();
    for stage in stages {
        let module = config.module(stage.name());
        let counters = Arc::<Counters>::default();
        // Of a batch nothing is written before all of it is over, so tasks that take long get
        // workers of their own.
        let (workers, batch_size) = match stage.works_singly() {
            true => (module.batch_size.min(SIDE_BY_SIDE), 1),
            false => (1, module.batch_size),
        };
        for _ in 0..workers {
            let module = ModuleConfig { batch_size, ..module.clone() };
            let worker = Worker::new(Arc::clone(&stage), module, pool.clone())
                .paced(config.timing, Arc::clone(&circuits), Arc::clone(&announcements))
                .counted(Arc::clone(&counters));
            let (stop, cut) = (stop.work.clone(), stop.cut.clone());
            tasks.spawn(async move { worker.run(stop, cut).await });
        }
        entries.insert(stage.name(), StageEntry { stage, config: module, counters });
    }
    entries
}

/// Writes the bound addresses whole or not at all.
fn announce(path: &Path, grpc: SocketAddr, metrics: SocketAddr) -> Result<()> {
    let text = serde_json::json!({
        "grpc": grpc.to_string(), "metrics": metrics.to_string(), "pid": std::process::id(),
    });
    // In the same folder, so that the rename stays within one file system.
    let scratch = path.with_extension("tmp");
    replace(path, &scratch, text.to_string().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, scratch: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(scratch)?;
    file.write_all(content)?;
    // Before the rename, which could otherwise survive a crash without the content.
    file.sync_all()?;
    std::fs::rename(scratch, path)
}
