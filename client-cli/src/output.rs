//! Output of the commands: data to stdout, as text or JSON; everything else to stderr.
//!
//! Nothing else in this program writes to either, because the macros of the standard library panic
//! if an output is closed or full.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Outcome of a command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything asked for was done: exit code 0.
    Done,
    /// It finished with failures, or found nothing: exit code 1.
    Failures,
    /// The user interrupted it: exit code 130, as in shells (128 + SIGINT).
    Interrupted,
}

impl Outcome {
    /// `Done` if `ok`, else `Failures`.
    pub(crate) fn done_if(ok: bool) -> Self {
        if ok { Self::Done } else { Self::Failures }
    }
}

/// Prints results as text or JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Prints one JSON document if `json`, else text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// True if results are printed as JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result, by `Display` or as JSON.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub(crate) fn print<T: Serialize + fmt::Display>(self, value: &T) -> anyhow::Result<()> {
        if self.json { print(serde_json::to_string_pretty(value)? + "\n") } else { print(value) }
    }

    /// Prints a list. If it is empty, `when_empty` explains on stderr how to fill it.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub(crate) fn list(self, table: &Table, when_empty: impl FnOnce() -> String) -> anyhow::Result<Outcome> {
        self.print(table)?;
        if table.is_empty() {
            progress(when_empty());
        }
        Ok(Outcome::done_if(!table.is_empty()))
    }
}

/// Waits for `answer`, showing the elapsed time if it takes long.
pub(crate) async fn while_waiting<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let (mut live, began) = (LiveLine::default(), Instant::now());
    let step = if live.terminal { Duration::from_secs(1) } else { LINE_INTERVAL };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SHOW_AFTER.max(step), step);
    tokio::pin!(answer);
    loop {
        // The answer is polled in place, so that a long wait does not start the work again.
        tokio::select! {
            answer = &mut answer => return answer,
            _ = ticks.tick() => {
                let text = format!("{what}: {} s", began.elapsed().as_secs());
                if live.terminal { live.show(text) } else { progress(text) }
            }
        }
    }
}

/// Prints text to stdout.
///
/// # Errors
/// [`Unwritable`].
pub(crate) fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    let mut data = Stdout;
    // As a whole, so that an error while formatting leaves no half document.
    data.write_all(text.to_string().as_bytes())?;
    data.flush()?;
    Ok(())
}

/// True if stdout is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Writing to standard output failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct Unwritable(#[source] io::Error);

/// Standard output, with errors marked as [`Unwritable`]; see [`is_broken_pipe`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().lock().write(bytes).map_err(unwritable)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush().map_err(unwritable)
    }
}

fn unwritable(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unwritable(error))
}

/// True if the reader of standard output closed the pipe.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // A broken pipe may also be that of a child process or a socket, which is an error.
    let mut errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let unwritable = errors.find(|error| error.get_ref().is_some_and(|inner| inner.is::<Unwritable>()));
    unwritable.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints a status line to stderr, since progress is never data. A closed stderr is ignored.
pub(crate) fn progress(message: impl fmt::Display) {
    write_stderr(format_args!("{message}\n"));
}

/// Writes text to stderr.
pub(crate) fn write_stderr(text: impl fmt::Display) {
    // As a whole: stderr is unbuffered, so each piece of a format would be a write of its own.
    let _ = io::stderr().write_all(text.to_string().as_bytes());
}

/// A line on the terminal that is redrawn; shows nothing if stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct LiveLine {
    terminal: bool,
    open: bool,
}

impl Default for LiveLine {
    fn default() -> Self {
        Self { terminal: io::stderr().is_terminal(), open: false }
    }
}

impl LiveLine {
    /// Redraws the line.
    pub(crate) fn show(&mut self, text: impl fmt::Display) {
        if self.terminal {
            // Carriage return and "erase in line" (ECMA-48), which every terminal knows.
            write_stderr(format_args!("\r\x1b[2K{text}"));
            self.open = true;
        }
    }

    /// Erases the line, so that others can be printed.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.open) {
            write_stderr("\r\x1b[2K");
        }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Progress is shown only after this time. Not tuned: a shorter wait needs no explanation.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// Interval between redraws on a terminal. Not tuned: looks smooth and costs little.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between plain lines, which fill a log file. Not tuned.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Width of the bar in characters, which leaves room for the text in 80 columns.
