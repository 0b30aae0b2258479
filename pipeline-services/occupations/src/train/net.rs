//! A layer of embeddings under a softmax: what titles of one occupation share beyond words.
//!
//! As in Joulin and others (2017), "Bag of Tricks for Efficient Text Classification". An example
//! with several labels is right with any of them: the loss is the logarithm of their sum.

use super::Row;
use crate::model::{Net, SCALE, WIDTH, softmax};

/// Examples of a step, passes, and the rate of the first step, which falls to 0 in a line. The
/// rate was the best of three on held-out titles; more passes gain nothing.
const BATCH: usize = 256;
const PASSES: usize = 20;
const RATE: f32 = 0.005;
/// Share of the features left out of each example in turn.
const DROPPED: f32 = 0.3;
/// What a step takes off each weight, times the rate: Adam's decoupled decay.
const DECAY: f32 = 0.001;
/// Adam's memory of gradients and of their squares.
const MEMORY: (f32, f32) = (0.9, 0.99);
/// Seed of beginning, order and dropping.
const SEED: u64 = 1;

/// Learns `labels` classes over `features` features.
pub(super) fn train(rows: &[Row], features: usize, labels: usize) -> Net {
    let mut trainer = Trainer::new(features, labels);
    let mut order: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].weight > 0.0).collect();
    let steps = (PASSES * order.len().div_ceil(BATCH)) as f32;
    let mut step = 0;
    for _ in 0..PASSES {
        trainer.rng.shuffle(&mut order);
        for batch in order.chunks(BATCH) {
            for index in batch {
                trainer.example(&rows[*index], batch.len());
            }
            step += 1;
            trainer.step(step, RATE * (1.0 - step as f32 / steps));
        }
    }
    trainer.net
}

/// Parameters with their gradient and Adam's two averages.
struct Moments {
    gradient: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Moments {
    fn new(size: usize) -> Self {
        Self { gradient: vec![0.0; size], mean: vec![0.0; size], square: vec![0.0; size] }
    }

    /// A step of Adam (Kingma and Ba 2015); the gradient is 0 after it.
    fn step(&mut self, parameters: &mut [f32], step: i32, (rate, decay): (f32, f32)) {
        let (first, second) = MEMORY;
        let (mean_bias, square_bias) = (1.0 - first.powi(step), 1.0 - second.powi(step));
        let averages = self.mean.iter_mut().zip(&mut self.square);
        for ((parameter, gradient), (mean, square)) in
            parameters.iter_mut().zip(&mut self.gradient).zip(averages)
        {
            *mean = first * *mean + (1.0 - first) * *gradient;
            *square = second * *square + (1.0 - second) * *gradient * *gradient;
            *parameter -= rate * decay * *parameter;
            *parameter -= rate * (*mean / mean_bias) / ((*square / square_bias).sqrt() + 1e-7);
            *gradient = 0.0;
        }
    }
}

struct Trainer {
    net: Net,
    embeddings: Moments,
    outputs: Moments,
    biases: Moments,
    rng: fastrand::Rng,
}

impl Trainer {
    fn new(features: usize, labels: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut random = |size: usize| (0..size).map(|_| normal(&mut rng) * 0.1).collect::<Vec<f32>>();
        let net = Net {
            embeddings: random(features * WIDTH),
            outputs: random(labels * WIDTH),
            biases: vec![0.0; labels],
        };
        Self {
            embeddings: Moments::new(net.embeddings.len()),
            outputs: Moments::new(net.outputs.len()),
            biases: Moments::new(labels),
            net,
            rng,
        }
    }

    /// Adds the gradient of an example of a batch of `count`.
    fn example(&mut self, row: &Row, count: usize) {
        let kept: Vec<(u32, f32)> = row
            .features
            .iter()
            .zip(&row.values)
            .filter(|_| self.rng.f32() >= DROPPED)
            .map(|(feature, value)| (*feature, SCALE * value / (1.0 - DROPPED)))
            .collect();
        let hidden = self.net.hidden(&kept);
        let mut errors = self.net.outputs_of(&hidden);
        softmax(&mut errors);
        let right: f32 = row.labels.iter().map(|label| errors[usize::from(*label)]).sum();
        for label in &row.labels {
            errors[usize::from(*label)] *= 1.0 - 1.0 / right.max(1e-9);
        }
        let scale = row.weight / count as f32;
        let mut back = [0.0_f32; WIDTH];
        for (label, error) in errors.iter().enumerate() {
            let error = error * scale;
            self.biases.gradient[label] += error;
            let at = label * WIDTH;
            for index in 0..WIDTH {
                back[index] += error * self.net.outputs[at + index];
                self.outputs.gradient[at + index] += error * hidden[index];
            }
        }
        for (feature, value) in kept {
            let gradient = &mut self.embeddings.gradient[feature as usize * WIDTH..][..WIDTH];
            gradient.iter_mut().zip(&back).for_each(|(sum, back)| *sum += value * back);
        }
    }

    fn step(&mut self, step: i32, rate: f32) {
        self.embeddings.step(&mut self.net.embeddings, step, (rate, DECAY));
        self.outputs.step(&mut self.net.outputs, step, (rate, DECAY));
        self.biases.step(&mut self.net.biases, step, (rate, 0.0));
    }
}

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut fastrand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.f32()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.f32()).cos()
}
