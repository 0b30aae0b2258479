//! One model from examples: vocabulary, embeddings, support vector machines, rounding.
//!
//! The embeddings come first, since they say which of its labels an example of several has.

use std::{collections::BTreeMap, thread};

use super::{DUTY, Example, LABEL, Row, Source, net, svm};
use crate::{
    features::Kind,
    model::{Linear, Model, Net, Occupation, Parts, SCALE, groups, known, stored_rarity},
};

/// Weights of the features that count for a label, and its bias.
type Machine = (Vec<(u32, f32)>, f32);

/// Examples that a feature other than a stem must stand in.
const LEAST: u32 = 2;
/// The same for an embedding, stems too.
const LEAST_EMBEDDED: u32 = 3;
/// Costs of an error of an occupation and of a minor group.
const COST: f32 = 3.0;
const GROUP_COST: f32 = 1.0;
/// Weight of a label of another classification, and of a duty, for the support vector machines.
const LABEL_COST: f32 = 0.1;
const DUTY_COST: f32 = 0.05;
/// Weights kept, the greatest: a third of a point of top five is lost against all.
const KEPT: usize = 600_000;
/// Weights below are not even compared; fewer than [`KEPT`] lie above twice as much.
const FAINT: f32 = 0.02;

/// Learns a model; the sharpness is taken as given.
pub(super) fn fit(occupations: &[Occupation], examples: &[Example], sharpness: f32) -> Model {
    let vocabulary = Vocabulary::new(examples);
    let weighed = |label, duty| {
        let weight = |source| match source {
            Source::Title => 1.0,
            Source::Label => label,
            Source::Duty => duty,
        };
        examples.iter().map(|example| vocabulary.row(example, weight(example.source))).collect::<Vec<Row>>()
    };
    let soft = vocabulary.embedded(&weighed(LABEL, DUTY));
    let net = net::train(&soft, vocabulary.embeddings(), occupations.len());
    let mut rows = weighed(LABEL_COST, DUTY_COST);
    for (row, soft) in rows.iter_mut().zip(&soft) {
        row.labels = vec![likeliest(&net, soft)];
    }
    let linear = linear(&rows, occupations, vocabulary.hashes.len());
    let Vocabulary { hashes, rarities, rows } = vocabulary;
    Model::new(Parts { occupations: occupations.to_vec(), hashes, rarities, linear, rows, net, sharpness })
}

/// The likeliest of an example's labels.
fn likeliest(net: &Net, row: &Row) -> u16 {
    let pairs = row.features.iter().zip(&row.values);
    let known: Vec<(u32, f32)> = pairs.map(|(feature, value)| (*feature, SCALE * value)).collect();
    let scores = net.outputs_of(&net.hidden(&known));
    let score = |label: &u16| scores[usize::from(*label)];
    let best = row
        .labels
        .iter()
        .copied()
        .reduce(|best, label| if score(&label) > score(&best) { label } else { best });
    best.expect("an example has a label")
}

struct Vocabulary {
    hashes: Vec<u32>,
    rarities: Vec<u8>,
    rows: Vec<Option<u32>>,
}

impl Vocabulary {
    fn new(examples: &[Example]) -> Self {
        let mut counts: BTreeMap<u32, (u32, bool)> = BTreeMap::new();
        let titles = examples.iter().filter(|example| example.source != Source::Duty);
        for feature in titles.clone().flat_map(|example| &example.features) {
            let entry = counts.entry(feature.hash).or_insert((0, feature.kind == Kind::Word));
            entry.0 += 1;
        }
        let total = titles.count() as f32;
        let mut out = Self { hashes: Vec::new(), rarities: Vec::new(), rows: Vec::new() };
        let mut embeddings = 0;
        for (hash, (count, word)) in counts {
            if count < LEAST && !word {
                continue;
            }
            out.hashes.push(hash);
            out.rarities.push(stored_rarity(((1.0 + total) / (1.0 + count as f32)).ln() + 1.0));
            out.rows.push((count >= LEAST_EMBEDDED).then_some(embeddings));
            embeddings += u32::from(count >= LEAST_EMBEDDED);
        }
        out
    }

    fn embeddings(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    fn row(&self, example: &Example, weight: f32) -> Row {
        let (features, values) = known(&self.hashes, &self.rarities, &example.features).into_iter().unzip();
        Row { features, values, weight, labels: example.labels.clone() }
    }

    /// The rows over the features with embeddings alone.
    fn embedded(&self, rows: &[Row]) -> Vec<Row> {
        let narrow = |row: &Row| {
            let pairs = row.features.iter().zip(&row.values);
            let (features, values) =
                pairs.filter_map(|(feature, value)| Some((self.rows[*feature as usize]?, *value))).unzip();
            Row { features, values, weight: row.weight, labels: row.labels.clone() }
        };
        rows.iter().map(narrow).collect()
    }
}

/// The machines of all labels, rounded; every row has one label.
fn linear(rows: &[Row], occupations: &[Occupation], features: usize) -> Linear {
    let groups = groups(occupations);
    let labels = groups.last().map_or(0, |last| usize::from(*last) + 1);
    let one = |label: usize| {
        let of = |row: &Row| match label < occupations.len() {
            true => usize::from(row.labels[0]),
            false => usize::from(groups[usize::from(row.labels[0])]),
        };
        let right: Vec<bool> = rows.iter().map(|row| of(row) == label).collect();
        let cost = if label < occupations.len() { COST } else { GROUP_COST };
        let mut weights = svm::train(rows, &right, cost, features);
        let bias = weights.pop().unwrap_or_default();
        let strong = (0_u32..).zip(weights).filter(|(_, weight)| weight.abs() > FAINT);
        (strong.collect::<Vec<(u32, f32)>>(), bias)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share =
        |core: usize| (core..labels).step_by(cores).map(|label| (label, one(label))).collect::<Vec<_>>();
    let share = &share;
    let mut machines: Vec<(usize, Machine)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|core| scope.spawn(move || share(core))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a machine panicked")).collect()
    });
    machines.sort_by_key(|(label, _)| *label);
    rounded(machines.into_iter().map(|(_, machine)| machine).collect(), features)
}

/// Keeps the greatest weights and rounds them to a byte each.
fn rounded(machines: Vec<Machine>, features: usize) -> Linear {
    let mut sizes: Vec<f32> =
        machines.iter().flat_map(|(weights, _)| weights).map(|(_, weight)| weight.abs()).collect();
    sizes.sort_unstable_by(|left, right| right.total_cmp(left));
    let least = sizes.get(KEPT).copied().unwrap_or(0.0);
    let scale = sizes.first().copied().unwrap_or(1.0) / f32::from(i8::MAX);
    let mut by_feature: Vec<Vec<(u16, i8)>> = vec![Vec::new(); features];
    let mut biases = Vec::with_capacity(machines.len());
    for (label, (weights, bias)) in (0_u16..).zip(machines) {
        biases.push(bias);
        for (feature, weight) in weights.into_iter().filter(|(_, weight)| weight.abs() > least) {
            let value = (weight / scale).round() as i8;
            if value != 0 {
                by_feature[feature as usize].push((label, value));
            }
        }
    }
    let mut linear = Linear { scale, biases, ..Linear::default() };
    for weights in by_feature {
        linear.weights.extend(weights);
        linear.ends.push(linear.weights.len() as u32);
    }
    linear
}
