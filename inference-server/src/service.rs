//! The operations of the server, on plain types: neither gRPC nor HTTP is known here.
//!
//! A door decodes a request, calls one method of [`Service`], and encodes what comes back. Paths in
//! errors name the fields of the gRPC contract; the HTTP door translates them.

pub(crate) mod access;
pub(crate) mod call;
pub(crate) mod classify;
pub(crate) mod embed;
pub(crate) mod embedding_cache;
pub(crate) mod generate;
pub(crate) mod limits;
pub(crate) mod manage;
mod normalize;
pub(crate) mod rank;
pub(crate) mod read;
pub(crate) mod token_outputs;
pub(crate) mod tokenize;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::models::Task;
use crate::registry::Registry;
use crate::registry::loaded::LoadedModel;
use crate::registry::loader::Loader;
use crate::scheduler::admission::{Admission, TokenPermit};
use crate::scheduler::queue::{Queue, Work, WorkOutput, WorkSource};
use crate::text::worker_pool::WorkerPool;
use call::{Call, CallContext};
use embedding_cache::EmbeddingCache;
use limits::RequestLimits;

/// Everything the service works with, handed over by the composition root.
pub(crate) struct Parts {
    /// The models of the process.
    pub registry: Arc<Registry>,
    /// Loads models on demand.
    pub loader: Loader,
    /// Bounds the work in the server.
    pub admission: Arc<Admission>,
    /// Threads that tokenize.
    pub tokenizers: WorkerPool,
    /// Threads that compile constraints, apart from the tokenizers': a hard one takes seconds.
    pub compilers: WorkerPool,
    /// The device.
    pub queue: Queue,
    /// Embeddings of texts seen before.
    pub cache: EmbeddingCache,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bounds of one request.
    pub limits: RequestLimits,
    /// Cancelled when requests in flight are cut off at the end of a drain.
    pub cut_off: CancellationToken,
}

/// The operations of the server; a clone is a handle to the same one.
#[derive(Clone)]
pub(crate) struct Service(Arc<Parts>);

/// A model as a request names it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelRef {
    /// `organisation/name`; empty for the default of the task.
    pub name: String,
    /// The revision it must be loaded at; empty for any.
    pub revision: String,
}

/// Times of the phases of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timing {
    /// From submission to the first batch.
    pub queued: Duration,
    /// Reading the texts.
    pub tokenize: Duration,
    /// On the device, shared batches counted whole.
    pub compute: Duration,
}

impl Service {
    /// A service over these parts.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The models of the process.
    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The counters.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Bounds of one request.
    pub(crate) fn limits(&self) -> &RequestLimits {
        &self.0.limits
    }

    /// Cancelled when requests in flight are cut off.
    pub(crate) fn cut_off(&self) -> &CancellationToken {
        &self.0.cut_off
    }

    /// Counts the refusal of a request or an item.
    pub(crate) fn count_refusal(&self, error: &Error) {
        self.0.metrics.refused(error.reason());
    }

    fn count_refused_items<T>(&self, items: &[Result<T, Error>]) {
        items.iter().filter_map(|item| item.as_ref().err()).for_each(|error| self.count_refusal(error));
    }

    /// The model asked for; records its revision for the answer's header.
    fn resolve(
        &self,
        context: &CallContext,
        model: &ModelRef,
        task: Option<Task>,
    ) -> Result<Arc<LoadedModel>, Error> {
        let model = self.0.registry.resolve(&model.name, &model.revision, task)?;
        context.record_model(&model);
        Ok(model)
    }

    /// Reserves room on the device for texts that follow `prompt` and were not tokenized yet, by
    /// their length: over capacity fails at once, before any work was spent. The one rule for
    /// requests and for the items of streams.
    fn reserve<'a>(
        &self,
        model: &LoadedModel,
        prompt: &str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<TokenPermit, Error> {
        // A classifier reads a long text in windows, the others truncate it.
        let windowed = model.info.task == Task::TokenClassification;
        let mut tokens = 0;
        for text in texts {
            // Larger texts are refused one by one when they are read.
            if text.len() <= self.0.limits.text_bytes {
                let estimate = model.tokenizer.estimate(prompt.len() + text.len());
                tokens += if windowed { estimate } else { estimate.min(model.info.max_input_tokens) } as u64;
            }
        }
        self.0.admission.reserve(tokens)
    }

    /// Computes rows on the device. `permit` holds the room estimated for them and is settled to
    /// their true number of tokens.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] before anything is computed; those of the queue; and
    /// [`Error::Draining`] if the request is cut off.
    async fn compute(
        &self,
        call: &Call,
        source: &WorkSource<LoadedModel>,
        rows: Vec<Vec<u32>>,
        mut permit: TokenPermit,
    ) -> Result<WorkOutput, Error> {
        // Checked now that reading has shown there is something to compute, and charged below by
        // the true number of tokens.
        call.check_quota()?;
        let tokens = rows.iter().map(|row| row.len() as u64).sum();
        // Before the work waits in the queue: admission of others must not go by an estimate for
        // longer than needed.
        permit.settle(tokens);
        call.charge(tokens, &self.0.metrics);
        let ticket = self.0.queue.submit(Work {
            source: source.erased(),
            rows,
            cancel: call.cancel.clone(),
            deadline: Some(call.deadline),
            begin_by: call.begin_by,
            permit,
        });
        tokio::select! {
            // Dropping the ticket, as the other branch does, takes the rows off the queue.
            done = ticket.wait() => done,
            () = self.0.cut_off.cancelled() => Err(Error::Draining),
        }
    }
}
