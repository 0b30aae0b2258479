//! The project's own taxonomy file: one label a row, `uri,kind,class,language,label,preferred`.
//!
//! For taxonomies that are published in no form the program knows. Rows of a concept may stand
//! anywhere in the file; a mistake is named with its line.

use std::collections::HashMap;

use super::{Loaded, Source, TaxonomyError};
use crate::domain::taxonomy::{Concept, ConceptKind, Label};

const COLUMNS: [&str; 6] = ["uri", "kind", "class", "language", "label", "preferred"];

/// Reads a file, plain or `.gz`.
///
/// # Errors
/// If the file cannot be read, a column is missing or a value is not allowed; the error names file
/// and line.
pub(crate) fn read(source: &Source) -> Result<Loaded, TaxonomyError> {
    let mut table = super::esco::Table::open(source)?;
    let columns = COLUMNS.map(|name| table.column(name));
    let mut loaded = Loaded::default();
    let mut known: HashMap<String, usize> = HashMap::new();
    if let Some(missing) = COLUMNS.iter().zip(columns).find(|(_, column)| column.is_none()) {
        let (wanted, found) = (COLUMNS.join(","), table.header());
        let advice = match table.column("conceptUri") {
            Some(_) => "; this is a table of ESCO: import it with `taxonomy import esco`",
            None => "",
        };
        let problem = format!("no column `{}`; expected {wanted}; found {found}{advice}", missing.0);
        return Err(table.error(1, problem));
    }
    let columns = columns.map(Option::unwrap_or_default);
    while let Some(record) = table.read_row()? {
        let row = Row::read(columns.map(|column| record.get(column).unwrap_or_default().trim()))
            .map_err(|problem| table.error(table.line(), problem))?;
        let index = *known.entry(row.uri.to_owned()).or_insert(loaded.concepts.len());
        if index == loaded.concepts.len() {
            let (uri, class) = (row.uri.to_owned(), row.class.to_owned());
            loaded.concepts.push(Concept { uri, kind: row.kind, class, labels: Vec::new() });
        }
        loaded.concepts[index].labels.push(row.label);
    }
    if loaded.concepts.is_empty() {
        return Err(TaxonomyError::Empty { searched: source.shown.clone(), expected: "one label a row" });
    }
    Ok(loaded)
}

/// A row of the file.
struct Row<'a> {
    uri: &'a str,
    kind: ConceptKind,
    class: &'a str,
    label: Label,
}

impl<'a> Row<'a> {
    /// Reads the cells of a row in the order of [`COLUMNS`]; the error says what is wrong with it.
    fn read([uri, kind, class, language, label, preferred]: [&'a str; 6]) -> Result<Self, String> {
        for (cell, name) in [(uri, "uri"), (language, "language"), (label, "label")] {
            if cell.is_empty() {
                return Err(format!("`{name}` is empty"));
            }
        }
        let kind = match kind {
            "skill" => ConceptKind::Skill,
            "occupation" => ConceptKind::Occupation,
            other => return Err(format!("kind `{other}` is not skill or occupation")),
        };
        let preferred = match preferred {
            "true" | "1" | "yes" => true,
            "false" | "0" | "no" | "" => false,
            other => return Err(format!("preferred `{other}` is not true or false")),
        };
        let label = Label { language: language.to_owned(), text: label.to_owned(), preferred };
        Ok(Self { uri, kind, class, label })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Loaded, TaxonomyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.csv");
        std::fs::write(&path, text).unwrap();
        read(&Source::at(&path))
    }

    #[test]
    fn groups_labels_by_uri() {
        let loaded = check(
            "uri,kind,class,language,label,preferred\nx:1,skill,knowledge,es,Quesería,true\nx:1,skill,knowledge,en,\"cheese, making\",1\n",
        )
        .unwrap();
        assert_eq!(loaded.concepts.len(), 1);
        assert_eq!(loaded.concepts[0].labels[1].text, "cheese, making");
    }

    #[test]
    fn damaged_files_are_read_or_refused() {
        let corpus = [
            "uri,kind,class,language,label,preferred\nx:1,skill,knowledge,es,Quesería,true\nx:1,skill,knowledge,en,\"cheese, making\",1\n",
            "uri;kind;class;language;label;preferred\nx:2;occupation;7513;es;quesero;true\nx:2;occupation;7513;es;quesera;no\n",
        ];
        observatory_mutator::texts("taxonomies", &corpus, |text| match check(text) {
            Ok(loaded) => assert!(loaded.concepts.iter().all(|concept| !concept.labels.is_empty())),
            Err(problem) => assert!(problem.to_string().len() <= 4 * text.len() + 1_000),
        });
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            (
                "uri,kind\n",
                "own.csv:1: no column `class`; expected uri,kind,class,language,label,preferred; found uri, kind",
            ),
            ("conceptUri,preferredLabel\n", "import it with `taxonomy import esco`"),
            (
                "uri,kind,class,language,label,preferred\nx:1,job,,es,a,1\n",
                "own.csv:2: kind `job` is not skill or occupation",
            ),
            ("uri,kind,class,language,label,preferred\nx:1,skill,,es,,1\n", "own.csv:2: `label` is empty"),
            (
                "uri,kind,class,language,label,preferred\nx:1,skill,,es,a,maybe\n",
                "preferred `maybe` is not true or false",
            ),
            ("uri,kind,class,language,label,preferred\n", "no concept in"),
        ] {
            let found = check(text).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
    }
}
