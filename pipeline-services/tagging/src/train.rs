//! Training: stochastic gradients of the likelihood, with AdaGrad's step sizes and an L1 penalty.
//!
//! Regularised dual averaging (Xiao 2010; Duchi, Hazan and Singer 2011, section 2): a weight is a
//! function of its summed gradients, and 0 while their sum is below the penalty, which leaves a
//! fifth of the features. One thread, a seed: the same advertisements give the same bytes.

use std::collections::HashMap;

use crate::{
    bounds::trimmed,
    clusters::Clusters,
    features::Features,
    gazetteer::Gazetteer,
    labels::{Kind, LABELS, Label, OUTSIDE, Place, begin, class, inside, may_follow},
    lattice::{Lattice, Row, Transitions, start, steps},
    model::Learned,
    words::Words,
};

/// A skill that a reader marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// First code point.
    pub start: u32,
    /// One past the last code point.
    pub end: u32,
    /// Kind.
    pub kind: Kind,
    /// Place.
    pub place: Place,
}

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Passes over the advertisements.
    pub epochs: usize,
    /// Step size.
    pub rate: f32,
    /// L1 penalty of each step.
    pub penalty: f32,
    /// Seed of the order.
    pub seed: u64,
}

impl Default for Settings {
    /// Tuned on the development part of the marked real advertisements: more passes and a smaller
    /// penalty changed the F1 by less than its error, and made the file larger.
    fn default() -> Self {
        Self { epochs: 4, rate: 0.1, penalty: 5e-5, seed: 1 }
    }
}

/// A text with the label of each word.
#[derive(Debug, Clone)]
struct Example {
    features: Features,
    labels: Vec<Label>,
}

/// Learns a model from marked advertisements.
#[derive(Debug)]
pub struct Trainer {
    settings: Settings,
    names: Gazetteer,
    clusters: Clusters,
    examples: Vec<Example>,
}

impl Trainer {
    /// A trainer without examples. The tagger must be given the same names.
    pub fn new(settings: Settings, names: Gazetteer, clusters: Clusters) -> Self {
        Self { settings, names, clusters, examples: Vec::new() }
    }

    /// Adds a text and its marks; of marks that overlap the earlier one stays.
    pub fn add(&mut self, text: &str, marks: &[Mark]) {
        let words = Words::new(text);
        let features = Features::new(&words, &self.names, &self.clusters);
        self.examples.push(Example { features, labels: labels(&words, marks) });
    }

    /// Learns and gives the model file. `report` hears of each pass and its loss (negative
    /// log-likelihood).
    pub fn train(self, mut report: impl FnMut(usize, f64)) -> Vec<u8> {
        let mut weights = Weights::new(&self.examples, self.settings);
        let known: Vec<Vec<Vec<usize>>> =
            self.examples.iter().map(|example| weights.known(&example.features)).collect();
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let mut random = fastrand::Rng::with_seed(self.settings.seed);
        for epoch in 1..=self.settings.epochs {
            random.shuffle(&mut order);
            let losses =
                order.iter().map(|index| weights.step(&known[*index], &self.examples[*index].labels));
            report(epoch, losses.sum());
        }
        weights.learned(self.clusters).write()
    }
}

/// The label of every word under these marks.
fn labels(words: &Words<'_>, marks: &[Mark]) -> Vec<Label> {
    let mut labels = vec![OUTSIDE; words.len()];
    for mark in marks {
        let items = words.items();
        let first = items.partition_point(|word| word.end_char <= mark.start);
        let end = items.partition_point(|word| word.start_char < mark.end);
        let Some((first, end)) = trimmed(words, first, end) else { continue };
        if labels[first..end].iter().all(|label| *label == OUTSIDE) {
            let class = class(mark.kind, mark.place);
            labels[first..end].fill(inside(class));
            labels[first] = begin(class);
        }
    }
    labels
}

/// Summed gradients and their squares.
#[derive(Debug, Clone, Copy)]
struct Sums {
    sum: Row,
    squares: Row,
}

