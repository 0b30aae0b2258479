//! What was learned, ready to score a text.
//!
//! Hides how three scores become one; a feature that training did not see counts nothing.

mod file;

pub use file::ModelError;

use crate::features::Feature;

/// Numbers of an embedding. 32 lose half a point of held-out titles, 64 gain none.
pub(crate) const WIDTH: usize = 48;
/// Factor on the features under the embeddings; the features of a text have length 1.
pub(crate) const SCALE: f32 = 3.0;
/// Share of the minor group's score and of the embeddings' (a logarithm), the
/// occupation's own being 1. Chosen on held-out titles.
const GROUP: f32 = 0.3;
const EMBEDDED: f32 = 0.2;
/// Unit of the stored rarities of features, which lie between 1 and 11.
const RARITY: f32 = 1.0 / 20.0;

/// An occupation of the classification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupation {
    /// CUOC's code, five digits.
    pub code: String,
    /// CUOC's name in Spanish.
    pub name: String,
    /// Unit groups of ISCO-08 (four digits each) that CUOC's table of equivalences names, the
    /// nearest first; at least one.
    pub isco: Vec<String>,
}

/// A weight of a feature: label and value in units of the scale. Labels are occupations, then
/// minor groups.
pub(crate) type Weight = (u16, i8);

/// A learned model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) occupations: Vec<Occupation>,
    /// Known features, ascending, with their rarity in units of [`RARITY`].
    pub(crate) hashes: Vec<u32>,
    pub(crate) rarities: Vec<u8>,
    pub(crate) linear: Linear,
    /// Row of each feature's embedding, if it has one.
    pub(crate) rows: Vec<Option<u32>>,
    pub(crate) net: Net,
    /// Factor that makes the scores logarithms of probabilities.
    pub(crate) sharpness: f32,
    /// Minor group of each occupation, as a label.
    groups: Vec<u16>,
}

/// Support vector machines, one a label.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Linear {
    pub(crate) scale: f32,
    pub(crate) biases: Vec<f32>,
    /// Where the weights of each feature end.
    pub(crate) ends: Vec<u32>,
    pub(crate) weights: Vec<Weight>,
}

/// Embeddings of features and of occupations, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Net {
    pub(crate) embeddings: Vec<f32>,
    pub(crate) outputs: Vec<f32>,
    pub(crate) biases: Vec<f32>,
}

/// The parts of a model, before it is known which groups there are.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) occupations: Vec<Occupation>,
    pub(crate) hashes: Vec<u32>,
    pub(crate) rarities: Vec<u8>,
    pub(crate) linear: Linear,
    pub(crate) rows: Vec<Option<u32>>,
    pub(crate) net: Net,
    pub(crate) sharpness: f32,
}

impl Model {
    /// A model of these parts.
    pub(crate) fn new(parts: Parts) -> Self {
        let groups = groups(&parts.occupations);
        let Parts { occupations, hashes, rarities, linear, rows, net, sharpness } = parts;
        Self { occupations, hashes, rarities, linear, rows, net, sharpness, groups }
    }

    /// Scores of all occupations, any number; none if no feature is known.
    pub(crate) fn scores(&self, features: &[Feature]) -> Option<Vec<f32>> {
        let known = known(&self.hashes, &self.rarities, features);
        if known.is_empty() {
            return None;
        }
        let sums = self.linear.scores(&known);
        let embedded: Vec<(u32, f32)> = known
            .iter()
            .filter_map(|(feature, value)| Some((self.rows[*feature as usize]?, SCALE * value)))
            .collect();
        let mut shares = self.net.outputs_of(&self.net.hidden(&embedded));
        softmax(&mut shares);
        let fused = shares.iter().zip(&self.groups).enumerate().map(|(label, (share, group))| {
            sums[label] + GROUP * sums[usize::from(*group)] + EMBEDDED * share.max(1e-9).ln()
        });
        Some(fused.collect())
    }
}

impl Linear {
    fn scores(&self, known: &[(u32, f32)]) -> Vec<f32> {
        let mut sums = vec![0.0; self.biases.len()];
        for (feature, value) in known {
            let end = self.ends[*feature as usize] as usize;
            let start = feature.checked_sub(1).map_or(0, |before| self.ends[before as usize] as usize);
            for (label, weight) in &self.weights[start..end] {
                sums[usize::from(*label)] += value * f32::from(*weight);
            }
        }
        sums.iter().zip(&self.biases).map(|(sum, bias)| sum * self.scale + bias).collect()
    }
}

impl Net {
    /// Sum of the embeddings of rows by their values.
    pub(crate) fn hidden(&self, rows: &[(u32, f32)]) -> [f32; WIDTH] {
        let mut sum = [0.0; WIDTH];
        for (row, value) in rows {
            let embedding = &self.embeddings[*row as usize * WIDTH..][..WIDTH];
            sum.iter_mut().zip(embedding).for_each(|(sum, number)| *sum += value * number);
        }
        sum
    }

    /// Scores of the occupations, before the softmax.
    pub(crate) fn outputs_of(&self, hidden: &[f32; WIDTH]) -> Vec<f32> {
        let score = |row: &[f32]| {
            // Eight sums side by side, so that the additions do not wait for each other.
            let mut sums = [0.0_f32; 8];
            for (row, hidden) in row.chunks_exact(8).zip(hidden.chunks_exact(8)) {
                for index in 0..8 {
                    sums[index] += row[index] * hidden[index];
                }
            }
            sums.iter().sum::<f32>()
        };
        self.outputs.chunks_exact(WIDTH).zip(&self.biases).map(|(row, bias)| score(row) + bias).collect()
    }
}

/// The label of each occupation's minor group: the first three digits, numbered in order after the
/// occupations.
pub(crate) fn groups(occupations: &[Occupation]) -> Vec<u16> {
    let mut names: Vec<&str> = occupations.iter().map(minor).collect();
    names.sort_unstable();
    names.dedup();
    let label = |occupation| names.partition_point(|name| *name < minor(occupation)) + occupations.len();
    occupations.iter().map(|occupation| label(occupation) as u16).collect()
}

fn minor(occupation: &Occupation) -> &str {
    occupation.code.get(..3).unwrap_or(&occupation.code)
}

/// A rarity as it is stored.
pub(crate) fn stored_rarity(rarity: f32) -> u8 {
    (rarity / RARITY).round().clamp(1.0, 255.0) as u8
}

/// Known features by their number, each with its value times its rarity, of length 1 together.
pub(crate) fn known(hashes: &[u32], rarities: &[u8], features: &[Feature]) -> Vec<(u32, f32)> {
    let mut out: Vec<(u32, f32)> = features
        .iter()
        .filter_map(|feature| {
            let at = hashes.binary_search(&feature.hash).ok()?;
            Some((at as u32, feature.value * f32::from(rarities[at]) * RARITY))
        })
        .collect();
    let length = out.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
    out.iter_mut().for_each(|(_, value)| *value /= length);
    out
}

/// Scores to shares of 1.
pub(crate) fn softmax(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - top).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}
