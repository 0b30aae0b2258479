//! Report data in, PDF out. The only crate that builds the typesetter; the pipeline runs its
//! program.
//!
//! A template (`.typ`) reads one JSON file, `/report.json`, and the images of one directory, which
//! the template sees as `/assets`.
//!
//! | module | what it does |
//! |---|---|
//! | `world` | the files that a template can reach |
//! | `glyphs` | text that the fonts at hand can show |
//! | `depth` | how full a page is ([`FOOT`]) |
//!
//! Promises:
//!
//! - A template reaches nothing else: no network, no package, no clock, no file outside its own
//!   directory and the assets.
//! - Data is never pasted into markup: a template gets it as values, so a label such as
//!   `#eval("x")` or `$a_b$` is only ever text.
//! - The same inputs give the same bytes. The creation date of the document is what the template
//!   sets from the data.
//!
//! The built-in template is `pipeline-services/reports/report.typ`. Who fills it is
//! `observatory_pipeline::reporter`.

mod depth;
mod glyphs;
mod world;

use std::fmt;
use std::path::{Path, PathBuf};

use typst::diag::{Severity, SourceDiagnostic};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards};

use world::{FileWorld, Inputs};

pub use depth::FOOT;

/// The built-in template of the labour-market report.
const REPORT_TEMPLATE: &str = include_str!("../../reports/report.typ");

/// Names of the templates that are part of the program.
pub const BUILTIN_TEMPLATES: &[&str] = &["report"];

/// Source of the markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// One of [`BUILTIN_TEMPLATES`].
    Builtin(String),
    /// A `.typ` file; what it imports must lie in its directory or below.
    File(PathBuf),
}

impl Template {
    /// Reads a command-line value: a built-in name, or else a path.
    pub fn parse(value: &str) -> Self {
        if BUILTIN_TEMPLATES.contains(&value) {
            Self::Builtin(value.to_owned())
        } else {
            Self::File(PathBuf::from(value))
        }
    }

    fn load(&self) -> Result<(String, Option<PathBuf>), TypesetError> {
        match self {
            // A built-in template imports nothing, so it gets no directory.
            Self::Builtin(_) => Ok((REPORT_TEMPLATE.to_owned(), None)),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| TypesetError::Read { path: path.clone(), source })?;
                // A bare file name has an empty parent.
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Ok((text, Some(folder.to_owned())))
            }
        }
    }

    fn file_name(&self) -> String {
        match self {
            Self::Builtin(name) => format!("{name}.typ"),
            Self::File(path) => {
                path.file_name().map_or("template.typ".to_owned(), |n| n.to_string_lossy().into_owned())
            }
        }
    }
}

/// Input of the typesetter.
#[derive(Debug, Clone)]
pub struct Job {
    /// The markup.
    pub template: Template,
    /// JSON that the template reads as `/report.json`.
    pub data: Vec<u8>,
    /// Directory the template sees as `/assets`.
    pub assets: Option<PathBuf>,
    /// Directory of further `.ttf` and `.otf` fonts, in addition to the embedded Libertinus, New
    /// Computer Modern and DejaVu Sans Mono.
    pub fonts: Option<PathBuf>,
    /// PDF standards the output must meet, by their names ("ua-1", "a-2a", "1.7"). A document that
    /// breaks one is an error. Empty: a tagged PDF 1.7.
    pub standards: Vec<String>,
}

/// A finished document.
#[derive(Debug, Clone)]
pub struct Typeset {
    /// The PDF file.
    pub pdf: Vec<u8>,
    /// Its number of pages.
    pub pages: usize,
    /// Lowest point of the content of each page, as a share of the page's height; what is in the
    /// lowest [`FOOT`] of a page is not content.
    pub depths: Vec<f64>,
    /// Warnings of the typesetter, one message each.
    pub warnings: Vec<String>,
}

/// Reason why no document came out.
#[derive(Debug)]
pub enum TypesetError {
    /// A file could not be read.
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Answer of the system.
        source: std::io::Error,
    },
    /// The data is not JSON.
    Data(serde_json::Error),
    /// A PDF standard is unknown or does not go with another one.
    Standard(String),
    /// The template failed: one `file:line:column: message` each.
    Template(Vec<String>),
}

impl fmt::Display for TypesetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Data(_) => f.write_str("the report data is not valid JSON"),
            Self::Standard(message) => f.write_str(message),
            Self::Template(messages) => f.write_str(&messages.join("\n")),
        }
    }
}

impl std::error::Error for TypesetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Data(source) => Some(source),
            Self::Standard(_) | Self::Template(_) => None,
        }
    }
}

/// Typesets `job`. Needs a few hundred milliseconds and holds the whole document in memory.
pub fn typeset(job: &Job) -> Result<Typeset, TypesetError> {
    let data = serde_json::from_slice(&job.data).map_err(TypesetError::Data)?;
    let standards = standards(&job.standards)?;
    let (text, folder) = job.template.load()?;
    let world = FileWorld::new(Inputs {
        main: (job.template.file_name(), text),
        data,
        folder,
        assets: job.assets.clone(),
        fonts: job.fonts.as_deref(),
    })?;

    let compiled = typst::compile::<PagedDocument>(&world);
    let mut warnings: Vec<_> = compiled.warnings.iter().map(|w| describe(&world, w)).collect();
    if world.missing_glyphs > 0 {
        warnings.push(format!(
            "{} characters of the data are in no font and print as U+FFFD",
            world.missing_glyphs
        ));
    }
    let document = compiled.output.map_err(|errors| template_error(&world, &errors))?;
    // No time stamp, which would make each file different: the template sets the date.
    let options = PdfOptions { standards, ..PdfOptions::default() };
    let pdf = typst_pdf::pdf(&document, &options).map_err(|errors| template_error(&world, &errors))?;
    let depths = document.pages().iter().map(|page| depth::depth(&page.frame)).collect();
    Ok(Typeset { pdf, pages: document.pages().len(), depths, warnings })
}

fn template_error(world: &FileWorld, errors: &[SourceDiagnostic]) -> TypesetError {
    TypesetError::Template(errors.iter().map(|error| describe(world, error)).collect())
}

fn standards(names: &[String]) -> Result<PdfStandards, TypesetError> {
    let mut list = Vec::with_capacity(names.len());
    for name in names {
        // typst deserializes these names but has no parser for them.
        let quoted = serde_json::Value::String(name.clone());
        let standard = serde_json::from_value::<PdfStandard>(quoted).map_err(|_| {
            TypesetError::Standard(format!("unknown PDF standard `{name}` (such as 1.7, a-2a, ua-1)"))
        })?;
        list.push(standard);
    }
    PdfStandards::new(&list).map_err(|e| TypesetError::Standard(e.message().to_string()))
}

/// `file:line:column: error: message (hint: ...)`, lines and columns counted from 1.
fn describe(world: &FileWorld, diagnostic: &SourceDiagnostic) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = world.place(diagnostic.span).map_or(String::new(), |p| format!("{p}: "));
    let mut message = format!("{place}{severity}: {}", diagnostic.message);
    for hint in &diagnostic.hints {
        message.push_str(&format!(" (hint: {})", hint.v));
    }
    message
}
