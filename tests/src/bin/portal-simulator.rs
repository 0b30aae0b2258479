//! Generated job portals for demonstrations and tests: `generate` writes advertisements, `serve`
//! serves them.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use observatory_tests::simulator::{self, Config, Fault, Simulator, Site, Truth};
use tokio::signal::unix::{SignalKind, signal};

/// Generated job portals in the shapes of Computrabajo, elempleo and Bumeran. All text is
/// generated.
#[derive(Parser)]
#[command(name = "portal-simulator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes advertisements as JSON Lines with the field names of `raw_jobs`, for `observatory
    /// postings import`.
    Generate {
        #[command(flatten)]
        content: Content,
        /// File to write; `-` is the standard output.
        #[arg(long)]
        out: PathBuf,
        /// File for the truth about them, with the planted skills.
        #[arg(long)]
        truth: Option<PathBuf>,
        /// Beginning of every address.
        #[arg(long, default_value = "https://simulated-portals.example")]
        origin: String,
    },
    /// Serves the sites under `/{portal}/{country}` until a signal stops it.
    Serve {
        #[command(flatten)]
        content: Content,
        /// Address and port; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// File that is written when requests are accepted: {"http": "ADDRESS:PORT", "pid": N}.
        #[arg(long)]
        announce_file: Option<PathBuf>,
        /// File for the truth about the wave served at first.
        #[arg(long)]
        truth: Option<PathBuf>,
        /// A fault from the start, such as `computrabajo/too-many-requests:every=5,retry-after=2`;
        /// may be repeated.
        #[arg(long = "fault")]
        faults: Vec<Fault>,
        /// Seconds of Crawl-delay in robots.txt.
        #[arg(long)]
        crawl_delay: Option<u32>,
    },
}

/// The content that both commands generate.
#[derive(Args)]
struct Content {
    /// Seed of every choice.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Advertisements of the first wave over all sites; of written ones at most 1000.
    #[arg(long, default_value_t = 600)]
    ads: usize,
    /// Print advertisements written for this project, with marked skills, in place of composed
    /// ones.
    #[arg(long)]
    written: bool,
    /// Advertisements of one site, such as `bumeran:AR=80`, in place of its part of --ads; may be
    /// repeated.
    #[arg(long = "site", value_parser = site_count)]
    sites: Vec<(Site, usize)>,
    /// "Now" on the sites [default: 2026-11-20T20:00:00Z].
    #[arg(long)]
    clock: Option<DateTime<Utc>>,
    /// Waves to generate: each later one adds, edits and drops advertisements.
    #[arg(long, default_value_t = 2)]
    waves: u32,
    /// Wave to write or to serve at first.
    #[arg(long, default_value_t = 1)]
    wave: u32,
    /// Share of Computrabajo advertisements copied from the country's other portal.
    #[arg(long)]
    duplicates: Option<f64>,
    /// Share of advertisements repeated under a new id.
    #[arg(long)]
    reposts: Option<f64>,
}

fn site_count(text: &str) -> Result<(Site, usize), String> {
    let (site, count) = text.split_once('=').ok_or("expected SITE=COUNT, such as bumeran:AR=80")?;
    Ok((site.parse()?, count.parse().map_err(|_| format!("`{count}` is not a whole number"))?))
}

impl Content {
    fn config(&self) -> Result<Config> {
        let mut config = if self.written {
            Config::written(self.ads, self.seed)
        } else {
            Config { seed: self.seed, ads: Config::spread(self.ads), ..Config::default() }
        };
        for (site, count) in &self.sites {
            config.ads.retain(|(other, _)| other != site);
            config.ads.push((*site, *count));
        }
        (config.waves, config.wave) = (self.waves, self.wave);
        config.clock = self.clock.unwrap_or(config.clock);
        config.shares.duplicates = self.duplicates.unwrap_or(config.shares.duplicates);
        config.shares.reposts = self.reposts.unwrap_or(config.shares.reposts);
        config.check()?;
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Generate { content, out, truth, origin } => {
            let generated = simulator::generate(&content.config()?)?;
            // Paths begin with a slash of their own.
            let origin = origin.trim_end_matches('/');
            write(&out, |file| simulator::write_importable(&generated, origin, file))?;
            write_truth(truth.as_deref(), &generated)?;
            eprintln!("{} generated advertisements in {}", generated.len(), out.display());
            Ok(())
        }
        Command::Serve { content, listen, announce_file, truth, faults, crawl_delay } => {
            let config = Config { listen, faults, crawl_delay, ..content.config()? };
            // Listening for signals before the announcement: a process that reads it may stop us at
            // once.
            let (mut terminate, mut interrupt) =
                (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let simulator = Simulator::start(config).await?;
            // Before the announcement: a process that reads it may look for the truth at once.
            write_truth(truth.as_deref(), &simulator.ground_truth())?;
            if let Some(path) = &announce_file {
                announce(path, simulator.address())?;
            }
            // To stderr, because stdout gets the figures at the end.
            eprintln!("serving generated portals on {}", simulator.origin());
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            let stats = simulator.stop().await?;
            println!("{}", serde_json::to_string(&stats)?);
            Ok(())
        }
    }
}

fn write_truth(path: Option<&Path>, truth: &[Truth]) -> Result<()> {
    path.map_or(Ok(()), |path| write(path, |file| simulator::write_truth(truth, file)))
}

/// Writes a file whole or not at all; `-` is the standard output.
fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    if path == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        return content(&mut out).and_then(|()| out.flush()).context("cannot write to the standard output");
    }
    replace(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let scratch = path.with_extension("tmp");
    let mut file = BufWriter::new(File::create(&scratch)?);
    content(&mut file)?;
    file.into_inner()?.sync_all()?;
    // By a rename: a program that waits for the announcement must not read half of it.
    std::fs::rename(&scratch, path)
}

fn announce(path: &Path, address: SocketAddr) -> Result<()> {
    let text = serde_json::json!({ "http": address.to_string(), "pid": std::process::id() }).to_string();
    write(path, |file| file.write_all(text.as_bytes()))
}
