//! Files of advertisements, line by line, as the objects that the service takes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use observatory_proto::pipeline::v1::{ImportError, ImportPostingsRequest};
use serde_json::{Map, Value};
use tokio::sync::mpsc::Sender;

use super::Import;

/// Fields that a line may have.
const FIELDS: [&str; 14] = [
    "id",
    "portal",
    "country",
    "url",
    "title",
    "company",
    "location",
    "description",
    "requirements",
    "salary_raw",
    "contract_type",
    "remote_type",
    "posted_date",
    "scraped_at",
];

/// Form of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum FileFormat {
    /// A header line, then one advertisement per record.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

/// Pairs of our field and the file's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Columns(Vec<(String, String)>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pairs = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (ours, theirs) =
                pair.split_once('=').ok_or_else(|| format!("`{pair}` is not OURS=THEIRS"))?;
            let ours = ours.trim();
            if !FIELDS.contains(&ours) {
                return Err(format!("unknown field `{ours}`; known are {}", FIELDS.join(", ")));
            }
            pairs.push((ours.to_owned(), theirs.trim().to_owned()));
        }
        Ok(Self(pairs))
    }
}

/// Opened files and how to read them.
pub(super) struct Lines {
    files: Vec<(PathBuf, FileFormat, Box<dyn Read + Send>)>,
    columns: Columns,
    portal: Option<String>,
    country: Option<String>,
}

/// Opens every file, so that a wrong name is told before any line is sent.
pub(super) fn open(import: &Import) -> anyhow::Result<Lines> {
    let mut files = Vec::new();
    for path in &import.files {
        let format = match import.format {
            Some(format) => format,
            None => format_of(path)?,
        };
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        if file.metadata().is_ok_and(|found| found.is_dir()) {
            bail!("cannot read {}: it is a directory", path.display());
        }
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read + Send> =
            if packed { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) };
        files.push((path.clone(), format, reader));
    }
    Ok(Lines {
        files,
        columns: import.map.clone(),
        portal: import.portal.clone(),
        country: import.country.clone(),
    })
}

fn format_of(path: &Path) -> anyhow::Result<FileFormat> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => Ok(FileFormat::Csv),
        Some("jsonl" | "ndjson") => Ok(FileFormat::Jsonl),
        _ => bail!("cannot tell the format of {} from its name; give --format csv or jsonl", path.display()),
    }
}

impl Lines {
    /// Sends every advertisement; returns the lines that were not even objects.
    pub(super) fn send(self, sender: &Sender<ImportPostingsRequest>) -> anyhow::Result<Vec<ImportError>> {
        let mut refused = Vec::new();
        let Self { files, columns, portal, country } = self;
        let defaults = Defaults { columns, portal, country };
        for (path, format, reader) in files {
            let mut target = Target { file: path.display().to_string(), sender, defaults: &defaults };
            let read = match format {
                FileFormat::Jsonl => target.json_lines(reader, &mut refused),
                FileFormat::Csv => target.csv(reader, &mut refused),
            };
            read.with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(refused)
    }
}

struct Defaults {
    columns: Columns,
    portal: Option<String>,
    country: Option<String>,
}

impl Defaults {
    /// Renames fields and fills in what the line does not say.
    fn apply(&self, object: &mut Map<String, Value>) {
        for (ours, theirs) in &self.columns.0 {
            if let Some(value) = object.remove(theirs) {
                object.insert(ours.clone(), value);
            }
        }
        for (field, value) in [("portal", &self.portal), ("country", &self.country)] {
            if let Some(value) = value
                && object.get(field).is_none_or(|known| known.as_str().is_some_and(str::is_empty))
            {
                object.insert(field.to_owned(), Value::String(value.clone()));
            }
        }
    }
}

struct Target<'a> {
    file: String,
    sender: &'a Sender<ImportPostingsRequest>,
    defaults: &'a Defaults,
}

