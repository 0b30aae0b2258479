//! Weights of the features, ready to be looked up.
//!
//! Hides the index; a feature that training did not see weighs nothing.

mod file;

pub(crate) use file::Learned;
pub use file::ModelError;

use crate::{
    clusters::Clusters,
    features::Features,
    labels::LABELS,
    lattice::{Row, Transitions},
};

/// Weight of a feature: label and value in units of the scale.
pub(crate) type Weight = (u8, i8);

/// A learned model with an index of its features.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    scale: f32,
    pub(crate) transitions: Transitions,
    pub(crate) clusters: Clusters,
    /// Weights of the features, the first row of those that are unknown.
    rows: Vec<Weights>,
    /// Known features by open addressing on their upper bits.
    slots: Vec<Slot>,
    shift: u32,
}

/// A weight for each label. Whole rows, though three in four weights are 0: adding one takes two
/// vector instructions and no branch, and the branches were two thirds of the tagger's time.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Weights([i8; LANES]);

/// [`LABELS`] rounded up to whole vectors.
const LANES: usize = LABELS.next_multiple_of(32);

/// A feature and its row; row 0 is a free slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    feature: u32,
    row: u32,
}

impl Model {
    /// Indexes what was learned.
    pub(crate) fn new(learned: Learned) -> Self {
        let Learned { scale, transitions, clusters, table } = learned;
        // At most a quarter full, so that the first slot nearly always decides.
        let size = (table.hashes.len() * 4).next_power_of_two().max(2);
        let shift = u32::BITS - size.ilog2();
        let mut slots = vec![Slot::default(); size];
        let mut rows = Vec::with_capacity(table.hashes.len() + 1);
        rows.push(Weights([0; LANES]));
        let mut start = 0;
        for (feature, end) in table.hashes.iter().zip(&table.ends) {
            let mut at = (feature >> shift) as usize;
            while slots[at].row != 0 {
                at = (at + 1) % size;
            }
            slots[at] = Slot { feature: *feature, row: rows.len() as u32 };
            let mut row = Weights([0; LANES]);
            for (label, value) in &table.weights[start..*end as usize] {
                row.0[usize::from(*label)] = *value;
            }
            rows.push(row);
            start = *end as usize;
        }
        Self { scale, transitions, clusters, rows, slots, shift }
    }

    /// Scores of the labels of every word.
    pub(crate) fn scores(&self, features: &Features) -> Vec<Row> {
        let mut found = Vec::new();
        (0..features.len())
            .map(|index| {
                // Looked up before they are summed up, so that the searches do not wait for each
                // other.
                found.clear();
                found.extend(features.of(index).iter().map(|feature| self.row_of(*feature)));
                let mut sums = [0_i16; LANES];
                for row in &found {
                    let weights = &self.rows[*row as usize].0;
                    // No overflow: a word has some fifty features of at most 127.
                    sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += i16::from(*weight));
                }
                std::array::from_fn(|label| f32::from(sums[label]) * self.scale)
            })
            .collect()
    }

    fn row_of(&self, feature: u32) -> u32 {
        let mut at = (feature >> self.shift) as usize;
        loop {
            let slot = self.slots[at];
            if slot.row == 0 || slot.feature == feature {
                return slot.row;
            }
            at = (at + 1) % self.slots.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gazetteer::Gazetteer, words::Words};

    #[test]
    fn a_word_has_the_sum_of_its_features_weights() {
        let names = Gazetteer::default();
        let features = Features::new(&Words::new("Manejo de Excel"), &names, &Clusters::default());
        let mut hashes: Vec<u32> = features.of(2).to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        let rows: Vec<(u32, Row)> = hashes
            .iter()
            .map(|hash| (*hash, std::array::from_fn(|label| if label == 3 { 0.5 } else { 0.0 })))
            .collect();
        let learned = Learned::rounded(&rows, [[0.0; LABELS]; LABELS], Clusters::default());
        let model = Model::new(learned);
        let scores = model.scores(&features);
        let count = features.of(2).len() as f32;
        assert!((scores[2][3] - count * 0.5).abs() < 1e-4, "{}", scores[2][3]);
        assert_eq!(scores[2][1], 0.0);
        assert!(scores[0][3] < scores[2][3]);
    }
}
