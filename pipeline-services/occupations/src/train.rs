//! Training: titles with their occupations in, a model file out.
//!
//! The same examples in the same order give the same bytes on every machine with the same
//! arithmetic, whatever its number of cores.

mod fit;
mod net;
mod svm;

use crate::{
    features::{self, Feature},
    model::{Model, Occupation, softmax},
};

/// Weight of a duty and of a label of ESCO under the softmax, where a title weighs 1.
const DUTY: f32 = 0.1;
const LABEL: f32 = 0.3;
/// Of as many titles one is held out to choose the sharpness.
const HELD_OUT: usize = 10;

/// Examples that make no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A code that no occupation has.
    #[error("invalid code `{0}`: expected one of an occupation added before")]
    Code(String),
    /// Too little to learn from.
    #[error("too few titles: expected at least {HELD_OUT}, found {0}")]
    Titles(usize),
}

/// What the figures of held-out titles are, from a model that did not learn them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// Titles.
    pub titles: usize,
    /// Share whose best occupation is right.
    pub first: f32,
    /// Share with the right occupation among the best five.
    pub five: f32,
    /// Factor on the scores at which they tell the probability best.
    pub sharpness: f32,
}

/// An example: its features and the labels that are right, any of which will do.
#[derive(Debug, Clone)]
struct Example {
    features: Vec<Feature>,
    labels: Vec<u16>,
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Title,
    /// What the classification says in sentences.
    Duty,
    /// Of another classification, known by its unit group alone.
    Label,
}

/// An example as numbers of known features.
#[derive(Debug, Clone)]
struct Row {
    features: Vec<u32>,
    values: Vec<f32>,
    weight: f32,
    labels: Vec<u16>,
}

/// Collects examples and learns from them.
#[derive(Debug, Clone)]
pub struct Trainer {
    occupations: Vec<Occupation>,
    examples: Vec<Example>,
    titles: usize,
}

impl Trainer {
    /// A trainer for these occupations.
    pub fn new(mut occupations: Vec<Occupation>) -> Self {
        occupations.sort_by(|left, right| left.code.cmp(&right.code));
        let mut trainer = Self { occupations, examples: Vec::new(), titles: 0 };
        for label in 0..trainer.occupations.len() {
            let features = features::of_title(&trainer.occupations[label].name);
            trainer.push(features, vec![label as u16], Source::Title);
        }
        trainer
    }

    /// Adds a title of an occupation.
    ///
    /// # Errors
    /// If the code is unknown.
    pub fn add_title(&mut self, code: &str, title: &str) -> Result<(), TrainError> {
        let label = self.label(code)?;
        self.titles += 1;
        self.push(features::of_title(title), vec![label], Source::Title);
        Ok(())
    }

    /// Adds a sentence on what an occupation does.
    ///
    /// # Errors
    /// If the code is unknown.
    pub fn add_duty(&mut self, code: &str, text: &str) -> Result<(), TrainError> {
        let label = self.label(code)?;
        self.push(features::of_text(text), vec![label], Source::Duty);
        Ok(())
    }

    /// Adds a title of which only the unit group of ISCO-08 is known. Whether an occupation has it.
    pub fn add_label(&mut self, isco: &str, title: &str) -> bool {
        let labels: Vec<u16> = (0..)
            .zip(&self.occupations)
            .filter(|(_, occupation)| occupation.isco.iter().any(|group| group == isco))
            .map(|(label, _)| label)
            .collect();
        let found = !labels.is_empty();
        if found {
            self.push(features::of_title(title), labels, Source::Label);
        }
        found
    }

    /// Learns a model and its figures on titles held out of a first one.
    ///
    /// # Errors
    /// If there are too few titles.
    pub fn train(&self) -> Result<(Vec<u8>, HeldOut), TrainError> {
        if self.titles < HELD_OUT {
            return Err(TrainError::Titles(self.titles));
        }
        let held_out = |index: usize| {
            index >= self.occupations.len()
                && self.examples[index].source == Source::Title
                && index.is_multiple_of(HELD_OUT)
        };
        let (held, kept): (Vec<usize>, Vec<usize>) =
            (0..self.examples.len()).partition(|index| held_out(*index));
        let pick = |indexes: &[usize]| indexes.iter().map(|index| self.examples[*index].clone()).collect();
        let (held, kept): (Vec<Example>, Vec<Example>) = (pick(&held), pick(&kept));
        let figures = judge(&fit::fit(&self.occupations, &kept, 1.0), &held);
        Ok((fit::fit(&self.occupations, &self.examples, figures.sharpness).write(), figures))
    }

    fn label(&self, code: &str) -> Result<u16, TrainError> {
        let found = self.occupations.binary_search_by(|occupation| occupation.code.as_str().cmp(code));
        found.map(|label| label as u16).map_err(|_| TrainError::Code(code.to_owned()))
    }

    fn push(&mut self, features: Vec<Feature>, labels: Vec<u16>, source: Source) {
        self.examples.push(Example { features, labels, source });
    }
}

/// Figures of a model on titles that it did not learn.
fn judge(model: &Model, titles: &[Example]) -> HeldOut {
    let scored: Vec<(Vec<f32>, usize)> = titles
        .iter()
        .filter_map(|title| Some((model.scores(&title.features)?, usize::from(title.labels[0]))))
        .collect();
    let within = |rank: usize| {
        let better =
            |scores: &[f32], right: usize| scores.iter().filter(|score| **score > scores[right]).count();
        scored.iter().filter(|(scores, right)| better(scores, *right) < rank).count() as f32
            / titles.len() as f32
    };
    let sharpness = (4..=80)
        .map(|step| step as f32 * 0.1)
        .min_by(|left, right| loss(&scored, *left).total_cmp(&loss(&scored, *right)));
    HeldOut { titles: titles.len(), first: within(1), five: within(5), sharpness: sharpness.unwrap_or(1.0) }
}

/// Negative logarithm of the right occupations' probabilities at a sharpness.
fn loss(scored: &[(Vec<f32>, usize)], sharpness: f32) -> f32 {
    scored
        .iter()
        .map(|(scores, right)| {
            let mut shares: Vec<f32> = scores.iter().map(|score| score * sharpness).collect();
            softmax(&mut shares);
            -shares[*right].max(1e-9).ln()
        })
        .sum()
}
