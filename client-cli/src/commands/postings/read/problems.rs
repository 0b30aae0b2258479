//! Problems of the rows of a file. Equal ones are reported once, with the first line and their
//! number.

use observatory_proto::pipeline::v1::ImportError;

use crate::commands::text::excerpt;

/// Maximum number of kinds of problems to report. Not tuned: nobody reads more.
const KINDS: usize = 100;
/// Further examples in a message. Not tuned: enough to see a pattern.
const SHOWN: usize = 3;

/// Problems of the rows of one file.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    /// Problems of further kinds, which are only counted.
    untold: u64,
}

#[derive(Debug)]
struct Problem {
    kind: String,
    value: String,
    others: Vec<String>,
    line: u64,
    count: u64,
}

impl Problems {
    /// Records a problem: `kind` describes it, with `{}` in place of the value.
    pub(crate) fn add(&mut self, line: u64, kind: &str, value: &str) {
        let value = excerpt(value);
        // A linear search is enough for at most KINDS entries.
        if let Some(known) = self.found.iter_mut().find(|problem| problem.kind == kind) {
            known.count += 1;
            let new = value != known.value && !known.others.contains(&value);
            if new && known.others.len() < SHOWN {
                known.others.push(value);
            }
        } else if self.found.len() < KINDS {
            let kind = kind.to_owned();
            self.found.push(Problem { kind, value, others: Vec::new(), line, count: 1 });
        } else {
            self.untold += 1;
        }
    }

    /// Records a problem of which only the first place is reported.
    pub(crate) fn add_at(&mut self, line: u64, kind: &str, place: u64) {
        if let Some(known) = self.found.iter_mut().find(|problem| problem.kind == kind) {
            known.count += 1;
        } else {
            self.add(line, kind, &place.to_string());
        }
    }

    /// Number of problems, including repetitions.
    pub(crate) fn count(&self) -> u64 {
        self.untold + self.found.iter().map(|problem| problem.count).sum::<u64>()
    }

    /// One message per kind.
    pub(crate) fn messages(&self, file: &str) -> Vec<ImportError> {
        let told = self.found.iter().map(|problem| ImportError {
            file: file.to_owned(),
            line: problem.line,
            message: problem.message(),
            count: problem.count,
        });
        told.collect()
    }
}

impl Problem {
    fn message(&self) -> String {
        let mut message = self.kind.replace("{}", &self.value);
        if !self.others.is_empty() {
            let others: Vec<String> = self.others.iter().map(|value| format!("`{value}`")).collect();
            message.push_str(&format!("; also {}", others.join(", ")));
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_problems_are_told_once() {
        let mut problems = Problems::default();
        problems.add(3, "posted_date: `{}` is not a date", "ayer");
        problems.add(4, "is not a JSON object", "");
        problems.add(7, "posted_date: `{}` is not a date", "hoy");
        problems.add(9, "posted_date: `{}` is not a date", "ayer");
        let told: Vec<_> = problems
            .messages("a.csv")
            .into_iter()
            .map(|error| (error.line, error.count, error.message))
            .collect();
        let expected = "posted_date: `ayer` is not a date; also `hoy`".to_owned();
        assert_eq!(told, [(3, 3, expected), (4, 1, "is not a JSON object".to_owned())]);
        assert_eq!(problems.count(), 4);
        problems.add_at(11, "not valid JSON at column {}", 4);
        problems.add_at(12, "not valid JSON at column {}", 9);
        let last = problems.messages("a.csv").pop().map(|error| (error.message, error.count));
        assert_eq!(last, Some(("not valid JSON at column 4".to_owned(), 2)));
    }
}
