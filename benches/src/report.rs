//! `RESULTS.md`: conditions first, then every figure next to its target.
//!
//! A figure that misses its target is printed like one that reaches it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use observatory_inference::testing::kernels::Isa;

use crate::figures::{Aim, Kind, ONNX};
use crate::peers::Seconds;

/// A ratio within one run.
pub(crate) struct Row {
    peer: String,
    threads: usize,
    ours: f64,
    theirs: f64,
    unit: &'static str,
    ratios: Vec<f64>,
    wall: f64,
    aim: Aim,
}

impl Row {
    /// Two of the peers compared by tokens per second of processor time.
    pub(crate) fn tokens<const N: usize>(
        peer: &str,
        threads: usize,
        rounds: &[[Seconds; N]],
        (ours, theirs): (usize, usize),
        per_second: impl Fn(Seconds) -> f64,
    ) -> Self {
        let column = |which: usize| rounds.iter().map(|round| per_second(round[which])).collect::<Vec<_>>();
        let ratio = |of: fn(&Seconds) -> f64| {
            rounds.iter().map(|round| of(&round[theirs]) / of(&round[ours])).collect::<Vec<_>>()
        };
        Self {
            peer: peer.to_owned(),
            threads,
            ours: median(&column(ours)),
            theirs: median(&column(theirs)),
            unit: "tokens",
            ratios: ratio(|seconds| seconds.cpu),
            wall: median(&ratio(|seconds| seconds.wall)),
            aim: ONNX,
        }
    }

    /// With another aim than that against onnxruntime in float32.
    pub(crate) fn aiming(self, aim: Aim) -> Self {
        Self { aim, ..self }
    }

    /// Two workloads compared by operations per second of processor time.
    pub(crate) fn operations(
        peer: &str,
        threads: usize,
        rounds: &[[Seconds; 2]],
        operations: [f64; 2],
    ) -> Self {
        let speed = |which: usize| {
            rounds.iter().map(|round| operations[which] / round[which].cpu / 1e9).collect::<Vec<_>>()
        };
        let scale = operations[0] / operations[1];
        let ratio = |of: fn(&Seconds) -> f64| {
            rounds.iter().map(|round| scale * of(&round[1]) / of(&round[0])).collect::<Vec<_>>()
        };
        Self {
            peer: peer.to_owned(),
            threads,
            ours: median(&speed(0)),
            theirs: median(&speed(1)),
            unit: "GFLOP",
            ratios: ratio(|seconds| seconds.cpu),
            wall: median(&ratio(|seconds| seconds.wall)),
            aim: Aim { bar: 0.95, goal: 0.98 },
        }
    }

    fn verdict(&self) -> &'static str {
        match median(&self.ratios) {
            ratio if ratio >= self.aim.goal => "goal reached",
            ratio if ratio >= self.aim.bar => "bar reached, goal missed",
            _ => "**missed**",
        }
    }

    fn line(&self) -> String {
        let (least, most) =
            self.ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        format!(
            "| {} | {} | {:.0} | {:.0} | **{:.2}** ({least:.2} to {most:.2}) | {:.2} | {} / {} | {} |",
            self.peer,
            self.threads,
            self.ours,
            self.theirs,
            median(&self.ratios),
            self.wall,
            self.aim.bar,
            self.aim.goal,
            self.verdict()
        )
    }
}

/// One heading of the report.
pub(crate) struct Section {
    title: &'static str,
    rows: Vec<Row>,
    text: String,
}

