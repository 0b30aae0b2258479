//! Titles of occupations as Latin American advertisements write them, with the concepts they mean.
//!
//! A title is looked up by its words, so that gender, number, articles and prepositions do not
//! matter.

use std::collections::{HashMap, hash_map::Entry};

use super::rows::{LexiconError, Row, concept, rows};
use crate::{
    domain::taxonomy::{Concept, ConceptKind},
    text::title,
};

/// Name of the file in a lexicon's directory.
pub(super) const FILE: &str = "occupations.tsv";

const NAMES: [&str; 5] = ["label", "uri", "es", "en", "why"];

/// The meaning of a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// The concept, or nothing where the words name no occupation ("ayudante").
    pub uri: Option<String>,
    /// Further words may follow ("plomero para obra").
    pub extends: bool,
    /// An English form: further words stand before it ("senior Java developer").
    pub english: bool,
}

/// Titles by their words.
#[derive(Debug, Clone, Default)]
pub struct Titles {
    by_key: HashMap<String, Title>,
}

impl Titles {
    /// The title with these words; see [`title::words`].
    pub fn get(&self, key: &str) -> Option<&Title> {
        self.by_key.get(key)
    }

    /// Adds the lines of a file; returns the occupations they name.
    pub(super) fn read(&mut self, file: &str, text: &str) -> Result<Vec<Concept>, LexiconError> {
        let mut occupations = Vec::new();
        for row in rows(file, text, &NAMES)? {
            self.add(&row)?;
            if !row.cell(1).is_empty() {
                occupations.push(concept(ConceptKind::Occupation, row.cell(1).to_owned(), row.cell(0)));
            }
        }
        Ok(occupations)
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), LexiconError> {
        let (label, uri) = (row.cell(0), row.cell(1));
        if !uri.is_empty() && !uri.contains("://") {
            return Err(row.error("uri", format!("`{uri}` is not an absolute URI")));
        }
        if label.is_empty() != uri.is_empty() {
            return Err(row.error("label", "is required with every URI, and empty without one"));
        }
        if row.cell(2).is_empty() && row.cell(3).is_empty() {
            return Err(row.error("es", "`es` or `en` must hold a title"));
        }
        for (column, name) in [(2, "es"), (3, "en")] {
            for form in row.cell(column).split('|').map(str::trim).filter(|form| !form.is_empty()) {
                let title = Title {
                    uri: (!uri.is_empty()).then(|| uri.to_owned()),
                    extends: !form.starts_with('?'),
                    english: name == "en",
                };
                self.insert(form.trim_start_matches('?'), title)
                    .map_err(|problem| row.error(name, problem))?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, form: &str, title: Title) -> Result<(), String> {
        let key = title::words(form).join(" ");
        if key.is_empty() {
            return Err(format!("`{form}` holds no word"));
        }
        match self.by_key.entry(key) {
            // Two lines for one title contradict each other, and nothing shows which one counts.
            Entry::Occupied(_) => Err(format!("`{form}` has the words of an earlier title")),
            Entry::Vacant(vacant) => {
                vacant.insert(title);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "label\turi\tes\ten\twhy\n";

    #[test]
    fn reads_forms_with_their_marks() {
        let mut titles = Titles::default();
        let text =
            format!("{HEADER}plumber\tx://plumber\tplomero|?gásfiter\tplumber\n\t\tayudante\t\tof whom?\n");
        titles.read(FILE, &text).unwrap();
        let plumber = |extends, english| Title { uri: Some("x://plumber".into()), extends, english };
        assert_eq!(titles.get("plomer"), Some(&plumber(true, false)));
        assert_eq!(titles.get("gasfiter"), Some(&plumber(false, false)));
        assert_eq!(titles.get("plumber"), Some(&plumber(true, true)));
        assert_eq!(titles.get("ayudant").unwrap().uri, None);
        assert_eq!(titles.by_key.len(), 4);
    }

    #[test]
    fn errors_name_the_place() {
        for (text, expected) in [
            ("label\turi\n", "occupations.tsv, line 1, column label: the first line must name the columns"),
            ("label\turi\tes\ten\twhy\na\tb\tc\n", "line 2, column uri: `b` is not an absolute URI"),
            ("label\turi\tes\ten\twhy\na\t\tc\n", "column label: is required with every URI"),
            ("label\turi\tes\ten\twhy\na\tx://a\t\n", "column es: `es` or `en` must hold a title"),
            ("label\turi\tes\ten\twhy\na\tx://a\tde la\n", "column es: `de la` holds no word"),
            (
                "label\turi\tes\ten\twhy\na\tx://a\tmoza\tmozo\n",
                "column en: `mozo` has the words of an earlier",
            ),
        ] {
            let found = Titles::default().read(FILE, text).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}\n{expected}");
        }
    }
}
