//! `eval spans` on sentences: strict comparison of tokens, as in SkillSpan's evaluation.
//!
//! A span is right if its label, its first and its last token are. It has the tokens that it
//! touches; one that touches none is wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::figures::{Counts, interval};
use super::gold::{Label, Sentence, TokenSpan};
use super::predictions::Mentions;
use super::report::{Difference, Fault, Report, cells};

/// Columns of the table; the interval has no title.
const HEADER: [&str; 8] = ["group", "label", "gold", "pred", "correct", "p", "r", "f1"];

/// Counts of the sentences of a group: of skills, of knowledge and of both.
#[derive(Debug, Default)]
struct Units {
    labels: [Vec<Counts>; Label::BOTH.len()],
    both: Vec<Counts>,
}

impl Units {
    fn add(&mut self, gold: &BTreeSet<TokenSpan>, found: &BTreeSet<TokenSpan>) {
        for (units, label) in self.labels.iter_mut().zip(Label::BOTH) {
            let hit = gold.intersection(found).filter(|span| span.label == label).count();
            let (gold, found) = (labelled(gold, label), labelled(found, label));
            units.push(Counts::one_to_one(gold, found, hit));
        }
        self.both.push(Counts::one_to_one(gold.len(), found.len(), gold.intersection(found).count()));
    }

    fn named(&self) -> [(&'static str, &[Counts]); 3] {
        let [skill, knowledge] = &self.labels;
        [(Label::Skill.name(), skill), (Label::Knowledge.name(), knowledge), ("both", &self.both)]
    }
}

/// How many spans have a label.
fn labelled(spans: &BTreeSet<TokenSpan>, label: Label) -> usize {
    spans.iter().filter(|span| span.label == label).count()
}

/// Compares the mentions in sentences with their tags; `None` counts as no mentions.
pub(super) fn report(sentences: &[Sentence], answers: &[Option<Mentions>], rounds: u32) -> Report {
    let mut report = Report::on("sentences", answers);
    let (mut all, mut sources) = (Units::default(), BTreeMap::<String, Units>::new());
    let nothing = Mentions::default();
    for (index, (sentence, answer)) in sentences.iter().zip(answers).enumerate() {
        let found = found(sentence, answer.as_ref().unwrap_or(&nothing));
        all.add(&sentence.marks, &found);
        if let Some(source) = &sentence.source {
            sources.entry(format!("source={source}")).or_default().add(&sentence.marks, &found);
        }
        report.differences.extend(differences(index, sentence, &found));
    }
    let (mut rows, mut members) = (Vec::new(), Map::new());
    for (group, units) in [("all".to_owned(), all)].into_iter().chain(sources) {
        let mut blocks = Map::new();
        for (label, units) in units.named() {
            let (sum, interval) = (units.iter().copied().sum::<Counts>(), interval(units, rounds));
            rows.push([vec![group.clone(), label.to_owned()], cells(sum, interval)].concat());
            blocks.insert(label.to_owned(), Value::Object(sum.as_json(interval)));
        }
        members.insert(group, Value::Object(blocks));
    }
    report.groups(&HEADER, rows, members);
    report
}

/// The distinct spans of an answer, as tokens.
fn found(sentence: &Sentence, answer: &Mentions) -> BTreeSet<TokenSpan> {
    let mut found = BTreeSet::new();
    for mention in answer.spans.iter().filter(|mention| mention.span.end > mention.span.start) {
        // Other labels are none of this gold's, and would be wrong by definition.
        let mut labels = Label::BOTH.into_iter();
        let label = labels.find(|label| mention.label.as_deref() == Some(label.name()));
        found.extend(label.map(|label| sentence.tokens_of(mention.span, label)));
    }
    found
}

fn differences(index: usize, sentence: &Sentence, found: &BTreeSet<TokenSpan>) -> Vec<Difference> {
    let missed = sentence.marks.difference(found).map(|span| (Fault::Missed, span));
    let wrong = found.difference(&sentence.marks).map(|span| (Fault::Wrong, span));
    let mut differences = Vec::new();
    for (fault, span) in missed.chain(wrong) {
        let text = span.first.map(|first| sentence.text(first, span.end)).unwrap_or_default();
        let (kind, place) = (span.label.name().to_owned(), String::new());
        differences.push(Difference { fault, id: index.to_string(), kind, place, text });
    }
    differences
}

#[cfg(test)]
mod tests;
