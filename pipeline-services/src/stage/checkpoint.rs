//! Parts of a long task that are written before the task is over.
//!
//! The stage hands each part to the worker and waits for the answer; it goes on only if the part is
//! stored and the task still its own.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{Effect, StageError};
use crate::store::tasks::Task;

/// Part of a task that is to be written before the task is over.
#[derive(Debug)]
pub struct Checkpoint {
    /// Task it belongs to.
    pub task: Task,
    /// Part of a task that is to be written.
    pub effect: Effect,
    /// The place from which another worker goes on: the payload of the task from now on.
    pub payload: Value,
    written: oneshot::Sender<Result<(), StageError>>,
}

impl Checkpoint {
    /// Tells the stage whether it was written.
    pub fn answer(self, result: Result<(), StageError>) {
        // A stage that no longer listens was given up.
        let _ = self.written.send(result);
    }
}

/// The way for a stage to have part of a long task written: the worker writes it through the task's
/// fence, in a transaction of its own, and gives the task its full time again.
#[derive(Debug, Clone)]
pub struct Checkpoints(mpsc::Sender<Checkpoint>);

impl Checkpoints {
    /// The stage's end and the worker's.
    pub fn channel() -> (Self, mpsc::Receiver<Checkpoint>) {
        // One place is enough: a writer waits for its answer before it has more to say.
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Writes part of `task`.
    ///
    /// # Errors
    /// If it was not written: the task belongs to another worker by now, or the database refused.
    pub async fn write(&self, task: &Task, effect: Effect, payload: Value) -> Result<(), StageError> {
        let (written, answer) = oneshot::channel();
        let checkpoint = Checkpoint { task: task.clone(), effect, payload, written };
        self.0.send(checkpoint).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> StageError {
    StageError::Retry("the worker of the task is gone".to_owned())
}
