//! The typesetter as a child process: this crate never links it.
//!
//! Finds the program, gives it charts and data in an empty directory and an environment without
//! credentials, and ends it when its time is over. What a template sees as `/report.json` is
//! decided here.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use super::charts::{Chart, ChartError, Heading, charts};
use super::comparison::{MIN_GROUP, Ranking, rankings};
use super::document::ReportDocument;
use super::findings::findings;
use super::statements;
use super::words::Words;

/// Environment variable that names the directory of the project's programs.
pub(crate) const BIN_DIR: &str = "OBSERVATORY_BIN_DIR";

/// A vector map of more elements than this is slower to show than a picture of it. Not tuned.
const VECTOR_LIMIT: usize = 2_500;
/// Rows of the tables of a printed report. By eye: each table has about a page.
const LIMITS: Limits = Limits {
    skills: 40,
    country_skills: 15,
    occupations: 25,
    clusters: 40,
    top_skills: 6,
    evidence: 15,
    quotes: 2,
    decimals_from: MIN_GROUP,
};

/// Way to run the typesetter.
#[derive(Debug, Clone)]
pub struct TypesetCommand {
    /// The program; none looks for `typeset` in the directory named by `BIN_DIR`, then next to
    /// the running program.
    pub program: Option<PathBuf>,
    /// A template of the user's; none takes the built-in one.
    pub template: Option<PathBuf>,
    /// A directory of additional fonts.
    pub fonts: Option<PathBuf>,
    /// PDF standards the output must meet, such as "ua-1"; a text that breaks one is an error. The
    /// PDF is tagged for assistive technology without any.
    pub standards: Vec<String>,
    /// Longest time that one document may take.
    pub timeout: Duration,
}

impl Default for TypesetCommand {
    fn default() -> Self {
        Self {
            program: None,
            template: None,
            fonts: None,
            standards: Vec::new(),
            timeout: Duration::from_secs(120),
        }
    }
}

/// Reason for a missing PDF.
#[derive(Debug, thiserror::Error)]
pub enum TypesetError {
    /// The program is not where it should be.
    #[error("the program `typeset` was not found in {}: build or install it there, or set {BIN_DIR}", list(.searched))]
    Missing {
        /// Directories looked into.
        searched: Vec<PathBuf>,
    },
    /// The program could not be started or read.
    #[error("cannot run {}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The program ended with an error.
    #[error("the typesetter failed ({status}): {message}")]
    Failed {
        /// Its exit status.
        status: String,
        /// Its message: `file:line:column: error: ...` for a fault in a template.
        message: String,
    },
    /// The program took too long and was ended.
    #[error("the typesetter took longer than {} s and was stopped", .0.as_secs())]
    TimedOut(Duration),
    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A file for the typesetter could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
}

fn list(folders: &[PathBuf]) -> String {
    let shown: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
    shown.join(" or ")
}

/// Content of `/report.json`, as a template reads it.
#[derive(Serialize)]
struct TemplateData<'a> {
    document: &'a ReportDocument,
    words: &'a BTreeMap<String, String>,
    title: String,
    notices: Vec<String>,
    findings: Vec<String>,
    filters: Vec<String>,
    /// Countries that may be compared, each with its skills: label, share, interval.
    rankings: Vec<PrintedRanking<'a>>,
    country_note: Option<String>,
    cluster_note: Option<String>,
    occupation_note: String,
    cautions: Vec<String>,
    parameters: Vec<(String, String)>,
    about: Vec<(String, String)>,
    charts: BTreeMap<&'static str, Image>,
    limits: Limits,
}

#[derive(Serialize)]
struct PrintedRanking<'a> {
    code: &'a str,
    name: String,
    postings: u64,
    rows: Vec<(&'a str, String, String)>,
}

#[derive(Serialize)]
struct Image {
    file: String,
    alt: String,
}

/// Rows a printed report shows; the other artefacts have all of them.
#[derive(Clone, Copy, Serialize)]
struct Limits {
    skills: usize,
    country_skills: usize,
    occupations: usize,
    clusters: usize,
    top_skills: usize,
    evidence: usize,
    quotes: usize,
    /// Cases below which a share has no decimal.
    decimals_from: u64,
}

impl TypesetCommand {
    /// Typesets `document` into `out`, with `scratch` as an empty directory for its inputs. Blocks
    /// until the program ends or its time is over.
    pub fn run(&self, document: &ReportDocument, scratch: &Path, out: &Path) -> Result<(), TypesetError> {
        let program = self.locate()?;
        let data = write_inputs(document, scratch)?;
        let mut command = Command::new(&program);
        // It needs nothing from the environment, which holds credentials.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.arg("--data").arg(data).arg("--assets").arg(scratch).arg("--out").arg(out);
        if let Some(template) = &self.template {
            command.arg("--template").arg(template);
        }
        if let Some(fonts) = &self.fonts {
            command.arg("--fonts").arg(fonts);
        }
        for standard in &self.standards {
            command.arg("--standard").arg(standard);
        }
        self.wait(command, &program)
    }

