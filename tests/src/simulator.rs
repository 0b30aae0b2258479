//! Job portals of our own to read from: generated advertisements, served over HTTP in the shapes of
//! Computrabajo, elempleo and Bumeran, with the truth about them, faults on demand and a log of the
//! reader's manners.
//!
//! One origin serves every site under `/{portal}/{country}`, country in lower case. The words come
//! from one of two places ([`Texts`]). Templates: more than a fifth of the skills they name are
//! coined here and in no lexicon, and they also name skills that are not planted, so nothing
//! measured on them is an accuracy. Or advertisements written for this project, with every skill
//! marked.

use std::{io, net::SocketAddr, sync::Arc};

use chrono::{DateTime, Utc};
use tokio::{net::TcpListener, task::JoinHandle};

mod advertisement;
mod bumeran;
mod catalog;
mod clock;
mod coinage;
mod compose;
mod computrabajo;
mod config;
mod control;
mod elempleo;
mod fault;
mod log;
mod occupations;
mod page;
mod places;
mod rng;
mod robots;
mod server;
mod site;
mod state;
mod text;
mod truth;
mod written;

pub use advertisement::{PersonalData, PlantedSkill};
pub use config::{Config, ConfigError, Shares, Texts};
pub use fault::{Fault, FaultError, FaultKind};
pub use log::{LoggedRequest, Stats};
pub use site::{Country, Portal, Site};
pub use text::comparable;
pub use truth::{Truth, write_importable, write_truth};
pub use written::{Mark, Marks};

use catalog::Catalog;
use fault::Faults;
use log::Log;
use state::{Live, Shared};

/// Reason why the simulator could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("the simulator stopped serving")]
    Serve(#[source] io::Error),
}

/// The advertisements of a wave without any server: what a reader of the sites should deliver.
///
/// # Errors
/// If the configuration is out of range.
pub fn generate(config: &Config) -> Result<Vec<Truth>, ConfigError> {
    config.check()?;
    Ok(truth::of_wave(&Catalog::generate(config), config.wave))
}

/// Sites being served. Dropping it stops them.
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl Simulator {
    /// Generates the advertisements and serves them; returns when the port accepts connections.
    ///
    /// # Errors
    /// If the configuration is out of range or its address is taken.
    pub async fn start(config: Config) -> Result<Self, SimulatorError> {
        config.check()?;
        // Before the catalogue, whose generation takes longest: a taken port is reported at once.
        let listening = listen(config.listen).await;
        let (listener, address) =
            listening.map_err(|source| SimulatorError::Listen { address: config.listen, source })?;
        let catalog = Catalog::generate(&config);
        let live = Live {
            wave: config.wave,
            clock: config.clock,
            faults: Faults::new(config.faults),
            log: Log::new(),
        };
        let shared = Arc::new(Shared::new(catalog, config.waves, config.crawl_delay, live));
        let server = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server: Some(server) })
    }

    /// Address of the sites.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://host:port`, no slash at the end.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Address that a site's paths are appended to, such as
    /// `http://127.0.0.1:4711/computrabajo/co`.
    pub fn site_url(&self, site: Site) -> String {
        format!("{}{}", self.origin(), site.root())
    }

    /// The advertisements that a reader of the wave being served should deliver, each once.
    pub fn ground_truth(&self) -> Vec<Truth> {
        let wave = self.shared.live().wave;
        truth::of_wave(&self.shared.catalog, wave)
    }

    /// Serves another wave from now on.
    ///
    /// # Errors
    /// If no such wave was generated.
    pub fn set_wave(&self, wave: u32) -> Result<(), ConfigError> {
        let set = control::set_wave(&self.shared, &wave.to_string());
        set.map_err(|_| ConfigError::Wave { wave, waves: self.shared.waves })
    }

    /// Makes it another time on the sites: ages change, dates of publication do not.
    pub fn set_clock(&self, clock: DateTime<Utc>) {
        self.shared.live().clock = clock;
    }

    /// Puts these faults in the place of those before; their counts begin at zero.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.live().faults = Faults::new(faults);
    }

    /// Figures over all requests so far.
    pub fn stats(&self) -> Stats {
        self.shared.live().log.stats()
    }

    /// Every answered request, in the order of the answers.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.live().log.requests()
    }

    /// Stops listening, answers what is under way, and returns the last figures.
    ///
    /// # Errors
    /// If the server had ended before.
    pub async fn stop(mut self) -> Result<Stats, SimulatorError> {
        self.shared.stop.cancel();
        if let Some(server) = self.server.take() {
            server
                .await
                .map_err(io::Error::other)
                .and_then(|served| served)
                .map_err(SimulatorError::Serve)?;
        }
        Ok(self.stats())
    }
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    // Asked again, because port 0 has become another one.
    let address = listener.local_addr()?;
    Ok((listener, address))
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
