//! What a command prints: data to stdout, as text or as JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How a command that did its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for was done: exit code 0.
    Done,
    /// It finished with failures, or found nothing: exit code 1.
    Failures,
}

impl Outcome {
    /// `Done` when `fine`, else `Failures`.
    pub fn from_fine(fine: bool) -> Self {
        if fine { Self::Done } else { Self::Failures }
    }
}

/// Where results go and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Text for people, or one JSON document when `json`.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are printed as JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result: its `Display`, or its JSON.
    ///
    /// # Errors
    /// Whatever stdout says; a broken pipe is left to the caller, which takes it for success.
    pub fn print<T: Serialize + fmt::Display>(self, value: &T) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from)?;
            writeln!(stdout)?;
        } else {
            write!(stdout, "{value}")?;
        }
        stdout.flush()?;
        Ok(())
    }
}

/// Says what is going on, on stderr; progress is never data.
pub fn progress(message: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Time that a piece of work may take before it is shown how far it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two drawings on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Time between two plain lines.
const REPEAT: Duration = Duration::from_secs(10);
/// Width of the bar.
const WIDTH: u64 = 24;

/// How far a long piece of work is: a bar on a terminal, plain lines elsewhere, nothing where it is soon done.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    terminal: bool,
    began: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Work on `total` of what is named.
    pub fn new(what: &'static str, total: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { what, total, done: 0, terminal, began: Instant::now(), drawn: None }
    }

    /// So many more are done.
    pub fn advance(&mut self, count: u64) {
        self.done += count;
        let wait = if self.terminal { REDRAW } else { REPEAT };
        let due = self.drawn.map_or(self.began.elapsed() > PATIENCE, |drawn| drawn.elapsed() > wait);
        if !due {
            return;
        }
        self.drawn = Some(Instant::now());
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{} {}", self.bar(), self.line());
        } else {
            progress(self.line());
        }
    }

    fn bar(&self) -> String {
        let filled = (self.done.min(self.total) * WIDTH).checked_div(self.total).unwrap_or(WIDTH);
        format!("[{}{}]", "#".repeat(filled as usize), ".".repeat((WIDTH - filled) as usize))
    }

    fn line(&self) -> String {
        format!("{} of {} {}", self.done, self.total, self.what)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Rows as aligned columns, two spaces apart, without trailing blanks.
pub fn columns(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in rows {
        let line: String =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}  ")).collect();
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A result that is a table for people and any JSON for programs.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    json: serde_json::Value,
}

impl Table {
    /// A table under `header`; `json` is what `--json` prints.
    pub fn new(header: &[&str], rows: Vec<Vec<String>>, json: serde_json::Value) -> Self {
        Self { header: header.iter().map(|title| title.to_uppercase()).collect(), rows, json }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut all = vec![self.header.clone()];
        all.extend(self.rows.iter().cloned());
        columns(f, &all)
    }
}

impl Serialize for Table {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_bar_and_a_count() {
        let mut progress = Progress::new("lines", 48);
        progress.advance(12);
        assert_eq!(
            (progress.bar(), progress.line()),
            ("[######..................]".to_owned(), "12 of 48 lines".to_owned())
        );
        assert_eq!(Progress::new("lines", 0).bar(), format!("[{}]", "#".repeat(24)));
    }

    #[test]
    fn columns_align_by_characters() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = vec![row(&["añil", "1", ""]), row(&["b", "22", "x"])];
        let table = Table::new(&["name", "n"], rows, serde_json::Value::Null);
        assert_eq!(table.to_string(), "NAME  N\nañil  1\nb     22  x\n");
    }
}
