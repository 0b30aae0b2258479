//! What an evaluation says: figures by name, a table of groups, and the differences in detail.
//!
//! Figures keep their order in the text; JSON has the names of the text.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::figures::{Counts, mean_interval};
use crate::output::{Document, Table};

/// The result of an evaluation.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Vec<String>>,
    groups: Option<Groups>,
    json: Map<String, Value>,
    /// Texts that the service refused.
    pub(super) missing: usize,
    /// What was missed or wrong, in detail.
    pub(super) differences: Vec<Difference>,
}

/// A table of figures by group.
#[derive(Debug)]
struct Groups {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Report {
    /// Begins a report on texts, called `what`, with their number and that of the refused ones.
    pub(super) fn on<A>(what: &str, answers: &[Option<A>]) -> Self {
        let missing = answers.iter().filter(|answer| answer.is_none()).count();
        let mut report = Self { missing, ..Self::default() };
        report.count(what, answers.len());
        report.count("missing", missing);
        report
    }

    /// Adds a number of things.
    pub(super) fn count(&mut self, name: &str, count: usize) {
        self.rows.push(vec![name.to_owned(), count.to_string()]);
        self.json.insert(name.to_owned(), json!(count));
    }

    /// Adds the numbers of spans that were marked and found.
    pub(super) fn spans(&mut self, counts: Counts) {
        self.count("gold_spans", counts.gold);
        self.count("pred_spans", counts.found);
    }

    /// Adds a figure between 0 and 1, unless it is absent.
    pub(super) fn figure(&mut self, name: &str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.rows.push(vec![name.to_owned(), rounded(value)]);
            self.json.insert(name.to_owned(), json!(value));
        }
    }

    /// Adds precision, recall and F1, with the interval of the latter if there is one.
    pub(super) fn f1(&mut self, name: &str, counts: Counts, interval: Option<[f64; 2]>) {
        self.figure(&format!("{name}.precision"), counts.precision());
        self.figure(&format!("{name}.recall"), counts.recall());
        self.figure(&format!("{name}.f1"), counts.f1());
        if let (Some(interval), Some(row)) = (interval, self.rows.last_mut()) {
            row.push(bounds(interval));
            self.json.insert(format!("{name}.f1.ci95"), json!(interval));
        }
    }

    /// Adds the mean of a figure over texts, with its interval if there are rounds; nothing without
    /// texts.
    pub(super) fn mean(&mut self, name: &str, values: &[f64], rounds: u32) {
        if values.is_empty() {
            return;
        }
        self.figure(name, values.iter().sum::<f64>() / values.len() as f64);
        if let (Some(interval), Some(row)) = (mean_interval(values, rounds), self.rows.last_mut()) {
            row.push(bounds(interval));
            self.json.insert(format!("{name}.ci95"), json!(interval));
        }
    }

    /// Adds a table of groups for people; programs read it as `members` of the object.
    pub(super) fn groups(
        &mut self,
        header: &[&'static str],
        rows: Vec<Vec<String>>,
        members: Map<String, Value>,
    ) {
        self.groups = Some(Groups { header: header.to_vec(), rows });
        self.json.extend(members);
    }

    /// Text for people, one object for programs.
    pub(super) fn document(self) -> Document {
        let mut text = Table::new(&["figure", "value"], self.rows, Value::Null).to_string();
        if let Some(Groups { header, rows }) = self.groups {
            text.push('\n');
            text.push_str(&Table::new(&header, rows, Value::Null).to_string());
        }
        Document::new(text, Value::Object(self.json))
    }
}

/// A figure as people read it.
pub(super) fn rounded(value: f64) -> String {
    format!("{value:.4}")
}

/// An interval as people read it.
pub(super) fn bounds([low, high]: [f64; 2]) -> String {
    format!("[{low:.4} {high:.4}]")
}

/// Cells of a row of groups: counts, figures, and the interval if there is one.
pub(super) fn cells(counts: Counts, interval: Option<[f64; 2]>) -> Vec<String> {
    let mut cells: Vec<String> =
        [counts.gold, counts.found, counts.hit].iter().map(usize::to_string).collect();
    cells.extend([counts.precision(), counts.recall(), counts.f1()].map(rounded));
    cells.extend(interval.map(bounds));
    cells
}

/// Whether something was marked and not found, or found and not marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Marked and not found.
    Missed,
    /// Found and not marked.
    Wrong,
}

/// Something missed or wrong: a line of the file of `--errors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which of the two it is.
    pub(super) fault: Fault,
    /// The advertisement or sentence.
    pub(super) id: String,
    /// Kind or label, if known.
    pub(super) kind: String,
    /// Place of the mark, if known.
    pub(super) place: String,
    /// Its text.
    pub(super) text: String,
}

impl Difference {
    /// The tab-separated line. Blanks of every kind become spaces, so that it stays one line.
    fn line(&self) -> String {
        let fault = if self.fault == Fault::Missed { "missed" } else { "wrong" };
        let cells = [fault, &self.id, &self.kind, &self.place, &self.text];
        cells.map(|cell| cell.replace(['\t', '\n', '\r'], " ")).join("\t")
    }
}

/// Writes one line for each difference.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(differences: &[Difference], mut file: impl Write) -> std::io::Result<()> {
    for difference in differences {
        writeln!(file, "{}", difference.line())?;
    }
    // A buffered writer that is only dropped hides the error of its last write.
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table_and_an_object() {
        let mut report = Report::default();
        report.count("ads", 2);
        report.f1("exact", Counts::one_to_one(4, 5, 2), Some([0.25, 0.5]));
        report.figure("kind.right", None);
        let rows = vec![vec!["all".to_owned(), "1".to_owned()]];
        report.groups(&["group", "gold"], rows, Map::from_iter([("all".to_owned(), json!(1))]));
        let document = report.document();
        assert_eq!(
            document.to_string(),
            "FIGURE           VALUE\n\
             ads              2\n\
             exact.precision  0.4000\n\
             exact.recall     0.5000\n\
             exact.f1         0.4444  [0.2500 0.5000]\n\
             \n\
             GROUP  GOLD\n\
             all    1\n"
        );
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!((&json["exact.recall"], &json["exact.f1.ci95"][0]), (&json!(0.5), &json!(0.25)));
        assert_eq!((&json["all"], json.get("kind.right")), (&json!(1), None));
    }

    #[test]
    fn a_difference_is_one_line() {
        let difference = Difference {
            fault: Fault::Missed,
            id: "7".to_owned(),
            kind: "tool".to_owned(),
            place: "R".to_owned(),
            text: "Excel\tavan\nzado".to_owned(),
        };
        let wrong = Difference {
            fault: Fault::Wrong,
            kind: String::new(),
            place: String::new(),
            ..difference.clone()
        };
        let mut file = Vec::new();
        write(&[difference, wrong], &mut file).unwrap();
        let expected = "missed\t7\ttool\tR\tExcel avan zado\nwrong\t7\t\t\tExcel avan zado\n";
        assert_eq!(String::from_utf8(file).unwrap(), expected);
    }
}
