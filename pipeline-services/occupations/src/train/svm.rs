//! Linear support vector machines, one a label against all others.
//!
//! Dual coordinate descent for the squared hinge loss, with shrinking, after Hsieh and others
//! (2008), "A Dual Coordinate Descent Method for Large-scale Linear SVM", as LIBLINEAR has it.

use super::Row;

/// Passes over the examples at most; LIBLINEAR needs about this many for its tolerance of 0.02.
const PASSES: usize = 60;
/// Spread of the projected gradients at which descent ends; held-out figures do not move below.
const TOLERANCE: f32 = 0.02;

/// Weights of one label against the rest, the bias last. `cost` is that of an example in full.
pub(super) fn train(rows: &[Row], right: &[bool], cost: f32, features: usize) -> Vec<f32> {
    let mut solver = Solver::new(rows, right, cost, features);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut active: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].weight > 0.0).collect();
    let all = active.clone();
    let mut bound = f32::INFINITY;
    for _ in 0..PASSES {
        rng.shuffle(&mut active);
        let (low, high) = solver.pass(&mut active, bound);
        if high - low > TOLERANCE {
            bound = if high > 0.0 { high } else { f32::INFINITY };
        } else if active.len() == all.len() {
            break;
        } else {
            active.clone_from(&all);
            bound = f32::INFINITY;
        }
    }
    solver.weights
}

struct Solver<'a> {
    rows: &'a [Row],
    right: &'a [bool],
    /// Dual variable, half the inverse cost and squared length (with the bias) of each example.
    duals: Vec<f32>,
    ridge: Vec<f32>,
    lengths: Vec<f32>,
    weights: Vec<f32>,
}

impl<'a> Solver<'a> {
    fn new(rows: &'a [Row], right: &'a [bool], cost: f32, features: usize) -> Self {
        let ridge: Vec<f32> = rows.iter().map(|row| 0.5 / (cost * row.weight)).collect();
        let square = |row: &Row| 1.0 + row.values.iter().map(|value| value * value).sum::<f32>();
        let lengths = rows.iter().map(square).collect();
        Self { rows, right, duals: vec![0.0; rows.len()], ridge, lengths, weights: vec![0.0; features + 1] }
    }

    /// One pass; what lies safely outside of the margin leaves `active`. Least and greatest
    /// projected gradient.
    fn pass(&mut self, active: &mut Vec<usize>, bound: f32) -> (f32, f32) {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        active.retain(|index| {
            let sign = if self.right[*index] { 1.0 } else { -1.0 };
            let dual = self.duals[*index];
            let gradient = sign * self.score(*index) - 1.0 + self.ridge[*index] * dual;
            if dual == 0.0 && gradient > bound {
                return false;
            }
            let projected = if dual == 0.0 { gradient.min(0.0) } else { gradient };
            low = low.min(projected);
            high = high.max(projected);
            if projected.abs() > 1e-9 {
                let next = (dual - gradient / (self.lengths[*index] + self.ridge[*index])).max(0.0);
                self.duals[*index] = next;
                self.step(*index, (next - dual) * sign);
            }
            true
        });
        (low, high)
    }

    fn score(&self, index: usize) -> f32 {
        let row = &self.rows[index];
        let pairs = row.features.iter().zip(&row.values);
        self.weights[self.weights.len() - 1]
            + pairs.map(|(feature, value)| self.weights[*feature as usize] * value).sum::<f32>()
    }

    fn step(&mut self, index: usize, by: f32) {
        let row = &self.rows[index];
        for (feature, value) in row.features.iter().zip(&row.values) {
            self.weights[*feature as usize] += by * value;
        }
        *self.weights.last_mut().expect("the bias is always there") += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separable_examples_are_separated_by_the_margin() {
        let row = |feature| Row { features: vec![feature], values: vec![1.0], weight: 1.0, labels: vec![] };
        let rows = [row(0), row(0), row(1), row(2)];
        let weights = train(&rows, &[true, true, false, false], 100.0, 3);
        let score = |feature: usize| weights[feature] + weights[3];
        assert!(score(0) > 0.9 && score(1) < -0.9 && score(2) < -0.9, "{weights:?}");
    }
}
