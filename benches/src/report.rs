//! `RESULTS.md`: conditions first, then every figure beside what it was to reach.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use observatory_inference::kernels::isa::Isa;

use crate::figures::{Aim, ONNX};
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

    /// A heading whose figures were not asked for.
    pub(crate) fn left_out(title: &'static str) -> Self {
        let mut section = Self::new(title);
        section.text.push_str("Not taken: the run was asked for other figures (`--only`).\n\n");
        section
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

    fn write(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## {}\n", self.title)?;
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

/// Writes the report.
pub(crate) fn write(path: &Path, machine: &Machine, sections: &[Section]) -> Result<()> {
    let rounds = sections.iter().flat_map(|section| &section.rows).map(|row| row.ratios.len()).max();
    let mut out = String::from("# Speed beside named peers\n\n");
    writeln!(
        out,
        "Written by `make bench` on {}, at {}; misses stand here as plainly as hits. Encoder of the shape of \
         multilingual-e5-base (12 layers of 768, inner 3072, 12 heads) with random weights and a small vocabulary, \
         float32, mean of the hidden states; before timing, every peer's vectors were found to be the same. A ratio \
         is ours over the peer's by processor time (user + system), the median of {} rounds in which all sides took \
         turns, least and most in brackets; \"wall\" is the same by the clock, which other work on the machine \
         disturbs. onnxruntime got the fastest of three graphs (fused Attention, MultiHeadAttention, plain operators \
         under ORT_ENABLE_ALL) and of the batch sizes 1 to 64, by trial on the same texts.\n",
        machine.date,
        machine.commit,
        rounds.unwrap_or(0),
    )?;
    writeln!(
        out,
        "Machine: {}, {} cores, kernels \"{}\", Linux {}; load average {} (1 and 5 minutes) before the run.",
        machine.processor,
        machine.cores,
        Isa::detect().name(),
        machine.system,
        machine.load
    )?;
    let pins = include_str!("../requirements.txt").lines().filter(|line| line.starts_with("onnx"));
    let versions: Vec<String> = pins.map(|line| line.replace("==", " ")).collect();
    writeln!(
        out,
        "Peers: candle-transformers 0.11.1, {}; {}.\n",
        versions.join(", "),
        said("rustc", &["-V"])
    )?;
    for section in sections {
        section.write(&mut out)?;
    }
    out.push_str(kept(&fs::read_to_string(path).unwrap_or_default()));
    fs::write(path, out).with_context(|| path.display().to_string())
}

/// What stands in an earlier report and was not taken here: the figures of GPUs, from the first such heading on.
fn kept(earlier: &str) -> &str {
    earlier.find("## NVIDIA").map_or("", |start| &earlier[start..])
}
