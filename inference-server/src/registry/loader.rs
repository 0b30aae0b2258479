//! The thread that loads models: those of the plan first, then those that callers request, one
//! after the other.
//!
//! Loading is serial because one load may take all processors and most of the memory. The thread
//! reports every change of state through a callback, so that the registry does not have to know who
//! publishes it.

use std::sync::{Arc, mpsc};

use anyhow::Result;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Registry;
use super::loaded::LoadedModel;
use super::warm_up::warm_up;
use crate::device::OpenDevice;
use crate::error::Error;
use crate::scheduler::admission::Admission;

/// Stack size of the thread in bytes. The parsers of tokenizers and chat templates recurse on
/// nested values, and overflowing the default stack of 2 MiB would end the process, where a panic
/// fails one model. Not tuned: pages that are not touched cost nothing.
const STACK_BYTES: usize = 64 << 20;

/// Handle for requesting a model.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    registry: Arc<Registry>,
    names: mpsc::Sender<String>,
}

/// The loader thread before it is started.
pub(crate) struct LoaderThread {
    names: mpsc::Receiver<String>,
    registry: Arc<Registry>,
    admission: Arc<Admission>,
    batch_tokens: usize,
}

impl Loader {
    /// A loader into `registry`. Each model is warmed up with batches of up to `batch_tokens`
    /// tokens, whose speed is reported to `admission`.
    pub(crate) fn new(
        registry: &Arc<Registry>,
        admission: &Arc<Admission>,
        batch_tokens: usize,
    ) -> (Self, LoaderThread) {
        let (names, receiver) = mpsc::channel();
        let loader = Self { registry: Arc::clone(registry), names };
        let thread = LoaderThread {
            names: receiver,
            registry: Arc::clone(registry),
            admission: Arc::clone(admission),
            batch_tokens,
        };
        (loader, thread)
    }

    /// Queues the model for loading, unless it is ready or queued already.
    ///
    /// # Errors
    /// If the store has no such model, or the server is shutting down.
    pub(crate) fn request(&self, name: &str) -> Result<(), Error> {
        if self.registry.queue_load(name)? {
            self.names.send(name.to_owned()).map_err(|_| Error::Draining)?;
        }
        Ok(())
    }
}

impl LoaderThread {
    /// Starts the thread, which loads onto `device` and calls `on_change` after every load, whether
    /// it succeeded or not. The returned task ends once every model of the plan was tried; `None`
    /// if the thread cannot be spawned.
    ///
    /// This is a thread and not a blocking task: the runtime must be able to shut down while a
    /// large file is being read. `on_change` may therefore block.
    pub(crate) fn start(
        self,
        device: OpenDevice,
        on_change: impl Fn() + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        let (sender, tried) = oneshot::channel();
        let builder = std::thread::Builder::new().name("loader".to_owned()).stack_size(STACK_BYTES);
        match builder.spawn(move || self.run(&device, &on_change, sender)) {
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

    fn run(self, device: &OpenDevice, on_change: &impl Fn(), tried: oneshot::Sender<()>) {
        // In the order of preference, so that the default models answer first.
        for entry in self.registry.entries() {
            self.load(&entry.name, device);
            on_change();
        }
        // The receiver is gone if the server stopped first.
        let _ = tried.send(());
        while let Ok(name) = self.names.recv() {
            self.load(&name, device);
            on_change();
        }
    }

    fn load(&self, name: &str, device: &OpenDevice) {
        self.registry.load(name, device, |model| self.warm_up(model));
    }

    /// Warms the model up, so that its first request is fast and admission knows its speed.
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
