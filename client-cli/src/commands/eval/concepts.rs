//! `eval skills` and `eval linking` on advertisements: kinds and concepts of the skills found.
//!
//! Concepts count once for each advertisement. A span that names several skills is found by a
//! concept of any of them, since a mention carries one.

use std::collections::BTreeSet;

use super::figures::{Counts, Share, interval};
use super::gold::{Ad, Mark, Measure};
use super::mentions::{compare, marked};
use super::predictions::{Skill, Skills};
use super::report::Report;
use crate::commands::overlap::{Pair, Span, pairs};

/// Counts over advertisements.
#[derive(Debug, Default)]
struct Tally {
    spans: Vec<Counts>,
    concepts: Vec<Counts>,
    hard_soft: Share,
    accuracy: Share,
    abstained: Share,
    wrong: Share,
}

/// Compares the skills of advertisements with their marks; `None` counts as no skills.
pub(super) fn report(ads: &[Ad], answers: &[Option<Skills>], measure: Measure, rounds: u32) -> Report {
    let (mut tally, mut differences) = (Tally::default(), Vec::new());
    let nothing = Skills::default();
    for (ad, answer) in ads.iter().zip(answers) {
        let skills = &answer.as_ref().unwrap_or(&nothing).skills;
        let (spans, found): (Vec<Span>, Vec<&Skill>) =
            skills.iter().filter_map(|skill| Some((skill.span()?, skill))).unzip();
        let pairs = pairs(&marked(ad), &spans);
        tally.add(ad, &found, &pairs);
        differences.extend(compare(ad, &spans, &pairs));
    }
    let mut report = Report::on("ads", answers);
    report.differences = differences;
    report.spans(tally.spans.iter().copied().sum());
    let concepts: Counts = tally.concepts.iter().copied().sum();
    if measure == Measure::Linking {
        report.figure("link.accuracy", tally.accuracy.value());
        report.figure("link.abstained", tally.abstained.value());
        report.figure("link.wrong", tally.wrong.value());
    } else {
        report.figure("kind.hard_soft", tally.hard_soft.value());
    }
    // Gold without concepts measures kinds alone; zeros would look like a result.
    if concepts.gold > 0 {
        report.f1("uri", concepts, interval(&tally.concepts, rounds));
    }
    report
}

impl Tally {
    fn add(&mut self, ad: &Ad, found: &[&Skill], pairs: &[Pair]) {
        self.spans.push(Counts::one_to_one(ad.marks.len(), found.len(), pairs.len()));
        self.concepts.push(concepts(ad, found));
        for pair in pairs {
            let (mark, skill) = (&ad.marks[pair.mark], found[pair.found]);
            if let Some(kind) = &mark.kind {
                // Everything but an attitude is a hard skill.
                self.hard_soft.add(skill.kind == if kind == "soft" { "soft" } else { "hard" });
            }
            // Which of its skills a span of several was linked for cannot be told.
            if let Some(accepted) = &mark.uris {
                self.add_link(accepted, skill.uri.as_ref());
            }
        }
    }

    fn add_link(&mut self, accepted: &[String], given: Option<&String>) {
        let is_accepted = given.is_some_and(|uri| accepted.contains(uri));
        let is_rightly_absent = given.is_none() && accepted.is_empty();
        self.accuracy.add(is_accepted || is_rightly_absent);
        self.abstained.add(given.is_none() && !accepted.is_empty());
        self.wrong.add(given.is_some() && !is_accepted);
    }
}

/// Distinct concepts of an advertisement's marks and of the skills found in it.
fn concepts(ad: &Ad, found: &[&Skill]) -> Counts {
    let accepted = ad.marks.iter().map(Mark::accepted);
    let gold: BTreeSet<Vec<&str>> = accepted.filter(|accepted| !accepted.is_empty()).collect();
    let given = found.iter().filter_map(|skill| skill.uri.as_deref());
    let given: BTreeSet<&str> = given.filter(|uri| !uri.is_empty()).collect();
    // Counted from both sides: one concept may be accepted by several marks, and several may be
    // given of those that one mark accepts.
    Counts {
        gold: gold.len(),
        hit: gold.iter().filter(|accepted| accepted.iter().any(|uri| given.contains(uri))).count(),
        found: given.len(),
        right: given.iter().filter(|uri| gold.iter().any(|accepted| accepted.contains(uri))).count(),
    }
}

#[cfg(test)]
mod tests;
