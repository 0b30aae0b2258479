//! Codes the titles of job advertisements to the occupations of CUOC, Colombia's classification.
//!
//! The model ships with the crate and needs no server: [`Coder::rank`] gives the occupations of a
//! title, best first, each with its unit group of ISCO-08 and the share of titles right at its
//! score. [`Trainer`] makes the model from the official tables; both read a title through the same
//! features.
//!
//! Three scores are added up: support vector machines for the occupations and for their minor
//! groups, and a layer of embeddings under a softmax.

mod coder;
mod features;
mod model;
mod train;
mod words;

pub use coder::{BUILT_IN, Coded, Coder};
pub use model::{ModelError, Occupation};
pub use train::{HeldOut, TrainError, Trainer};