const NOTHING: Sums = Sums { sum: [0.0; LABELS], squares: [0.0; LABELS] };

impl Sums {
    fn add(&mut self, gradient: &Row) {
        for (label, gradient) in gradient.iter().enumerate() {
            self.sum[label] += gradient;
            self.squares[label] += gradient * gradient;
        }
    }

    /// The weights under a penalty so far.
    fn weights(&self, penalty: f32, rate: f32) -> Row {
        std::array::from_fn(|label| {
            let over = self.sum[label].abs() - penalty;
            // A thousandth keeps the first step finite.
            if over <= 0.0 {
                0.0
            } else {
                self.sum[label].signum() * rate * over / (1e-3 + self.squares[label].sqrt())
            }
        })
    }
}

struct Weights {
    settings: Settings,
    hashes: Vec<u32>,
    ids: HashMap<u32, usize>,
    sums: Vec<Sums>,
    weights: Vec<Row>,
    transition_sums: [Sums; LABELS],
    transitions: Transitions,
    steps: u32,
}

impl Weights {
    fn new(examples: &[Example], settings: Settings) -> Self {
        let mut hashes: Vec<u32> = examples
            .iter()
            .flat_map(|example| (0..example.features.len()).flat_map(|index| example.features.of(index)))
            .copied()
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        let ids = hashes.iter().enumerate().map(|(id, hash)| (*hash, id)).collect();
        let (sums, weights) = (vec![NOTHING; hashes.len()], vec![[0.0; LABELS]; hashes.len()]);
        let transitions = [[0.0; LABELS]; LABELS];
        Self {
            settings,
            hashes,
            ids,
            sums,
            weights,
            transition_sums: [NOTHING; LABELS],
            transitions,
            steps: 0,
        }
    }

    fn known(&self, features: &Features) -> Vec<Vec<usize>> {
        (0..features.len())
            .map(|index| features.of(index).iter().map(|hash| self.ids[hash]).collect())
            .collect()
    }

    /// One step on one text; gives its loss before the step.
    fn step(&mut self, known: &[Vec<usize>], labels: &[Label]) -> f64 {
        self.refresh(known);
        let scores: Vec<Row> = known
            .iter()
            .map(|ids| {
                let mut row = [0.0; LABELS];
                ids.iter().for_each(|id| plus(&mut row, &self.weights[*id]));
                row
            })
            .collect();
        let lattice = Lattice::new(&scores, steps(&self.transitions));
        self.learn_words(&lattice, known, labels);
        let gold = self.path_score(&scores, labels);
        self.learn_transitions(&lattice, labels);
        self.steps += 1;
        lattice.log_sum - gold
    }

    /// Brings the weights of a text's features up to date: they change with every step.
    fn refresh(&mut self, known: &[Vec<usize>]) {
        let penalty = self.penalty();
        for id in known.iter().flatten() {
            self.weights[*id] = self.sums[*id].weights(penalty, self.settings.rate);
        }
    }

    fn penalty(&self) -> f32 {
        self.settings.penalty * self.steps as f32
    }

    fn path_score(&self, scores: &[Row], labels: &[Label]) -> f64 {
        let mut previous = OUTSIDE;
        let mut sum = 0.0;
        for (row, label) in scores.iter().zip(labels) {
            sum += f64::from(row[*label]) + f64::from(self.transitions[previous][*label]);
            previous = *label;
        }
        sum
    }

    fn learn_words(&mut self, lattice: &Lattice, known: &[Vec<usize>], labels: &[Label]) {
        let mut gradients: HashMap<usize, Row> = HashMap::new();
        for (index, ids) in known.iter().enumerate() {
            let mut gradient: Row =
                std::array::from_fn(|label| -lattice.forward[index][label] * lattice.backward[index][label]);
            gradient[labels[index]] += 1.0;
            for id in ids {
                plus(gradients.entry(*id).or_insert([0.0; LABELS]), &gradient);
            }
        }
        for (id, gradient) in gradients {
            self.sums[id].add(&gradient);
        }
    }

