//! Postings, skills and clusters as CSV or JSON Lines.

use std::{future::Future, str::FromStr};

use serde_json::{Map, Value};

use crate::{
    spreadsheet::Dialect,
    store::{PgPool, SqlResult, exports},
};

/// What is exported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// Rows of `raw_jobs` without `raw_html`.
    Postings,
    /// Rows of `enhanced_skills` with portal and country of the posting and the span they came from.
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

/// Rows read in one statement.
const PAGE: i64 = 1_000;

/// Sends the file in chunks until it is complete or `send` answers false. An empty subject gives a CSV
/// file with nothing but its header.
///
/// # Errors
/// When a statement fails; the file is then incomplete.
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
    let columns = columns(subject);
    if let Format::Csv(dialect) = format
        && !send(header_line(columns, dialect)).await
    {
        return Ok(());
    }
    let mut after = None;
    loop {
        let mut connection = pool.acquire().await?;
        let filter = exports::Filter { portal, country, after: after.as_deref(), limit: PAGE };
        let rows = match subject {
            Subject::Postings => exports::postings(&mut connection, filter).await?,
            Subject::Skills => exports::skills(&mut connection, filter).await?,
            Subject::Clusters => exports::clusters(&mut connection, filter).await?,
        };
        drop(connection);
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let objects: Vec<Map<String, Value>> =
            rows.iter().filter_map(|row| row.object.as_object().cloned()).collect();
        let chunk = match format {
            Format::Csv(dialect) => csv_rows(columns, &objects, dialect),
            Format::Jsonl => jsonl(columns, &objects),
        };
        if !send(chunk).await {
            return Ok(());
        }
    }
}

fn columns(subject: Subject) -> &'static [&'static str] {
    match subject {
        Subject::Postings => &[
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
        ],
        Subject::Skills => &[
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
        ],
        Subject::Clusters => &["analysis_id", "cluster_id", "cluster_label", "skill", "x", "y", "job_count"],
    }
}

fn header_line(header: &[&str], dialect: Dialect) -> Vec<u8> {
    let mut line = dialect.mark().to_vec();
    let mut writer = dialect.writer();
    // Writing to memory cannot fail.
    let _ = writer.write_record(header);
    line.extend(writer.into_inner().unwrap_or_default());
    line
}

fn csv_rows(columns: &[&str], rows: &[Map<String, Value>], dialect: Dialect) -> Vec<u8> {
    let mut writer = dialect.writer();
    for row in rows {
        let cells = columns.iter().map(|column| cell(row.get(*column), dialect));
        let _ = writer.write_record(cells);
    }
    writer.into_inner().unwrap_or_default()
}

fn cell(value: Option<&Value>, dialect: Dialect) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => dialect.text(text),
        Some(Value::Number(number)) => dialect.number(number.to_string()),
        Some(other) => other.to_string(),
    }
}

fn jsonl(columns: &[&str], rows: &[Map<String, Value>]) -> Vec<u8> {
    let mut text = String::new();
    for row in rows {
        let ordered: Map<String, Value> = columns
            .iter()
            .map(|column| ((*column).to_owned(), row.get(*column).cloned().unwrap_or(Value::Null)))
            .collect();
        text.push_str(&Value::Object(ordered).to_string());
        text.push('\n');
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Vec<Map<String, Value>> {
        vec![value.as_object().expect("object").clone()]
    }

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        let check = |value: Value, expected: &str| {
            let text = csv_rows(&["a", "b"], &row(json!({ "a": value, "b": 1 })), Dialect::Plain);
            assert_eq!(String::from_utf8(text).expect("utf-8"), format!("{expected},1\r\n"));
        };
        check(json!("x, \"y\""), "\"x, \"\"y\"\"\"");
        check(json!("=1+1"), "'=1+1");
        check(json!(null), "");
        check(json!("líneas\ndos"), "\"líneas\ndos\"");
        check(json!(-3), "-3");
    }

    #[test]
    fn excel_opens_it_right() {
        let mut file = header_line(&["skill", "confidence"], Dialect::Excel);
        let rows = row(json!({ "skill": "Gestión; =x", "confidence": 0.75 }));
        file.extend(csv_rows(&["skill", "confidence"], &rows, Dialect::Excel));
        let expected = "\u{feff}skill;confidence\r\n\"Gestión; =x\";0,75\r\n";
        assert_eq!(String::from_utf8(file).expect("utf-8"), expected);
    }

    #[test]
    fn json_lines_keep_the_order_of_the_columns() {
        let text = jsonl(&["b", "a"], &row(json!({ "a": 1, "b": "ñ" })));
        assert_eq!(String::from_utf8(text).expect("utf-8"), "{\"b\":\"ñ\",\"a\":1}\n");
    }
}
