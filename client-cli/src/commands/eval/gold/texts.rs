//! Sentences and the skills they name: a table with the columns `sentence` and `label`.
//!
//! A sentence stands in as many rows as it names skills; the label is the English preferred label
//! of the skill, or a word for "none of the taxonomy".

use anyhow::{Context as _, bail};

use crate::commands::lines::Line;

/// A text with the names of what it should be linked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::eval) struct Text {
    /// What is linked.
    pub(in crate::commands::eval) text: String,
    /// Labels, repeated ones too.
    pub(in crate::commands::eval) labels: Vec<String>,
}

/// Reads the distinct sentences of a table, in the order of their first rows.
///
/// # Errors
/// If the table is damaged, a sentence is empty or there is none.
pub(super) fn read(name: &str, lines: &[Line]) -> anyhow::Result<Vec<Text>> {
    let table = lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let header = reader.headers().with_context(|| format!("{name}:1"))?.clone();
    let column = |wanted: &str| {
        let found = header.iter().position(|column| column.trim() == wanted);
        found.with_context(|| format!("{name}:1: no column `{wanted}`"))
    };
    let (sentence, label) = (column("sentence")?, column("label")?);
    let mut texts: Vec<Text> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (row, number) in reader.records().zip(2..) {
        let row = row.with_context(|| format!("{name}: row {number}"))?;
        let cell = |column: usize| row.get(column).unwrap_or_default().trim().to_owned();
        let (sentence, label) = (cell(sentence), cell(label));
        if sentence.is_empty() {
            bail!("{name}: row {number}: `sentence` is empty");
        }
        let place = *places.entry(sentence.clone()).or_insert(texts.len());
        if place == texts.len() {
            texts.push(Text { text: sentence, labels: Vec::new() });
        }
        texts[place].labels.push(label);
    }
    if texts.is_empty() {
        bail!("{name}: the table has no rows");
    }
    Ok(texts)
}
