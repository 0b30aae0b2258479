//! A loaded model: what it is, its tokenizer and its network.
//!
//! It is defined in the registry and not in `models`, because a language model comes with its
//! engine, and `generation` is above `models`.

use crate::error::Error;
use crate::generation::Generator;
use crate::models::{ComputeError, Extras, Model, ModelInfo, RowModel, RowOutput, Task};
use crate::text::tokenizer::TextTokenizer;

/// A model that can answer requests.
pub struct LoadedModel {
    /// Description for listings and for checks of requests.
    pub info: ModelInfo,
    /// The model's own tokenizer.
    pub tokenizer: TextTokenizer,
    /// The network with its weights.
    pub network: Network,
}

/// The network of a model.
pub enum Network {
    /// Computes one output per row.
    Encoder(Box<dyn Model>),
    /// Generates text, token by token.
    Decoder(Box<Generator>),
}

impl Model for Network {
    /// Runs an encoder; fails for a language model, which has an engine of its own.
    fn run(&self, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        match self {
            Self::Encoder(model) => model.run(rows, extras),
            Self::Decoder(_) => Err(ComputeError::Failed("the model generates text".to_owned())),
        }
    }
}

impl Model for LoadedModel {
    fn run(&self, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        self.network.run(rows, extras)
    }
}

impl RowModel for LoadedModel {
    fn name(&self) -> &str {
        &self.info.name
    }
}

impl LoadedModel {
    /// The generator of a language model.
    ///
    /// # Errors
    /// [`Error::WrongTask`] if the model does not generate text.
    pub fn generator(&self) -> Result<&Generator, Error> {
        match &self.network {
            Network::Decoder(generator) => Ok(generator),
            Network::Encoder(_) => {
                Err(Error::WrongTask { model: self.info.name.clone(), task: Task::Generation.name() })
            }
        }
    }
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel").field("info", &self.info).finish_non_exhaustive()
    }
}
