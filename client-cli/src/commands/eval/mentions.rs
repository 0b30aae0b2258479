//! `eval spans` on advertisements: which marked spans were found, and where.
//!
//! A span is right if its bounds are those of a mark (`exact`), or if it overlaps one by half
//! (`overlap`, one to one). A mark is `touched` if any span shares a character with it.

use std::collections::BTreeMap;

use super::figures::{Counts, Share, calibration_error, interval};
use super::gold::Ad;
use super::predictions::{Mention, Mentions};
use super::report::{Difference, Fault, Report};
use crate::commands::overlap::{Pair, Span, pairs, touches};

/// By what marks are grouped; the order is that of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Country,
    Kind,
    Place,
    Source,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Country => "country",
            Self::Kind => "kind",
            Self::Place => "place",
            Self::Source => "source",
        }
    }

    /// True if advertisements belong to it as a whole, so that it has a precision too.
    fn has_whole_ads(self) -> bool {
        matches!(self, Self::Country | Self::Source)
    }
}

/// Counts over advertisements.
#[derive(Debug, Default)]
struct Tally {
    exact: Vec<Counts>,
    overlap: Vec<Counts>,
    touched: Share,
    kind: Share,
    place: Share,
    sureness: Vec<(f64, bool)>,
    groups: BTreeMap<(Group, String), Counts>,
}

/// Compares the mentions of advertisements with their marks; `None` counts as no mentions.
pub(super) fn report(ads: &[Ad], answers: &[Option<Mentions>], rounds: u32) -> Report {
    let (mut tally, mut differences) = (Tally::default(), Vec::new());
    let nothing = Mentions::default();
    for (ad, answer) in ads.iter().zip(answers) {
        let mentions = &answer.as_ref().unwrap_or(&nothing).spans;
        // An empty span names nothing; it would count as wrong.
        let found: Vec<&Mention> =
            mentions.iter().filter(|found| found.span.end > found.span.start).collect();
        let spans: Vec<Span> = found.iter().map(|mention| mention.span).collect();
        let pairs = pairs(&marked(ad), &spans);
        tally.add(ad, &found, &pairs);
        differences.extend(compare(ad, &spans, &pairs));
    }
    let (exact, overlap) = (tally.exact.iter().copied().sum(), tally.overlap.iter().copied().sum());
    let mut report = Report::on("ads", answers);
    report.differences = differences;
    report.spans(overlap);
    report.f1("exact", exact, interval(&tally.exact, rounds));
    report.f1("overlap", overlap, interval(&tally.overlap, rounds));
    report.figure("touched.recall", tally.touched.value().unwrap_or_default());
    report.figure("kind.right", tally.kind.value());
    report.figure("place.right", tally.place.value());
    report.figure("calibration.error", calibration_error(std::mem::take(&mut tally.sureness)));
    // Without marks there is no recall to tell, though spans may have been found there.
    for ((group, value), counts) in tally.groups.iter().filter(|(_, counts)| counts.gold > 0) {
        let name = format!("{}={value}", group.name());
        report.figure(&format!("recall.{name}"), counts.recall());
        report.figure(&format!("f1.{name}"), group.has_whole_ads().then(|| counts.f1()));
    }
    report
}

impl Tally {
    fn add(&mut self, ad: &Ad, found: &[&Mention], pairs: &[Pair]) {
        let spans: Vec<Span> = found.iter().map(|mention| mention.span).collect();
        let marks = marked(ad);
        // Both are counted for each advertisement, since intervals are over advertisements.
        self.exact.push(Counts::one_to_one(marks.len(), found.len(), same(&marks, &spans)));
        self.overlap.push(Counts::one_to_one(marks.len(), found.len(), pairs.len()));
        // One span may touch several marks: long spans are judged by `exact` and `overlap`.
        for mark in marks {
            self.touched.add(spans.iter().any(|span| touches(mark, *span)));
        }
        for pair in pairs {
            let (mark, mention) = (&ad.marks[pair.mark], found[pair.found]);
            judge(&mut self.kind, mark.kind.as_deref(), mention.kind.as_deref());
            judge(&mut self.place, mark.place.as_deref(), mention.place.as_deref().map(place));
        }
        let judged = found.iter().enumerate().filter_map(|(index, mention)| {
            Some((mention.confidence?, pairs.iter().any(|pair| pair.found == index)))
        });
        self.sureness.extend(judged);
        self.add_groups(ad, found.len(), pairs);
    }

    fn add_groups(&mut self, ad: &Ad, found: usize, pairs: &[Pair]) {
        let wholes = [(Group::Country, &ad.country), (Group::Source, &ad.source)];
        let whole = Counts::one_to_one(ad.marks.len(), found, pairs.len());
        for (group, value) in wholes {
            self.add_group(group, value.as_ref(), whole);
        }
        for (index, mark) in ad.marks.iter().enumerate() {
            let hit = usize::from(pairs.iter().any(|pair| pair.mark == index));
            for (group, value) in [(Group::Kind, &mark.kind), (Group::Place, &mark.place)] {
                self.add_group(group, value.as_ref(), Counts::one_to_one(1, 0, hit));
            }
        }
    }

    fn add_group(&mut self, group: Group, value: Option<&String>, counts: Counts) {
        if let Some(value) = value {
            let sum = self.groups.entry((group, value.clone())).or_default();
            *sum = [*sum, counts].into_iter().sum();
        }
    }
}

/// Adds a pair to a share if both sides say something.
fn judge(share: &mut Share, gold: Option<&str>, found: Option<&str>) {
    if let (Some(gold), Some(found)) = (gold, found) {
        share.add(gold == found);
    }
}

/// The gold's letter for a place, which answers write out.
fn place(name: &str) -> &str {
    match name {
        "required" => "R",
        "duty" => "D",
        other => other,
    }
}

/// Pairs of equal spans, each span in one pair.
fn same(marks: &[Span], found: &[Span]) -> usize {
    // Counted and not looked up: two equal marks are found by two equal spans.
    let mut left: BTreeMap<Span, usize> = BTreeMap::new();
    for mark in marks {
        *left.entry(*mark).or_default() += 1;
    }
    let mut same = 0;
    for span in found {
        if let Some(count) = left.get_mut(span).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    same
}

/// The spans of an advertisement's marks.
pub(super) fn marked(ad: &Ad) -> Vec<Span> {
    ad.marks.iter().map(|mark| mark.span).collect()
}

/// The marks without a span and the spans without a mark.
pub(super) fn compare(ad: &Ad, found: &[Span], pairs: &[Pair]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (index, mark) in ad.marks.iter().enumerate() {
        if !pairs.iter().any(|pair| pair.mark == index) {
            let mut missed = difference(ad, Fault::Missed, mark.span);
            missed.kind = mark.kind.clone().unwrap_or_default();
            missed.place = mark.place.clone().unwrap_or_default();
            differences.push(missed);
        }
    }
    for (index, span) in found.iter().enumerate() {
        if !pairs.iter().any(|pair| pair.found == index) {
            differences.push(difference(ad, Fault::Wrong, *span));
        }
    }
    differences
}

fn difference(ad: &Ad, fault: Fault, span: Span) -> Difference {
    let (start, length) = (span.start as usize, (span.end - span.start) as usize);
    let text = ad.description.chars().skip(start).take(length).collect();
    Difference { fault, id: ad.id.clone(), kind: String::new(), place: String::new(), text }
}

#[cfg(test)]
mod tests;