    fn learn_transitions(&mut self, lattice: &Lattice, labels: &[Label]) {
        let mut gradients = [[0.0; LABELS]; LABELS];
        let (mut before, mut previous) = (start(), OUTSIDE);
        for (index, label) in labels.iter().enumerate() {
            for (from, row) in gradients.iter_mut().enumerate().filter(|(from, _)| before[*from] > 0.0) {
                for (to, gradient) in row.iter_mut().enumerate() {
                    let after = lattice.local[index][to] * lattice.backward[index][to];
                    *gradient -= before[from] * lattice.step[from][to] * after;
                }
            }
            gradients[previous][*label] += 1.0;
            (before, previous) = (lattice.forward[index], *label);
        }
        for (from, (sums, gradient)) in self.transition_sums.iter_mut().zip(&gradients).enumerate() {
            sums.add(gradient);
            // Without a penalty: there are few, and all of them matter.
            self.transitions[from] = sums.weights(0.0, self.settings.rate);
            for (to, score) in self.transitions[from].iter_mut().enumerate() {
                *score = if may_follow(from, to) { *score } else { 0.0 };
            }
        }
    }

    fn learned(&self, clusters: Clusters) -> Learned {
        let penalty = self.penalty();
        let rows: Vec<(u32, Row)> = self
            .hashes
            .iter()
            .zip(&self.sums)
            .map(|(hash, sums)| (*hash, sums.weights(penalty, self.settings.rate)))
            .collect();
        Learned::rounded(&rows, self.transitions, clusters)
    }
}

fn plus(row: &mut Row, other: &Row) {
    row.iter_mut().zip(other).for_each(|(value, other)| *value += other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tagger::Tagger;

    fn mark(text: &str, word: &str, kind: Kind, place: Place) -> Mark {
        let start = text[..text.find(word).unwrap()].chars().count() as u32;
        Mark { start, end: start + word.chars().count() as u32, kind, place }
    }

    fn trained() -> Vec<u8> {
        let settings = Settings { epochs: 20, penalty: 1e-4, ..Settings::default() };
        let mut trainer = Trainer::new(settings, Gazetteer::default(), Clusters::default());
        for (tool, duty) in
            [("Excel", "Atender clientes"), ("SAP", "Atender reclamos"), ("Word", "Atender pedidos")]
        {
            let text = format!("Funciones: {duty}. Requisitos: manejo de {tool}, residir en zona norte.");
            let marks = [
                mark(&text, duty, Kind::Ability, Place::Duty),
                mark(&text, tool, Kind::Tool, Place::Required),
            ];
            trainer.add(&text, &marks);
        }
        trainer.train(|_, loss| assert!(loss.is_finite()))
    }

    #[test]
    fn what_was_learned_is_found_in_new_words() {
        let tagger = Tagger::new(&trained(), Gazetteer::default()).unwrap();
        let text = "Funciones: Atender visitas. Requisitos: manejo de Jira, residir en zona norte.";
        let found: Vec<_> = tagger
            .tag(text)
            .into_iter()
            .map(|tag| (&text[tag.start as usize..tag.end as usize], tag.kind, tag.place))
            .collect();
        assert_eq!(
            found,
            [("Atender visitas", Kind::Ability, Place::Duty), ("Jira", Kind::Tool, Place::Required)]
        );
        assert!(tagger.tag("").is_empty());
    }

    #[test]
    fn training_gives_the_same_bytes_twice() {
        assert_eq!(trained(), trained());
    }

    #[test]
    fn of_overlapping_marks_the_earlier_stays() {
        let text = "capacidad de análisis de datos";
        let words = Words::new(text);
        let whole = mark(text, "capacidad de análisis", Kind::Soft, Place::Required);
        let part = mark(text, "análisis de datos", Kind::Ability, Place::Duty);
        let soft = class(Kind::Soft, Place::Required);
        assert_eq!(labels(&words, &[whole, part]), [OUTSIDE, OUTSIDE, begin(soft), OUTSIDE, OUTSIDE]);
    }
}
