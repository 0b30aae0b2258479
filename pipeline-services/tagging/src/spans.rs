//! The set of spans that is expected to match a reader's marks best.
//!
//! Instead of the likeliest path, which keeps or drops a skill as a whole, every span gets the
//! probability that some mark overlaps it by half (minimum Bayes risk under the measure of the
//! evaluation), and the spans that do not overlap each other and have the greatest sum are taken.

use std::collections::BTreeMap;

use crate::{
    bounds::trimmed,
    labels::{CLASSES, Kind, LABELS, Place, begin, inside, meaning},
    lattice::Lattice,
    words::Words,
};

/// A skill in a text, as a half-open range of words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    /// That a mark overlaps the span by half.
    pub(crate) probability: f32,
}

/// Probability of each kind and place for one range of words.
type ByClass = [f32; CLASSES];

/// Longest skill in words. The longest of the training advertisements has 19.
const LONGEST: usize = 24;
/// Spans less likely than this are not looked at. Not tuned: their sum is below a hundredth.
const LEAST: f32 = 0.003;
/// A span that is likelier than this is given, for its own bounds' sake also one a little below.
/// Half of the F1 that is reached would maximise the expected F1 (Lipton, Elkan and Naryanaswamy
/// 2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure"). Chosen on the development
/// part of the marked advertisements, where .25 to .45 give the same F1 and this the recall that is
/// asked for.
const THRESHOLD: f32 = 0.25;
/// Weight of the span's own bounds next to those that overlap it. Tuned like [`THRESHOLD`]: more of
/// it gives more exact and fewer overlapping spans.
const EXACT: f32 = 0.4;
/// Least overlap, intersection over union, of a match.
const OVERLAP: f32 = 0.5;

/// The skills of a text.
pub(crate) fn best(lattice: &Lattice, words: &Words<'_>) -> Vec<Found> {
    let candidates = candidates(lattice, words);
    let gains = gains(&candidates, words);
    chosen(&candidates, &gains, words.len())
}

/// A range of words with its probability of being marked.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    first: usize,
    end: usize,
    by_class: ByClass,
    probability: f32,
}

/// Every span that is likely enough, by its bounds without introducing words, in order.
fn candidates(lattice: &Lattice, words: &Words<'_>) -> Vec<Candidate> {
    let mut found: BTreeMap<(usize, usize), ByClass> = BTreeMap::new();
    for first in 0..words.len() {
        for class in 0..CLASSES {
            let starts = lattice.forward[first][begin(class)];
            if starts * lattice.backward[first][begin(class)] >= LEAST {
                extend(lattice, (first, class), starts, |end, probability| {
                    // Bounds that mean the same skill share their probability.
                    if let Some(bounds) = trimmed(words, first, end) {
                        found.entry(bounds).or_default()[class] += probability;
                    }
                });
            }
        }
    }
    found
        .into_iter()
        .map(|((first, end), by_class)| Candidate {
            first,
            end,
            by_class,
            probability: by_class.iter().sum(),
        })
        .collect()
}

/// Gives every likely end of a span that begins with word `first`.
fn extend(lattice: &Lattice, (first, class): (usize, usize), starts: f32, mut give: impl FnMut(usize, f32)) {
    let words = lattice.local.len();
    let (mut label, mut value) = (begin(class), starts);
    let goes_on = inside(class);
    for end in first + 1..=words.min(first + LONGEST) {
        if end == words {
            give(end, value);
            break;
        }
        let follow =
            |next: usize| lattice.step[label][next] * lattice.local[end][next] * lattice.backward[end][next];
        let stops: f32 = (0..LABELS).filter(|next| *next != goes_on).map(follow).sum();
        if value * stops >= LEAST {
            give(end, value * stops);
        }
        value *= lattice.step[label][goes_on] * lattice.local[end][goes_on];
        label = goes_on;
        if value * lattice.backward[end][goes_on] < LEAST {
            break;
        }
    }
}

/// For each candidate the probability that a mark overlaps it by half.
fn gains(candidates: &[Candidate], words: &Words<'_>) -> Vec<f32> {
    let mut gains: Vec<f32> = candidates.iter().map(|candidate| candidate.probability).collect();
    for (index, left) in candidates.iter().enumerate() {
        let rest = candidates.iter().enumerate().skip(index + 1);
        for (other, right) in rest.take_while(|(_, right)| right.first < left.end) {
            if overlap(left, right, words) >= OVERLAP {
                gains[index] += right.probability;
                gains[other] += left.probability;
            }
        }
    }
    // Spans that overlap the same one may be marked together, so the sum is a bound only.
    gains.iter_mut().for_each(|gain| *gain = gain.min(1.0));
    gains
}

/// Intersection over union in code points.
fn overlap(left: &Candidate, right: &Candidate, words: &Words<'_>) -> f32 {
    let bounds = |candidate: &Candidate| {
        let items = words.items();
        (items[candidate.first].start_char, items[candidate.end - 1].end_char)
    };
    let ((a, b), (c, d)) = (bounds(left), bounds(right));
    let shared = b.min(d).saturating_sub(a.max(c));
    shared as f32 / (b.max(d) - a.min(c)) as f32
}

/// The candidates apart from each other with the greatest sum (weighted interval scheduling).
fn chosen(candidates: &[Candidate], gains: &[f32], words: usize) -> Vec<Found> {
    let mut by_end: Vec<Vec<usize>> = vec![Vec::new(); words + 1];
    for (index, candidate) in candidates.iter().enumerate() {
        by_end[candidate.end].push(index);
    }
    // The best sum of spans that end at or before each word, and the one that ends there.
    let mut best = vec![0.0; words + 1];
    let mut last: Vec<Option<usize>> = vec![None; words + 1];
    for end in 1..=words {
        best[end] = best[end - 1];
        for &index in &by_end[end] {
            let candidate = &candidates[index];
            let sum = best[candidate.first] + gains[index] - THRESHOLD + EXACT * candidate.probability;
            if sum > best[end] {
                (best[end], last[end]) = (sum, Some(index));
            }
        }
    }
    let mut found = Vec::new();
    let mut end = words;
    while end > 0 {
        match last[end] {
            Some(index) => {
                found.push(named(&candidates[index], gains[index]));
                end = candidates[index].first;
            }
            None => end -= 1,
        }
    }
    found.reverse();
    found
}

fn named(candidate: &Candidate, probability: f32) -> Found {
    let by_class = candidate.by_class;
    let class = (0..CLASSES).max_by(|left, right| by_class[*left].total_cmp(&by_class[*right]));
    let (kind, place) = meaning(class.unwrap_or_default());
    Found { first: candidate.first, end: candidate.end, kind, place, probability }
}
