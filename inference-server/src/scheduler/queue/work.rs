//! What goes into the queue and what comes out of it.
//!
//! A caller makes a [`WorkSource`], submits [`Work`] of it and gets a [`WorkOutput`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::models::{Extras, RowModel, RowOutput};
use crate::scheduler::admission::TokenPermit;
use crate::scheduler::batcher::{FairShare, Priority};

/// Origin of work: the model that runs it and its share in fair queueing. All work of one source
/// counts as one share, in however many pieces it is submitted.
///
/// Callers hold it with the type of their model; the queue holds it [erased](Self::erased).
#[derive(Debug)]
pub struct WorkSource<M: ?Sized = dyn RowModel> {
    model: Arc<M>,
    extras: Extras,
    share: Arc<FairShare>,
}

impl<M: ?Sized> Clone for WorkSource<M> {
    fn clone(&self) -> Self {
        Self { model: Arc::clone(&self.model), extras: self.extras, share: Arc::clone(&self.share) }
    }
}

impl<M: RowModel + 'static> WorkSource<M> {
    /// Creates a source: one for each unary request, one for a whole stream.
    pub fn new(model: &Arc<M>, priority: Priority) -> Self {
        // The source keeps the model alive, so no other model gets its address meanwhile.
        let group = Arc::as_ptr(model).addr();
        let share = FairShare::new(group, priority);
        Self { model: Arc::clone(model), extras: Extras::default(), share }
    }

    /// Sets the token outputs to compute with each row.
    pub fn with_extras(self, extras: Extras) -> Self {
        Self { extras, ..self }
    }

    /// The same source without the type of its model, as [`Work`] holds it.
    pub fn erased(&self) -> WorkSource {
        let model: Arc<dyn RowModel> = Arc::<M>::clone(&self.model);
        WorkSource { model, extras: self.extras, share: Arc::clone(&self.share) }
    }
}

impl<M: ?Sized> WorkSource<M> {
    /// Token outputs to compute with each row.
    pub fn extras(&self) -> Extras {
        self.extras
    }

    /// Model that runs the rows.
    pub fn model(&self) -> &Arc<M> {
        &self.model
    }

    /// Share in fair queueing.
    pub(super) fn share(&self) -> &Arc<FairShare> {
        &self.share
    }
}

/// Rows to run on a model.
#[derive(Debug)]
pub struct Work {
    /// Model and share.
    pub source: WorkSource,
    /// Token ids of each row, special tokens included.
    pub rows: Vec<Vec<u32>>,
    /// Cancelled when the caller goes away.
    pub cancel: CancellationToken,
    /// Deadline for the answer.
    pub deadline: Option<Instant>,
    /// Deadline for the first row to reach the device.
    pub begin_by: Option<Instant>,
    /// Reserved tokens: shrinks as rows are computed, released when the work ends for any reason.
    pub permit: TokenPermit,
}

/// Result of a piece of [`Work`].
#[derive(Debug)]
pub struct WorkOutput {
    /// One output per row; see [`crate::models::Model::run`].
    pub outputs: Vec<RowOutput>,
    /// Time from submission to the first batch with a row of the work.
    pub queued: Duration,
    /// Total time of the batches that held its rows, shared with other requests or not.
    pub compute: Duration,
}
