//! Marks the skills in a job advertisement with a linear-chain conditional random field.
//!
//! The model ships with the crate and needs no server: [`Tagger::tag`] gives every skill with its
//! kind, its place (asked of the candidate, or a duty) and the probability that a reader would have
//! marked it. [`Trainer`] makes the model from marked advertisements; both sides read a text
//! through the same words and features.
//!
//! After Lafferty, McCallum and Pereira (2001), "Conditional Random Fields".

mod bounds;
mod clusters;
mod context;
mod features;
pub mod fold;
mod gazetteer;
mod labels;
mod lattice;
mod model;
mod spans;
mod tagger;
mod train;
mod words;

pub use clusters::Clusters;
pub use gazetteer::Gazetteer;
pub use labels::{Kind, Place};
pub use model::ModelError;
pub use tagger::{BUILT_IN, Tag, Tagger};
pub use train::{Mark, Settings, Trainer};