impl Section {
    /// A heading with nothing under it yet.
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new(), text: String::new() }
    }

    /// Adds a ratio.
    pub(crate) fn row(&mut self, row: Row) {
        eprintln!("  {}", row.line());
        self.rows.push(row);
    }

    /// Adds a table that another program made, or a remark.
    pub(crate) fn text(&mut self, text: String) {
        eprintln!("{text}");
        self.text.push_str(text.trim_end());
        self.text.push_str("\n\n");
    }

    fn write(&self, machine: &Machine, out: &mut String) -> Result<()> {
        writeln!(out, "## {}\n", self.title)?;
        writeln!(out, "{}\n", machine.line())?;
        if let Some(rounds) = self.rows.iter().map(|row| row.ratios.len()).max() {
            writeln!(out, "{rounds} rounds.\n")?;
        }
        out.push_str(&self.text);
        if let Some(first) = self.rows.first() {
            let unit = first.unit;
            writeln!(out, "| peer | threads | ours, {unit}/CPU-s | peer | ratio | wall | bar / goal | |")?;
            writeln!(out, "|---|---|---|---|---|---|---|---|")?;
            for row in &self.rows {
                writeln!(out, "{}", row.line())?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Where and on what the figures were taken.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    load: String,
    system: String,
    commit: String,
    date: String,
}

impl Machine {
    fn line(&self) -> String {
        format!(
            "Taken on {} at {} on {}, {} cores, kernels \"{}\", Linux {}; load average {} (1 and 5 minutes) before.",
            self.date,
            self.commit,
            self.processor,
            self.cores,
            Isa::detect().name(),
            self.system,
            self.load
        )
    }

    /// Read before anything is measured.
    pub(crate) fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let information = file("/proc/cpuinfo");
        let model = information.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            processor: model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load: file("/proc/loadavg").split(' ').take(2).collect::<Vec<_>>().join(" and "),
            system: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        }
    }
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The middle value, or the upper of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What stands before the first heading.
fn preface() -> String {
    let pins = concat!(include_str!("../requirements.txt"), include_str!("../requirements-llama.txt"));
    let peers = pins.lines().filter(|line| line.starts_with("onnx") || line.starts_with("llama"));
    let versions: Vec<String> = peers.map(|line| line.replace("==", " ")).collect();
    format!(
        "# Speed compared with named peers\n\nWritten by `make bench`; misses stand here as plainly as hits. Encoder of the \
         shape of multilingual-e5-base (12 layers of 768, inner 3072, 12 heads) with random weights and a small \
         vocabulary, float32, mean of the hidden states; before timing, every peer's vectors were found to be the \
         same. A ratio is ours over the peer's by processor time (user + system), the median of rounds in which all \
         sides took turns, least and most in brackets; \"wall\" is the same by the clock, which other work on the \
         machine disturbs. onnxruntime got the fastest of three graphs (fused Attention, MultiHeadAttention, plain \
         operators under ORT_ENABLE_ALL) and of the batch sizes 1 to 64, by trial on the same texts.\n\n\
         Peers: candle-transformers 0.11.1, {}; {}.\n\n",
        versions.join(", "),
        said("rustc", &["-V"])
    )
}

/// Puts a section into the report, in the place of an older one of its title; the others stay as
/// they are.
pub(crate) fn put(path: &Path, machine: &Machine, section: &Section) -> Result<()> {
    let mut new = String::new();
    section.write(machine, &mut new)?;
    let earlier = fs::read_to_string(path).unwrap_or_default();
    let order = Kind::ALL.map(Kind::title);
    fs::write(path, merged(&earlier, &preface(), (section.title, &new), &order))
        .with_context(|| path.display().to_string())
}

/// The report with a section replaced: those of `order` in that order, then what else it has.
fn merged(earlier: &str, preface: &str, (title, new): (&str, &str), order: &[&str]) -> String {
    let sections: Vec<&str> = earlier.split("\n## ").skip(1).collect();
    let title_of = |section: &&str| section.lines().next().unwrap_or_default().to_owned();
    let mut out = preface.to_owned();
    let mut push = |section: &str| {
        out.push_str("## ");
        out.push_str(section.trim_end());
        out.push_str("\n\n");
    };
    for wanted in order {
        if *wanted == title {
            push(new.trim_start_matches("## "));
        } else if let Some(section) = sections.iter().find(|section| title_of(section) == *wanted) {
            push(section);
        }
    }
    sections.iter().filter(|section| !order.contains(&title_of(section).as_str())).for_each(|section| push(section));
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
