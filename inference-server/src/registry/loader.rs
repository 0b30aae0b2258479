//! The thread that loads models: those of the plan first, then those that are asked for, one after
//! the other.

use std::sync::{Arc, mpsc};

use anyhow::Result;
use tokio::task::JoinHandle;

use crate::device::OpenDevice;
use crate::error::Error;
use crate::health::Health;
use crate::registry::Registry;
use crate::registry::loaded::LoadedModel;
use crate::registry::warm_up::warm_up;
use crate::scheduler::admission::Admission;

/// Bytes of the thread's stack: the readers of tokenizers and templates follow nested values by
/// recursion.
const STACK: usize = 64 << 20;

/// Where to ask for a model.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    registry: Arc<Registry>,
    names: mpsc::Sender<String>,
}

/// What becomes the thread once the server runs.
pub(crate) struct Waiting {
    names: mpsc::Receiver<String>,
    registry: Arc<Registry>,
    health: Health,
    admission: Arc<Admission>,
    batch_tokens: usize,
}

impl Loader {
    /// A loader into `registry` that tells `health` of every change, and `admission` how fast
    /// batches of up to `batch_tokens` tokens are.
    pub(crate) fn new(
        registry: &Arc<Registry>,
        health: &Health,
        admission: &Arc<Admission>,
        batch_tokens: usize,
    ) -> (Self, Waiting) {
        let (names, receiver) = mpsc::channel();
        let loader = Self { registry: Arc::clone(registry), names };
        let waiting = Waiting {
            names: receiver,
            registry: Arc::clone(registry),
            health: health.clone(),
            admission: Arc::clone(admission),
            batch_tokens,
        };
        (loader, waiting)
    }

    /// Has the model loaded where it does not answer and is not on its way.
    ///
    /// # Errors
    /// If the store has no such model, or the server is shutting down.
    pub(crate) fn request(&self, name: &str) -> Result<(), Error> {
        if self.registry.request(name)? {
            self.names.send(name.to_owned()).map_err(|_| Error::Draining)?;
        }
        Ok(())
    }
}

impl Waiting {
    /// Starts loading onto the device, on a thread of its own: the runtime must be able to end
    /// while a large file is read. The task ends once every model of the plan was tried.
    pub(crate) fn start(self, device: OpenDevice) -> Option<JoinHandle<()>> {
        let runtime = tokio::runtime::Handle::current();
        let (sender, tried) = tokio::sync::oneshot::channel::<()>();
        let work = move || {
            let load = |name: &str| {
                self.registry.load(name, &device, |model| self.warm_up(model));
                runtime.block_on(self.health.publish());
            };
            for entry in self.registry.entries() {
                load(&entry.name);
            }
            // Nobody waits any more where the server stopped first.
            let _ = sender.send(());
            while let Ok(name) = self.names.recv() {
                load(&name);
            }
        };
        let builder = std::thread::Builder::new().name("loader".to_owned()).stack_size(STACK);
        match builder.spawn(work) {
            Ok(_) => Some(tokio::spawn(async move {
                if tried.await.is_err() {
                    tracing::error!("the model loader stopped early");
                }
            })),
            Err(error) => {
                tracing::error!(error.message = %error, "the model loader cannot be started");
                None
            }
        }
    }

    /// A model answers fast from its first request on, and the server knows how much it can take
    /// on.
    fn warm_up(&self, model: &LoadedModel) -> Result<()> {
        let Some(pace) = warm_up(model, self.batch_tokens)? else { return Ok(()) };
        self.admission.observe(pace.tokens, pace.elapsed);
        tracing::debug!(
            model.name = model.info.name,
            batch.tokens = pace.tokens,
            duration_us = pace.elapsed.as_micros() as u64,
            "warmed up"
        );
        Ok(())
    }
}
