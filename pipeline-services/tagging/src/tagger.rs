//! The tagger: a text in, its skills out.
//!
//! Hides words, features and the lattice; equal texts give equal answers on every machine with the
//! same arithmetic.

use crate::{
    features::Features,
    gazetteer::Gazetteer,
    labels::{Kind, Place},
    lattice::{Lattice, Transitions, steps},
    model::{Learned, Model, ModelError},
    spans::{self, Found},
    words::Words,
};

/// The model that ships: 2.6 MB, see `model/README.md`.
pub static BUILT_IN: &[u8] = include_bytes!("../model/skills.tagger");

/// A skill in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tag {
    /// First code point.
    pub start: u32,
    /// One past the last code point.
    pub end: u32,
    /// First byte.
    pub start_byte: usize,
    /// One past the last byte.
    pub end_byte: usize,
    /// Kind.
    pub kind: Kind,
    /// Asked of the candidate, or a duty.
    pub place: Place,
    /// 0..1: that a reader's mark overlaps it by half (intersection over union of at least 0.5), as
    /// the model believes.
    pub probability: f32,
}

/// Marks skills; shared between threads.
#[derive(Debug, Clone)]
pub struct Tagger {
    model: Model,
    step: Transitions,
    names: Gazetteer,
}

impl Tagger {
    /// A tagger from a model file, with the names that it was trained with.
    ///
    /// # Errors
    /// If the bytes are no model.
    pub fn new(model: &[u8], names: Gazetteer) -> Result<Self, ModelError> {
        let model = Model::new(Learned::read(model)?);
        let step = steps(&model.transitions);
        Ok(Self { model, step, names })
    }

    /// The skills of a text in order, apart from each other.
    pub fn tag(&self, text: &str) -> Vec<Tag> {
        let words = Words::new(text);
        let features = Features::new(&words, &self.names, &self.model.clusters);
        let lattice = Lattice::new(&self.model.scores(&features), self.step);
        spans::best(&lattice, &words).iter().map(|span| Tag::new(span, &words)).collect()
    }
}

impl Tag {
    fn new(span: &Found, words: &Words<'_>) -> Self {
        let (first, last) = (&words.items()[span.first], &words.items()[span.end - 1]);
        Self {
            start: first.start_char,
            end: last.end_char,
            start_byte: first.start,
            end_byte: last.end,
            kind: span.kind,
            place: span.place,
            probability: span.probability,
        }
    }
}