    /// The program to run.
    pub fn locate(&self) -> Result<PathBuf, TypesetError> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let named = std::env::var_os(BIN_DIR).map(PathBuf::from);
        let sibling = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
        search(named.into_iter().chain(sibling).collect())
    }

    fn wait(&self, mut command: Command, program: &Path) -> Result<(), TypesetError> {
        let fail = |source| TypesetError::Start { program: program.to_owned(), source };
        let mut child = command.spawn().map_err(fail)?;
        let (sender, receiver) = mpsc::channel();
        let stderr = child.stderr.take();
        // Its standard error closes when it ends, which is what the time limit waits for.
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_end(&mut said);
            }
            let _ = sender.send(());
            said
        });
        let in_time = receiver.recv_timeout(self.timeout).is_ok();
        if !in_time {
            child.kill().map_err(fail)?;
        }
        // Also after it was killed: a child whose end nobody takes stays in the table of processes.
        let status = child.wait().map_err(fail)?;
        if !in_time {
            return Err(TypesetError::TimedOut(self.timeout));
        }
        let said = reader.join().unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        // Kept short, since it is stored with the failed task.
        let message = String::from_utf8_lossy(&said).trim().chars().take(2_000).collect();
        Err(TypesetError::Failed { status: status.to_string(), message })
    }
}

fn search(folders: Vec<PathBuf>) -> Result<PathBuf, TypesetError> {
    let name = format!("typeset{}", std::env::consts::EXE_SUFFIX);
    let found = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
    found.ok_or(TypesetError::Missing { searched: folders })
}

/// Writes charts and data into `scratch` and returns the data's path.
fn write_inputs(document: &ReportDocument, scratch: &Path) -> Result<PathBuf, TypesetError> {
    let mut images = BTreeMap::new();
    for chart in charts(document, Heading::Hidden) {
        let (extension, content) = image(&chart)?;
        let file = format!("{}.{extension}", chart.name);
        write(scratch.join(&file), &content)?;
        images.insert(chart.name, Image { file, alt: chart.alt });
    }
    let data = template_data(document, images).map_err(std::io::Error::from);
    let data = data.map_err(|source| TypesetError::Write { path: scratch.join("data.json"), source })?;
    write(scratch.join("data.json"), &data)
}

fn write(path: PathBuf, content: &[u8]) -> Result<PathBuf, TypesetError> {
    match std::fs::write(&path, content) {
        Ok(()) => Ok(path),
        Err(source) => Err(TypesetError::Write { path, source }),
    }
}

fn image(chart: &Chart) -> Result<(&'static str, Vec<u8>), ChartError> {
    if chart.elements() > VECTOR_LIMIT {
        return Ok(("png", chart.png()?));
    }
    Ok(("svg", chart.svg().into_bytes()))
}

fn template_data(
    document: &ReportDocument,
    charts: BTreeMap<&'static str, Image>,
) -> Result<Vec<u8>, serde_json::Error> {
    let words = Words::of(document.language);
    serde_json::to_vec(&TemplateData {
        document,
        words: words.table(),
        title: words.title(document),
        notices: document.notices.iter().map(|n| words.notice(n)).collect(),
        findings: findings(document, words),
        filters: statements::filters(document, words),
        rankings: printed_rankings(document, words),
        country_note: statements::country_note(document, words),
        cluster_note: statements::cluster_note(document, words),
        occupation_note: statements::occupation_note(document, words),
        cautions: statements::limits(document, words),
        parameters: statements::parameters(document, words),
        about: statements::about(document, words),
        charts,
        limits: LIMITS,
    })
}

fn printed_rankings(document: &ReportDocument, words: Words) -> Vec<PrintedRanking<'_>> {
    let mut printed = Vec::new();
    for Ranking { country, rows } in rankings(document) {
        let n = country.postings;
        printed.push(PrintedRanking {
            code: &country.code,
            name: words.country(&country.code, &document.scope.countries),
            postings: n,
            rows: rows
                .into_iter()
                .take(LIMITS.country_skills)
                .map(|(label, count)| (label, words.share(count, n), words.interval(count, n)))
                .collect(),
        });
    }
    printed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::sample;

    /// A program that does `script`, as the typesetter.
    fn command(folder: &Path, script: &str) -> TypesetCommand {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("typeset");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        TypesetCommand { program: Some(path), ..TypesetCommand::default() }
    }

    #[test]
    fn a_missing_program_names_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = search(vec![folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains(BIN_DIR), "{error}");
    }

    #[test]
    fn what_the_program_says_reaches_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let failing = command(folder.path(), "echo 'a.typ:3:1: error: no such thing' >&2; exit 2");
        let out = folder.path().join("report.pdf");
        let error = failing.run(&sample::small(), folder.path(), &out).unwrap_err().to_string();
        assert!(error.contains("a.typ:3:1: error: no such thing"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut hanging = command(folder.path(), "exec tail -f /dev/null");
        hanging.timeout = Duration::from_millis(50);
        let out = folder.path().join("report.pdf");
        let error = hanging.run(&sample::small(), folder.path(), &out).unwrap_err();
        assert!(matches!(error, TypesetError::TimedOut(_)), "{error}");
    }

    #[test]
    fn the_program_gets_data_and_charts_but_no_environment() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"env > "$(dirname "$0")/env"; [ "$1" = --data ] && cp "$2" "$6""#;
        let copying = command(folder.path(), script);
        let out = folder.path().join("report.pdf");
        copying.run(&sample::small(), folder.path(), &out).unwrap();
        let data: serde_json::Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        assert_eq!(data["document"]["skills"][0]["label"], sample::small().skills[0].label);
        let chart = data["charts"]["top_skills"]["file"].as_str().unwrap();
        assert!(folder.path().join(chart).is_file());
        let environment = std::fs::read_to_string(folder.path().join("env")).unwrap();
        assert!(!environment.contains("CARGO"), "{environment}");
    }
}
