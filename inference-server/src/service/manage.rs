//! Loading and unloading of models while the server runs.
//!
//! Both are asked for by name and take effect on the loader's thread; the calls
//! here report how far they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Service;
use super::call::{Call, CallContext};
use crate::error::Error;
use crate::registry::loaded::LoadedModel;
use crate::registry::{ModelEntry, ModelState};

/// Pause between two looks at a model that is being loaded or unloaded. Not tuned: short for a
/// person, long for a processor.
const POLL: Duration = Duration::from_millis(50);
/// Longest time without a report on a load. Not tuned: far below the minute after which common
/// proxies close a silent stream.
const SILENCE: Duration = Duration::from_secs(1);

/// Progress of a load.
pub(crate) struct LoadReport {
    /// The model as listed.
    pub entry: ModelEntry,
    /// Bytes of weights read.
    pub loaded_bytes: u64,
    /// Bytes of weights in all.
    pub total_bytes: u64,
}

/// A load that is under way. Dropping it does not end the load.
pub(crate) struct Load {
    service: Service,
    name: String,
    call: Call,
    last: Option<((u64, u64), Instant)>,
    done: bool,
}

impl Service {
    /// Asks for a model to be loaded, unless it is ready or on its way.
    ///
    /// # Errors
    /// If the store has no such model, or the server takes no requests.
    pub(crate) fn load(&self, context: &CallContext, name: String) -> Result<Load, Error> {
        let call = self.admit(context)?;
        self.0.loader.request(&name)?;
        Ok(Load { service: self.clone(), name, call, last: None, done: false })
    }

    /// Takes a model out of service and waits until nobody uses it any longer; `changed` is awaited
    /// in between, once new requests cannot reach it.
    ///
    /// # Errors
    /// If there is no such model, it is being loaded, or it is still in use at the deadline.
    pub(crate) async fn unload(
        &self,
        context: &CallContext,
        name: &str,
        changed: impl Future<Output = ()>,
    ) -> Result<ModelEntry, Error> {
        let call = self.admit(context)?;
        let model = self.0.registry.unload(name)?;
        // Before waiting: health and listings must show the model as gone while its last calls end.
        changed.await;
        if let Some(model) = model {
            tokio::select! {
                // Calls and batches that hold the model finish first; only then is its memory free.
                () = only_owner(&model) => {}
                () = tokio::time::sleep_until(call.deadline().into()) => return Err(Error::ExpiredRunning),
            }
            tracing::info!(model.name = name, "model unloaded");
        }
        // Looked up again, as the model may be loading once more by now.
        self.0.registry.entry(name)
    }
}

impl Load {
    /// The next report: when something changed, and at least once a second; `None` after the one
    /// that says the model is ready.
    ///
    /// # Errors
    /// If the model cannot be loaded or was unloaded meanwhile, and at the end of the call.
    pub(crate) async fn next(&mut self) -> Result<Option<LoadReport>, Error> {
        if self.done {
            return Ok(None);
        }
        let interruption = self.call.interruption(Error::ExpiredRunning);
        tokio::select! {
            report = self.report() => report.map(Some),
            error = interruption => Err(error),
        }
    }

    async fn report(&mut self) -> Result<LoadReport, Error> {
        loop {
            // Polled: the loader's thread should not have to know who watches it.
            let entry = self.service.registry().entry(&self.name)?;
            let progress = match &entry.state {
                ModelState::Loading(loading) => loading.progress(),
                ModelState::Ready(model) => (model.info.weight_bytes, model.info.weight_bytes),
                ModelState::Failed(cause) => {
                    return Err(Error::ModelFailed { model: entry.name, cause: cause.clone() });
                }
                ModelState::Unloaded => return Err(Error::ModelUnloaded { model: entry.name }),
            };
            self.done = matches!(entry.state, ModelState::Ready(_));
            let is_news = self.last.is_none_or(|(last, at)| last != progress || at.elapsed() >= SILENCE);
            if self.done || is_news {
                self.last = Some((progress, Instant::now()));
                let (loaded_bytes, total_bytes) = progress;
                return Ok(LoadReport { entry, loaded_bytes, total_bytes });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Returns once nobody else uses the model.
async fn only_owner(model: &Arc<LoadedModel>) {
    // Polled, because an `Arc` cannot notify and unloading is rare.
    while Arc::strong_count(model) > 1 {
        tokio::time::sleep(POLL).await;
    }
}
