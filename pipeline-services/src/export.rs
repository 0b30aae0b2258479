//! Postings, skills and clusters as CSV or JSON Lines.
//!
//! Rows are read page by page, each once: memory stays the same however much is written.

mod identity;

use std::{collections::HashMap, future::Future, str::FromStr};

use serde_json::Value;
use uuid::Uuid;

use identity::skill_uri;

use crate::{
    domain::posting::{Document, Field, Posting},
    spreadsheet::Dialect,
    store::{
        PgPool, SqlResult,
        exports::{self, Skill},
        postings,
    },
    text::sentences::Sentences,
};

/// The rows of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Rows of `raw_jobs` without `raw_html`, with the occupation of each.
    Postings,
    /// Rows of `enhanced_skills` with portal and country of the posting, the span they came from
    /// and a URI for every skill.
    Skills,
    /// Members of the latest clustering.
    Clusters,
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "postings" => Ok(Self::Postings),
            "skills" => Ok(Self::Skills),
            "clusters" => Ok(Self::Clusters),
            other => Err(format!("`{other}` is not postings, skills or clusters")),
        }
    }
}

/// Shape of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With a header; cells that a spreadsheet would run as a formula begin with `'`.
    Csv(Dialect),
    /// One JSON object per line.
    Jsonl,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "csv" => Ok(Self::Csv(Dialect::Plain)),
            "jsonl" => Ok(Self::Jsonl),
            other => Err(format!("`{other}` is not csv or jsonl")),
        }
    }
}

/// Bytes from which on a chunk is sent: a few pages of short rows, or one of long ones. Not tuned.
const CHUNK: usize = 1 << 18;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Nothing,
    Text(String),
    /// With a decimal point.
    Number(String),
    /// Anything else, as JSON.
    Json(String),
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::String(text) => Self::Text(text),
            Value::Number(number) => Self::Number(number.to_string()),
            other => Self::Json(other.to_string()),
        }
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Nothing, Self::Text)
    }
}

impl From<Uuid> for Cell {
    fn from(id: Uuid) -> Self {
        Self::Text(id.to_string())
    }
}

impl Cell {
    fn number(number: Option<impl ToString>) -> Self {
        number.map_or(Self::Nothing, |number| Self::Number(number.to_string()))
    }

    fn csv(&self, dialect: Dialect) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => dialect.text(text),
            Self::Number(number) => dialect.number(number.clone()),
            Self::Json(json) => json.clone(),
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Nothing => "null".to_owned(),
            Self::Text(text) => Value::from(text.as_str()).to_string(),
            Self::Number(text) | Self::Json(text) => text.clone(),
        }
    }
}

type Row = Vec<Cell>;

/// The pages of a subject.
struct Pages<'a> {
    pool: &'a PgPool,
    subject: Subject,
    filter: exports::Filter<'a>,
    /// The last posting, or the last skill of clusters.
    after: (Uuid, i64),
}

impl Pages<'_> {
    /// The next rows; none behind the last.
    async fn next(&mut self) -> SqlResult<Option<Vec<Row>>> {
        // Taken for each page: a caller who reads slowly must not keep a connection.
        let mut connection = self.pool.acquire().await?;
        let columns = columns(self.subject);
        let (rows, next) = match self.subject {
            Subject::Clusters => {
                let rows = exports::clusters(&mut connection, self.after.1).await?;
                (ordered(rows.objects, columns), rows.next.map(|skill| (Uuid::nil(), skill)))
            }
            Subject::Postings => {
                let rows = exports::postings(&mut connection, self.filter, self.after.0).await?;
                (ordered(rows.objects, columns), rows.next.map(|posting| (posting, 0)))
            }
            Subject::Skills => {
                let ids = exports::page(&mut connection, self.filter, self.after.0).await?;
                let postings = postings::by_ids(&mut connection, &ids).await?;
                let skills = exports::skills(&mut connection, &ids).await?;
                (skill_rows(skills, &postings), ids.last().map(|posting| (*posting, 0)))
            }
        };
        // A page of postings without skills has a next one; only a page without postings is the
        // end.
        let Some(next) = next else { return Ok(None) };
        self.after = next;
        Ok(Some(rows))
    }
}

