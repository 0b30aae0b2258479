//! Counts of what was marked and found, and the figures made of them.
//!
//! A figure whose whole is zero is 0, but a share of nothing at all is absent.

use std::iter::Sum;

use serde_json::{Map, Value, json};

/// Seed of the resamples, so that an interval is the same in every run. Not tuned: any number does.
const SEED: u64 = 1;

/// Shares of the resamples below and above which 2.5 % of them lie: a 95 % interval.
const TAILS: (f64, f64) = (0.025, 0.975);

/// What was marked and found in one unit, such as an advertisement, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Marked.
    pub(super) gold: usize,
    /// Marked and found.
    pub(super) hit: usize,
    /// Found.
    pub(super) found: usize,
    /// Found and marked: as many as `hit`, unless several marks accept one answer.
    pub(super) right: usize,
}

impl Counts {
    /// Counts of things that match one to one, `hit` of them.
    pub(super) fn one_to_one(gold: usize, found: usize, hit: usize) -> Self {
        Self { gold, hit, found, right: hit }
    }

    /// Share of what was found that is right.
    pub(super) fn precision(self) -> f64 {
        ratio(self.right, self.found)
    }

    /// Share of what was marked that was found.
    pub(super) fn recall(self) -> f64 {
        ratio(self.hit, self.gold)
    }

    /// Harmonic mean of precision and recall.
    pub(super) fn f1(self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        let sum = precision + recall;
        if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 }
    }

    /// True if nothing was marked and nothing found.
    pub(super) fn is_empty(self) -> bool {
        self.gold == 0 && self.found == 0
    }

    /// The counts and their figures, with the interval of the F1 if there is one.
    pub(super) fn as_json(self, interval: Option<[f64; 2]>) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("gold".to_owned(), json!(self.gold));
        object.insert("predicted".to_owned(), json!(self.found));
        object.insert("correct".to_owned(), json!(self.hit));
        object.insert("precision".to_owned(), json!(self.precision()));
        object.insert("recall".to_owned(), json!(self.recall()));
        object.insert("f1".to_owned(), json!(self.f1()));
        if let Some(interval) = interval {
            object.insert("f1_ci95".to_owned(), json!(interval));
        }
        object
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.gold += one.gold;
            sum.hit += one.hit;
            sum.found += one.found;
            sum.right += one.right;
        }
        sum
    }
}

/// How many of some cases are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Share {
    right: usize,
    all: usize,
}

impl Share {
    /// Adds a case.
    pub(super) fn add(&mut self, is_right: bool) {
        self.right += usize::from(is_right);
        self.all += 1;
    }

    /// The right ones among all; `None` if there was no case.
    pub(super) fn value(self) -> Option<f64> {
        (self.all > 0).then(|| ratio(self.right, self.all))
    }
}