const BAR_WIDTH: u64 = 24;

/// Progress of a long operation: a bar on a terminal, plain lines elsewhere, nothing if it is done
/// soon.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    /// `None` if unknown.
    total: Option<u64>,
    done: u64,
    live: LiveLine,
    began: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Progress over `total` items, called `what`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        Self::of(what, Some(total))
    }

    /// Progress over an unknown number of items, called `what`.
    pub(crate) fn open_ended(what: &'static str) -> Self {
        Self::of(what, None)
    }

    fn of(what: &'static str, total: Option<u64>) -> Self {
        Self { what, total, done: 0, live: LiveLine::default(), began: Instant::now(), drawn: None }
    }

    /// Adds `count` finished items, and redraws if it is time.
    pub(crate) fn advance(&mut self, count: u64) {
        self.done += count;
        let wait = if self.live.terminal { REDRAW_INTERVAL } else { LINE_INTERVAL };
        let due = self.drawn.map_or(self.began.elapsed() > SHOW_AFTER, |drawn| drawn.elapsed() > wait);
        if !due {
            return;
        }
        self.drawn = Some(Instant::now());
        if self.live.terminal {
            let text = self.bar() + &self.line();
            self.live.show(text);
        } else {
            progress(self.line());
        }
    }

    fn bar(&self) -> String {
        let Some(total) = self.total else { return String::new() };
        let filled = (self.done.min(total) * BAR_WIDTH).checked_div(total).unwrap_or(BAR_WIDTH);
        format!("[{}{}] ", "#".repeat(filled as usize), ".".repeat((BAR_WIDTH - filled) as usize))
    }

    fn line(&self) -> String {
        match self.total {
            Some(total) => format!("{} of {total} {}", self.done, self.what),
            None => format!("{} {}", self.done, self.what),
        }
    }
}

/// Writes rows as aligned columns, two spaces apart, without trailing blanks.
pub(crate) fn columns(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            // Characters, not bytes: accents would shift the columns.
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

/// A result with text for people and JSON for programs.
#[derive(Debug)]
pub(crate) struct Document {
    text: String,
    json: serde_json::Value,
}

impl Document {
    /// Prints `text`, or `json` with `--json`.
    pub(crate) fn new(text: String, json: serde_json::Value) -> Self {
        Self { text, json }
    }
}

impl From<serde_json::Value> for Document {
    /// Prints JSON in both cases.
    fn from(json: serde_json::Value) -> Self {
        Self { text: format!("{json:#}\n"), json }
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

/// A result with a table for people and JSON for programs.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    json: serde_json::Value,
}

impl Table {
    /// A table with a header; `--json` prints `json`.
    pub(crate) fn new(header: &[&str], rows: Vec<Vec<String>>, json: serde_json::Value) -> Self {
        Self { header: header.iter().map(|title| title.to_uppercase()).collect(), rows, json }
    }

    /// True if there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A header alone would look like a result; `Output::list` explains on stderr.
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
            ("[######..................] ".to_owned(), "12 of 48 lines".to_owned())
        );
        assert_eq!(Progress::new("lines", 0).bar(), format!("[{}] ", "#".repeat(24)));
        let mut open = Progress::open_ended("rows");
        open.advance(7);
        assert_eq!((open.bar(), open.line()), (String::new(), "7 rows".to_owned()));
    }

    #[test]
    fn only_our_own_output_ends_quietly_when_it_is_closed() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let ours = anyhow::Error::from(unwritable(closed())).context("cannot print");
        assert!(is_broken_pipe(&ours));
        assert!(!is_broken_pipe(&anyhow::Error::from(closed()).context("cannot ask the service")));
        let full = anyhow::Error::from(unwritable(io::Error::from_raw_os_error(28)));
        assert!(!is_broken_pipe(&full));
        assert_eq!(
            format!("{full:#}"),
            "cannot write to standard output: No space left on device (os error 28)"
        );
    }

    #[test]
    fn columns_align_by_characters() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = vec![row(&["añil", "1", ""]), row(&["b", "22", "x"])];
        let table = Table::new(&["name", "n"], rows, serde_json::Value::Null);
        assert_eq!(table.to_string(), "NAME  N\nañil  1\nb     22  x\n");
    }
}