/// Skills with the sentences that name them, or that they follow from; a text is cut into sentences
/// once for all of its skills.
fn skill_rows(skills: Vec<Skill>, postings: &[Posting]) -> Vec<Row> {
    let postings: HashMap<Uuid, (&Posting, Document)> =
        postings.iter().map(|posting| (posting.job_id, (posting, Document::from(posting)))).collect();
    let mut cut: HashMap<(Uuid, Field), Sentences<'_>> = HashMap::new();
    let mut rows = Vec::with_capacity(skills.len());
    for skill in skills {
        // Its posting may have gone between the statements.
        let Some((posting, document)) = postings.get(&skill.job_id) else { continue };
        let sentence = named(&skill).or_else(|| cited(&skill)).map(|(field, start, end)| {
            let sentences =
                cut.entry((skill.job_id, field)).or_insert_with(|| Sentences::of(document.field(field)));
            sentences.text_at(start, end).to_owned()
        });
        rows.push(skill_row(skill, posting, sentence));
    }
    rows
}

/// In the order of [`SKILL_COLUMNS`].
fn skill_row(skill: Skill, posting: &Posting, sentence: Option<String>) -> Row {
    let uri = skill_uri(skill.esco_concept_uri.as_deref(), &skill.normalized_skill);
    vec![
        skill.enhancement_id.into(),
        skill.job_id.into(),
        Cell::Text(posting.portal.clone()),
        Cell::Text(posting.country.clone()),
        skill.original_skill_text.into(),
        Cell::Text(skill.normalized_skill),
        Cell::Text(skill.skill_type),
        Cell::Text(skill.kind),
        Cell::Text(skill.category),
        skill.esco_concept_uri.into(),
        skill.esco_preferred_label.into(),
        Cell::number(Some(skill.llm_confidence)),
        skill.llm_reasoning.into(),
        Cell::Json(skill.is_duplicate.to_string()),
        skill.duplicate_of_id.map_or(Cell::Nothing, Cell::from),
        Cell::Text(skill.llm_model),
        Cell::Text(posting.url.clone()),
        skill.source_field.into(),
        skill.source_section.into(),
        Cell::number(skill.span_start),
        Cell::number(skill.span_end),
        sentence.into(),
        skill.extraction_method.into(),
        Cell::number(skill.confidence_score),
        skill.place.into(),
        Cell::Text(uri),
        skill.cited_field.into(),
        Cell::number(skill.cited_start),
        Cell::number(skill.cited_end),
    ]
}

/// Place at which a skill was named.
fn named(skill: &Skill) -> Option<(Field, u32, u32)> {
    place(skill.source_field.as_deref(), skill.span_start, skill.span_end)
}

/// Place on which a skill rests; of an implied one the place that it follows from.
fn cited(skill: &Skill) -> Option<(Field, u32, u32)> {
    place(skill.cited_field.as_deref(), skill.cited_start, skill.cited_end)
}

fn place(field: Option<&str>, start: Option<i32>, end: Option<i32>) -> Option<(Field, u32, u32)> {
    let field = Field::ALL.into_iter().find(|known| field == Some(known.name()))?;
    Some((field, position(start)?, position(end)?))
}

fn position(stored: Option<i32>) -> Option<u32> {
    u32::try_from(stored?).ok()
}

/// The values of objects in the order of the columns.
fn ordered(objects: Vec<Value>, columns: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    // Taken rather than cloned: texts of postings are long.
    for mut object in objects {
        rows.push(columns.iter().map(|column| object[*column].take().into()).collect());
    }
    rows
}

/// Rows as the bytes of a file.
struct Encoder {
    columns: &'static [&'static str],
    format: Format,
    csv: csv::Writer<Vec<u8>>,
    bytes: Vec<u8>,
    /// About the length of what is held back.
    size: usize,
}

impl Encoder {
    /// A file with its header.
    fn new(columns: &'static [&'static str], format: Format) -> Self {
        let dialect = if let Format::Csv(dialect) = format { dialect } else { Dialect::Plain };
        let mut encoder =
            Self { columns, format, csv: dialect.writer(), bytes: dialect.mark().to_vec(), size: 0 };
        match format {
            // Writing to memory cannot fail, here and below.
            Format::Csv(_) => drop(encoder.csv.write_record(columns)),
            // The byte order mark is for spreadsheets; before JSON it is an error.
            Format::Jsonl => encoder.bytes.clear(),
        }
        encoder
    }

    fn push(&mut self, row: &[Cell]) {
        match self.format {
            Format::Csv(dialect) => {
                let cells: Vec<String> = row.iter().map(|cell| cell.csv(dialect)).collect();
                self.size += cells.iter().map(|cell| cell.len() + 1).sum::<usize>();
                let _ = self.csv.write_record(cells);
            }
            Format::Jsonl => {
                let members = self.columns.iter().zip(row);
                let members: Vec<String> =
                    members.map(|(column, cell)| format!("\"{column}\":{}", cell.json())).collect();
                self.bytes.extend(format!("{{{}}}\n", members.join(",")).into_bytes());
                self.size = self.bytes.len();
            }
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut chunk = std::mem::take(&mut self.bytes);
        if let Format::Csv(dialect) = self.format {
            // A CSV writer gives its bytes away only as a whole.
            let full = std::mem::replace(&mut self.csv, dialect.writer());
            chunk.extend(full.into_inner().unwrap_or_default());
        }
        self.size = 0;
        chunk
    }
}

