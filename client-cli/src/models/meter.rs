//! Progress of a pull: one live line on a terminal, plain lines elsewhere.
//!
//! Bytes, speed and remaining time.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::output::progress;

/// Interval between redraws on a terminal. Not tuned: looks smooth and costs little.
const REDRAW: Duration = Duration::from_millis(100);
/// Interval between plain lines about a file, which fill a log file. Not tuned.
const REPEAT: Duration = Duration::from_secs(10);
/// Width of the bar in characters, which leaves room for the text in 80 columns.
const WIDTH: u64 = 24;

/// A number of bytes with a decimal unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ 0..1_000 => write!(f, "{small} B"),
            kilo @ 1_000..1_000_000 => write!(f, "{:.1} kB", kilo as f64 / 1e3),
            mega @ 1_000_000..10_000_000_000 => write!(f, "{:.1} MB", mega as f64 / 1e6),
            giga => write!(f, "{:.1} GB", giga as f64 / 1e9),
        }
    }
}

/// Shows the progress of a pull.
#[derive(Debug)]
pub(super) struct Meter {
    terminal: bool,
    file: String,
    size: Option<u64>,
    done: u64,
    /// Bytes that were there at the start, which do not count for the speed.
    began_at: u64,
    began: Instant,
    drawn: Instant,
}

impl Meter {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            // Where it draws; stdout may be a pipe at the same time.
            terminal: io::stderr().is_terminal(),
            file: String::new(),
            size: None,
            done: 0,
            began_at: 0,
            began: now,
            drawn: now,
        }
    }

    /// Starts a file, or resumes it at byte `from`.
    pub(super) fn begin(&mut self, file: &str, from: u64, size: Option<u64>) {
        self.clear();
        let now = Instant::now();
        (self.file, self.size) = (file.to_owned(), size);
        (self.done, self.began_at, self.began, self.drawn) = (from, from, now, now);
        if self.terminal {
            self.draw();
        } else {
            let size = size.map_or_else(|| "unknown size".to_owned(), |size| Bytes(size).to_string());
            let resumed = if from > 0 { format!(", resuming at {}", Bytes(from)) } else { String::new() };
            progress(format_args!("{file}: {size}{resumed}"));
        }
    }

    /// Adds received bytes, and redraws if it is time.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let wait = if self.terminal { REDRAW } else { REPEAT };
        if self.drawn.elapsed() < wait {
            return;
        }
        self.drawn = Instant::now();
        if self.terminal {
            self.draw();
        } else {
            progress(self.line());
        }
    }

    /// Erases the line, so that others can be printed.
    pub(super) fn clear(&mut self) {
        if self.terminal && !self.file.is_empty() {
            // A closed stderr must not fail the pull.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn draw(&self) {
        let filled =
            self.size.map_or(0, |size| (self.done.min(size) * WIDTH).checked_div(size).unwrap_or(WIDTH));
        let bar = format!("{}{}", "#".repeat(filled as usize), ".".repeat((WIDTH - filled) as usize));
        let _ = write!(io::stderr(), "\r\x1b[K[{bar}] {}", self.line());
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let speed = (self.done - self.began_at) as f64 / seconds.max(0.001);
        let mut line = format!("{}: {}", self.file, Bytes(self.done));
        if let Some(size) = self.size {
            line.push_str(&format!(" of {}", Bytes(size)));
        }
        // In the first second the speed is that of the buffers on the way.
        if seconds >= 1.0 {
            line.push_str(&format!(", {}/s", Bytes(speed as u64)));
            if let Some(left) = self.size.map(|size| size.saturating_sub(self.done)).filter(|_| speed >= 1.0)
            {
                line.push_str(&format!(", {:.0} s left", left as f64 / speed));
            }
        }
        line
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let check = |bytes: u64, expected: &str| assert_eq!(Bytes(bytes).to_string(), expected);
        check(0, "0 B");
        check(690, "690 B");
        check(17_082_660, "17.1 MB");
        check(1_112_201_932, "1112.2 MB");
        check(14_500_000_000, "14.5 GB");
    }

    #[test]
    fn the_line_tells_speed_and_rest() {
        let mut meter = Meter::new();
        meter.terminal = false;
        meter.begin("model.safetensors", 1_000_000, Some(4_000_000));
        meter.advance(1_000_000);
        assert_eq!(meter.line(), "model.safetensors: 2.0 MB of 4.0 MB");
        meter.began -= Duration::from_secs(10);
        assert!(meter.line().starts_with("model.safetensors: 2.0 MB of 4.0 MB, 1"), "{}", meter.line());
        assert!(meter.line().ends_with(" s left"));
    }
}
