//! Forward and backward values over the labels of a text.
//!
//! Values are scaled word by word (Rabiner 1989, section V.A), so that texts of any length stay
//! within the range of `f32`; sums of logarithms are `f64`.

use crate::labels::{LABELS, OUTSIDE, may_follow};

/// A value for each label.
pub(crate) type Row = [f32; LABELS];

/// A score for each label after each other.
pub(crate) type Transitions = [Row; LABELS];

/// The lattice of one text.
#[derive(Debug, Clone)]
pub(crate) struct Lattice {
    /// Probability of each word's label, given the words up to it.
    pub(crate) forward: Vec<Row>,
    /// Factor of what follows a word, given its label.
    pub(crate) backward: Vec<Row>,
    /// Factor of each word's labels, divided by the word's scale.
    pub(crate) local: Vec<Row>,
    /// Factor of a label after another; 0 where it may not follow.
    pub(crate) step: Transitions,
    /// Logarithm of the sum over all paths.
    pub(crate) log_sum: f64,
}

/// Factors of the transitions: exp of the score, 0 where a label may not follow.
pub(crate) fn steps(transitions: &Transitions) -> Transitions {
    let mut step = [[0.0; LABELS]; LABELS];
    for (previous, row) in step.iter_mut().enumerate() {
        for (next, factor) in row.iter_mut().enumerate().filter(|(next, _)| may_follow(previous, *next)) {
            *factor = transitions[previous][next].exp();
        }
    }
    step
}

/// The row before the first word: outside.
pub(crate) const fn start() -> Row {
    let mut row = [0.0; LABELS];
    row[OUTSIDE] = 1.0;
    row
}

impl Lattice {
    /// Runs forward and backward over the scores of a text's words; `step` as of [`steps`].
    pub(crate) fn new(scores: &[Row], step: Transitions) -> Self {
        let mut log_sum = 0.0;
        let mut local: Vec<Row> = Vec::with_capacity(scores.len());
        let mut forward: Vec<Row> = Vec::with_capacity(scores.len());
        for row in scores {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let mut factors = row.map(|score| (score - top).exp());
            let mut values = after(forward.last().unwrap_or(&start()), &step);
            values.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
            let scale: f32 = values.iter().sum();
            values.iter_mut().for_each(|value| *value /= scale);
            factors.iter_mut().for_each(|factor| *factor /= scale);
            log_sum += f64::from(top) + f64::from(scale.ln());
            forward.push(values);
            local.push(factors);
        }
        let backward = backward(&local, &step);
        Self { forward, backward, local, step, log_sum }
    }
}

/// One step forward.
fn after(before: &Row, step: &Transitions) -> Row {
    let mut values = [0.0; LABELS];
    for (previous, row) in before.iter().zip(step).filter(|(previous, _)| **previous > 0.0) {
        for (value, factor) in values.iter_mut().zip(row) {
            *value += previous * factor;
        }
    }
    values
}

fn backward(local: &[Row], step: &Transitions) -> Vec<Row> {
    let mut rows = vec![[1.0; LABELS]; local.len()];
    for index in (1..local.len()).rev() {
        let mut next = rows[index];
        next.iter_mut().zip(&local[index]).for_each(|(value, factor)| *value *= factor);
        rows[index - 1] = std::array::from_fn(|previous| {
            let row = &step[previous];
            row.iter().zip(&next).map(|(factor, value)| factor * value).sum()
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum over all paths, one by one.
    fn by_hand(scores: &[Row], transitions: &Transitions, previous: usize) -> f64 {
        let Some((row, rest)) = scores.split_first() else { return 1.0 };
        (0..LABELS)
            .filter(|label| may_follow(previous, *label))
            .map(|label| {
                let factor = f64::from(row[label] + transitions[previous][label]).exp();
                factor * by_hand(rest, transitions, label)
            })
            .sum()
    }

    #[test]
    fn sums_and_probabilities_are_those_of_all_paths() {
        let mut random = 7_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) as f32 / (1 << 24) as f32 * 4.0 - 2.0
        };
        let scores: Vec<Row> = (0..3).map(|_| std::array::from_fn(|_| next())).collect();
        let transitions: Transitions = std::array::from_fn(|_| std::array::from_fn(|_| next()));
        let lattice = Lattice::new(&scores, steps(&transitions));
        let sum = by_hand(&scores, &transitions, OUTSIDE);
        assert!((lattice.log_sum - sum.ln()).abs() < 1e-4, "{} {}", lattice.log_sum, sum.ln());
        for index in 0..scores.len() {
            let total: f32 =
                (0..LABELS).map(|label| lattice.forward[index][label] * lattice.backward[index][label]).sum();
            assert!((total - 1.0).abs() < 1e-4, "{index} {total}");
        }
        // A label whose score rules out the others has their probability.
        let mut sure = scores;
        sure[1] = [-40.0; LABELS];
        sure[1][3] = 40.0;
        let lattice = Lattice::new(&sure, steps(&transitions));
        assert!((lattice.forward[1][3] * lattice.backward[1][3] - 1.0).abs() < 1e-4);
    }

    #[test]
    fn long_texts_stay_finite() {
        let scores = vec![[3.0; LABELS]; 20_000];
        let lattice = Lattice::new(&scores, steps(&[[0.5; LABELS]; LABELS]));
        assert!(lattice.log_sum.is_finite());
        assert!(lattice.backward.iter().flatten().all(|value| value.is_finite()));
    }
}