/// Sends the file in chunks until it is complete or `send` answers false. An empty subject gives a
/// CSV file with nothing but its header.
///
/// # Errors
/// If a statement fails; the file is then incomplete.
pub async fn write<F>(
    pool: &PgPool,
    subject: Subject,
    format: Format,
    (portal, country): (Option<&str>, Option<&str>),
    send: impl Fn(Vec<u8>) -> F,
) -> SqlResult<()>
where
    F: Future<Output = bool>,
{
    let mut encoder = Encoder::new(columns(subject), format);
    let filter = exports::Filter { portal, country };
    let mut pages = Pages { pool, subject, filter, after: (Uuid::nil(), 0) };
    while let Some(rows) = pages.next().await? {
        for row in &rows {
            encoder.push(row);
            if encoder.size >= CHUNK && !send(encoder.take()).await {
                return Ok(());
            }
        }
    }
    send(encoder.take()).await;
    Ok(())
}

const POSTING_COLUMNS: &[&str] = &[
    "job_id",
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
    "content_hash",
    "is_processed",
    "occupation_uri",
    "occupation_label",
    "occupation_isco",
    "occupation_cuoc",
    "occupation_cuoc_label",
    "occupation_score",
];
/// In the order of [`skill_row`].
const SKILL_COLUMNS: &[&str] = &[
    "enhancement_id",
    "job_id",
    "portal",
    "country",
    "original_skill_text",
    "normalized_skill",
    "skill_type",
    "kind",
    "category",
    "esco_concept_uri",
    "esco_preferred_label",
    "llm_confidence",
    "llm_reasoning",
    "is_duplicate",
    "duplicate_of_id",
    "llm_model",
    "url",
    "source_field",
    "source_section",
    "span_start",
    "span_end",
    "sentence",
    "extraction_method",
    "confidence_score",
    "place",
    "skill_uri",
    "cited_field",
    "cited_start",
    "cited_end",
];
const CLUSTER_COLUMNS: &[&str] =
    &["analysis_id", "cluster_id", "cluster_label", "skill", "x", "y", "job_count"];

/// Names of the cells of a row. They are those of the published tables, and the header of a file.
fn columns(subject: Subject) -> &'static [&'static str] {
    match subject {
        Subject::Postings => POSTING_COLUMNS,
        Subject::Skills => SKILL_COLUMNS,
        Subject::Clusters => CLUSTER_COLUMNS,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(columns: &'static [&'static str], format: Format, row: Value) -> String {
        let mut encoder = Encoder::new(columns, format);
        let row: Row = columns.iter().map(|column| row[*column].clone().into()).collect();
        encoder.push(&row);
        String::from_utf8(encoder.take()).expect("utf-8")
    }

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        let check = |value: Value, expected: &str| {
            let text = file(&["a", "b"], Format::Csv(Dialect::Plain), json!({ "a": value, "b": 1 }));
            assert_eq!(text, format!("a,b\r\n{expected},1\r\n"));
        };
        check(json!("x, \"y\""), "\"x, \"\"y\"\"\"");
        check(json!("=1+1"), "'=1+1");
        check(json!(null), "");
        check(json!("líneas\ndos"), "\"líneas\ndos\"");
        check(json!(-3), "-3");
        check(json!(true), "true");
    }

    #[test]
    fn excel_opens_it_right() {
        let row = json!({ "skill": "Gestión; =x", "confidence": 0.75 });
        let found = file(&["skill", "confidence"], Format::Csv(Dialect::Excel), row);
        assert_eq!(found, "\u{feff}skill;confidence\r\n\"Gestión; =x\";0,75\r\n");
    }

    #[test]
    fn json_lines_keep_the_order_of_the_columns() {
        let row = json!({ "a": 1, "b": "ñ \"x\"", "c": null, "d": false });
        let found = file(&["b", "a", "c", "d"], Format::Jsonl, row);
        assert_eq!(found, "{\"b\":\"ñ \\\"x\\\"\",\"a\":1,\"c\":null,\"d\":false}\n");
    }

    #[test]
    fn what_was_taken_is_not_sent_again() {
        let mut encoder = Encoder::new(&["a"], Format::Csv(Dialect::Plain));
        encoder.push(&[Cell::Text("x".to_owned())]);
        assert!(encoder.size > 0 && !encoder.take().is_empty());
        assert_eq!((encoder.size, encoder.take()), (0, Vec::new()));
    }
}
