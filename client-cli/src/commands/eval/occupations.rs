//! `eval occupations` on advertisements: the occupation that the service gives a title.
//!
//! Figures are of the answered advertisements whose gold has a concept. A code that the service
//! never gives has no figure.

use serde_json::{Map, Value};

use super::figures::Share;
use super::gold::Ad;
use super::predictions::Skills;
use super::report::{Difference, Fault, Report};

/// Shares over advertisements.
#[derive(Debug, Default)]
struct Tally {
    given: Share,
    right: Share,
    right_of_given: Share,
    isco: Code,
    cuoc: Code,
}

/// How often a code is right, and whether the service gives it at all.
#[derive(Debug, Default)]
struct Code {
    right: Share,
    is_given: bool,
}

impl Code {
    fn add(&mut self, accepted: &[String], given: Option<&Value>) {
        // One code is enough: from then on an absent one is a wrong one.
        self.is_given |= given.is_some_and(|given| !given.is_null());
        if !accepted.is_empty() {
            let given = given.and_then(text);
            self.right.add(given.is_some_and(|given| accepted.contains(&given)));
        }
    }

    fn value(&self) -> Option<f64> {
        self.right.value().filter(|_| self.is_given)
    }
}

/// A code as text; answers may write it as a number.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Compares the occupations of advertisements with the accepted ones.
pub(super) fn report(ads: &[Ad], answers: &[Option<Skills>]) -> Report {
    let mut tally = Tally::default();
    let mut report = Report::on("ads", answers);
    let mut coded = 0;
    for (ad, answer) in ads.iter().zip(answers).filter(|(ad, _)| !ad.occupation.esco.is_empty()) {
        coded += 1;
        // A refused advertisement has no answer to judge; `missing` counts it.
        let Some(answer) = answer else { continue };
        let fault = tally.add(ad, answer.occupation.as_ref().unwrap_or(&Map::new()));
        report.differences.extend(fault.map(|fault| difference(ad, fault, answer)));
    }
    report.count("gold_occupations", coded);
    report.figure("occupation.given", tally.given.value());
    report.figure("occupation.esco", tally.right.value());
    report.figure("occupation.precision", tally.right_of_given.value().unwrap_or_default());
    report.figure("occupation.isco", tally.isco.value());
    report.figure("occupation.cuoc", tally.cuoc.value());
    report
}

impl Tally {
    /// Adds an advertisement; returns what is wrong with its answer.
    fn add(&mut self, ad: &Ad, given: &Map<String, Value>) -> Option<Fault> {
        let accepted = &ad.occupation;
        let uri = given.get("uri").and_then(Value::as_str).filter(|uri| !uri.is_empty());
        let is_right = uri.is_some_and(|uri| accepted.esco.iter().any(|accepted| accepted == uri));
        self.given.add(uri.is_some());
        self.right.add(is_right);
        if uri.is_some() {
            self.right_of_given.add(is_right);
        }
        self.isco.add(&accepted.isco, given.get("isco"));
        self.cuoc.add(&accepted.cuoc, given.get("cuoc"));
        match (uri, is_right) {
            (_, true) => None,
            (None, false) => Some(Fault::Missed),
            (Some(_), false) => Some(Fault::Wrong),
        }
    }
}

/// The title of a missed occupation, the label of a wrong one.
fn difference(ad: &Ad, fault: Fault, answer: &Skills) -> Difference {
    let label = answer.occupation.as_ref().and_then(|given| given.get("label")?.as_str());
    let text = match fault {
        Fault::Missed => ad.title(),
        Fault::Wrong => label.unwrap_or_default(),
    };
    let (kind, place) = ("occupation".to_owned(), String::new());
    Difference { fault, id: ad.id.clone(), kind, place, text: text.to_owned() }
}

#[cfg(test)]
mod tests;