/// A part of a whole; 0 if the whole is empty.
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Bins of [`calibration_error`]; ten are usual (Guo et al. 2017, "On Calibration of Modern Neural
/// Networks").
const BINS: usize = 10;

/// Expected calibration error of confidences and whether each proved right: the distance between
/// mean confidence and share of right ones, over bins of equal size in order of confidence. `None`
/// with fewer cases than bins.
pub(super) fn calibration_error(mut cases: Vec<(f64, bool)>) -> Option<f64> {
    if cases.len() < BINS {
        return None;
    }
    // Equal confidences in the order of the texts, which has nothing to do with what is right.
    cases.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bound = |bin: usize| bin * cases.len() / BINS;
    let distances = (0..BINS).map(|bin| {
        let part = &cases[bound(bin)..bound(bin + 1)];
        let sure: f64 = part.iter().map(|(confidence, _)| confidence).sum();
        let right = part.iter().filter(|(_, is_right)| *is_right).count();
        (sure - right as f64).abs()
    });
    Some(distances.sum::<f64>() / cases.len() as f64)
}

/// The 95 % interval of the F1 over all units, by bootstrap: from `rounds` samples of as many
/// units, drawn with replacement. `None` without rounds or units.
pub(super) fn interval(units: &[Counts], rounds: u32) -> Option<[f64; 2]> {
    resampled(units, rounds, |sample| sample.copied().sum::<Counts>().f1())
}

/// The 95 % interval of the mean of some values, likewise.
pub(super) fn mean_interval(values: &[f64], rounds: u32) -> Option<[f64; 2]> {
    resampled(values, rounds, |sample| sample.sum::<f64>() / values.len() as f64)
}

/// The 95 % interval of a figure over units.
fn resampled<U>(
    units: &[U],
    rounds: u32,
    figure: impl Fn(&mut dyn Iterator<Item = &U>) -> f64,
) -> Option<[f64; 2]> {
    if units.is_empty() || rounds == 0 {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut values = Vec::new();
    for _ in 0..rounds {
        let mut sample = units.iter().map(|_| &units[random.usize(..units.len())]);
        values.push(figure(&mut sample));
    }
    // Percentiles, outwards to the next value: the interval is never narrower than 95 %.
    values.sort_by(f64::total_cmp);
    let last = f64::from(rounds - 1);
    let (low, high) = ((TAILS.0 * last).floor() as usize, (TAILS.1 * last).ceil() as usize);
    Some([values[low], values[high]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_counts() {
        let counts = Counts::one_to_one(4, 5, 2);
        assert_eq!((counts.precision(), counts.recall()), (0.4, 0.5));
        assert!((counts.f1() - 4.0 / 9.0).abs() < 1e-12);
        // Two marks accept the one concept that was found.
        let shared = Counts { gold: 2, hit: 2, found: 1, right: 1 };
        assert_eq!((shared.precision(), shared.recall(), shared.f1()), (1.0, 1.0, 1.0));
        assert_eq!(Counts::default().f1(), 0.0);
        assert_eq!(
            [counts, shared].into_iter().sum::<Counts>(),
            Counts { gold: 6, hit: 4, found: 6, right: 3 }
        );
    }

    #[test]
    fn a_share_of_nothing_is_absent() {
        let mut share = Share::default();
        assert_eq!(share.value(), None);
        share.add(true);
        share.add(false);
        assert_eq!(share.value(), Some(0.5));
    }

    #[test]
    fn confidences_are_compared_with_what_proved_right() {
        assert_eq!(calibration_error(vec![(0.5, true); 9]), None);
        // Half of those at 0.5 are right, and all of those at 0.9.
        let fair: Vec<(f64, bool)> = (0..20).map(|index| (0.5, index % 2 == 0)).collect();
        assert!(calibration_error(fair).unwrap() < 1e-12);
        let sure: Vec<(f64, bool)> = (0..20).map(|_| (0.9, true)).collect();
        assert!((calibration_error(sure).unwrap() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn an_interval_spans_the_resamples() {
        let (good, bad) = (Counts::one_to_one(1, 1, 1), Counts::one_to_one(1, 1, 0));
        assert_eq!(interval(&[], 100), None);
        assert_eq!(interval(&[good], 0), None);
        assert_eq!(interval(&[good; 3], 100), Some([1.0, 1.0]));
        // Half of a hundred units are right: the standard error is 0.05.
        let units: Vec<Counts> = [good, bad].repeat(50);
        let [low, high] = interval(&units, 1000).unwrap();
        assert!((low - 0.4).abs() < 0.03 && (high - 0.6).abs() < 0.03, "{low} {high}");
        assert_eq!(interval(&units, 1000), Some([low, high]));
        let values: Vec<f64> = [1.0, 0.0].repeat(50);
        let [low, high] = mean_interval(&values, 1000).unwrap();
        assert!((low - 0.4).abs() < 0.03 && (high - 0.6).abs() < 0.03, "{low} {high}");
    }
}
