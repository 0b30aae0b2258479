//! A model that is ready to answer.
//!
//! It is known here, above `generation`, because a language model brings its engine with it.

use crate::error::Error;
use crate::generation::Generator;
use crate::models::{ComputeError, Extras, Model, ModelInfo, RowModel, RowOutput, Task};
use crate::text::tokenizer::TextTokenizer;

/// A model that is ready to answer.
pub struct LoadedModel {
    /// What it is.
    pub info: ModelInfo,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
    /// Its network.
    pub network: Network,
}

/// What a model computes with.
pub enum Network {
    /// One output for each row.
    Encoder(Box<dyn Model>),
    /// Texts, token by token.
    Decoder(Box<Generator>),
}

impl Model for Network {
    /// A model that writes text has no rows.
    fn run(&self, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        match self {
            Self::Encoder(model) => model.run(rows, extras),
            Self::Decoder(_) => Err(ComputeError::Failed("the model writes text".to_owned())),
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
    /// What writes its texts.
    ///
    /// # Errors
    /// [`Error::WrongTask`] where it writes none.
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