impl Target<'_> {
    fn refuse(&self, line: u64, message: String) -> ImportError {
        ImportError { file: self.file.clone(), line, message }
    }

    fn send(&mut self, line: u64, mut object: Map<String, Value>) -> anyhow::Result<()> {
        self.defaults.apply(&mut object);
        let posting_json = Value::Object(object).to_string();
        let request = ImportPostingsRequest { posting_json, line, file: self.file.clone() };
        self.sender.blocking_send(request).ok().context("the service stopped reading")
    }

    fn json_lines(&mut self, reader: impl Read, refused: &mut Vec<ImportError>) -> anyhow::Result<()> {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            let start =
                if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes) } else { &bytes };
            if start.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Value>(start) {
                Ok(Value::Object(object)) => self.send(line, object)?,
                Ok(_) => refused.push(self.refuse(line, "not a JSON object".to_owned())),
                Err(error) => refused.push(self.refuse(line, format!("not valid JSON: {error}"))),
            }
        }
        Ok(())
    }

    fn csv(&mut self, reader: impl Read, refused: &mut Vec<ImportError>) -> anyhow::Result<()> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(BufReader::new(reader));
        let header = reader.headers()?.clone();
        let names: Vec<String> =
            header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
        let mut record = csv::StringRecord::new();
        loop {
            let line = reader.position().line();
            match reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) if record.len() != names.len() => {
                    let message = format!("has {} fields, the header has {}", record.len(), names.len());
                    refused.push(self.refuse(record.position().map_or(line, csv::Position::line), message));
                }
                Ok(true) => {
                    let place = record.position().map_or(line, csv::Position::line);
                    let cells =
                        names.iter().cloned().zip(record.iter().map(|cell| Value::String(cell.to_owned())));
                    self.send(place, cells.collect())?;
                }
                Err(error) if error.is_io_error() => return Err(error.into()),
                Err(error) => refused.push(self.refuse(line, error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sent = Vec<(u64, Value)>;
    type Refused = Vec<(u64, String)>;

    fn read(text: &str, format: FileFormat, map: &str) -> (Sent, Refused) {
        let lines = Lines {
            files: vec![(PathBuf::from("ads"), format, Box::new(std::io::Cursor::new(text.to_owned())))],
            columns: map.parse().expect("columns"),
            portal: Some("file".to_owned()),
            country: None,
        };
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let refused = lines.send(&sender).expect("readable");
        drop(sender);
        let mut sent = Vec::new();
        while let Ok(request) = receiver.try_recv() {
            sent.push((request.line, serde_json::from_str(&request.posting_json).expect("json")));
        }
        (sent, refused.into_iter().map(|error| (error.line, error.message)).collect())
    }

    #[test]
    fn json_lines_keep_their_numbers() {
        let text = "\u{feff}{\"title\":\"a\"}\n\n[1]\n{bad\n{\"title\":\"b\",\"portal\":\"x\"}";
        let (sent, refused) = read(text, FileFormat::Jsonl, "");
        assert_eq!(sent[0], (1, serde_json::json!({ "title": "a", "portal": "file" })));
        assert_eq!(sent[1], (5, serde_json::json!({ "title": "b", "portal": "x" })));
        assert_eq!(refused[0], (3, "not a JSON object".to_owned()));
        assert_eq!((refused[1].0, refused[1].1.starts_with("not valid JSON")), (4, true));
    }

    #[test]
    fn csv_columns_are_renamed() {
        let text = "Titulo,Aviso\nPanadero,\"Hornear\npan\"\nuno\nChofer,Licencia C2\n";
        let (sent, refused) = read(text, FileFormat::Csv, "title=Titulo,description=Aviso");
        assert_eq!(sent[0].1["description"], "Hornear\npan");
        assert_eq!((sent[1].0, sent[1].1["title"].as_str()), (5, Some("Chofer")));
        assert_eq!(refused, [(4, "has 1 fields, the header has 2".to_owned())]);
    }

    #[test]
    fn maps_name_known_fields() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Columns>().expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check("title", "`title` is not OURS=THEIRS");
        check("titel=x", "unknown field `titel`; known are id, portal");
    }

    #[test]
    fn formats_follow_names() {
        let check = |name: &str, expected| assert_eq!(format_of(Path::new(name)).ok(), expected, "{name}");
        check("a.jsonl", Some(FileFormat::Jsonl));
        check("a.JSONL.gz", Some(FileFormat::Jsonl));
        check("a.csv.gz", Some(FileFormat::Csv));
        check("a.txt", None);
        check("a", None);
    }
}
