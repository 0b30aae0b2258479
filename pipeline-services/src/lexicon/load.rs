//! Reading lexicon files with errors that name the place.
//!
//! A lexicon is read whole or not at all; every problem names file, line and column.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{
    CATEGORIES, Entry, Form, Implication, Lexicon, Link,
    rows::{LexiconError, Row, concept, rows},
    rulings::Rulings,
    titles::{self, Titles},
};
use crate::{
    domain::{skill::SkillKind, taxonomy::ConceptKind},
    text::tokens,
};

const IMPLICATIONS: &str = "implies.tsv";
const NAMES: [&str; 7] = ["label", "kind", "category", "es", "en", "flags", "uri"];
const CONCEPTS: &str = "concepts.tsv";
const CONCEPT_NAMES: [&str; 5] = ["label", "uri", "concept", "over", "why"];
/// Written instead of a URI where no concept means the same as an entry.
const NO_CONCEPT: &str = "none";
const IMPLICATION_NAMES: [&str; 4] = ["skill", "implies", "relation", "confidence"];

/// The `.tsv` files of a directory with their names, sorted.
pub(super) fn read_dir(dir: &Path) -> Result<Vec<(String, String)>, LexiconError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| unreadable(dir, source))? {
        let path = entry.map_err(|source| unreadable(dir, source))?.path();
        if path.extension().is_some_and(|extension| extension == "tsv") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
            files.push((name, text));
        }
    }
    // Directories list in any order, and the digest depends on it.
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, source: std::io::Error) -> LexiconError {
    LexiconError::Read { path: path.to_owned(), source }
}

/// Builds a lexicon from named files.
pub(super) fn parse(files: &[(String, String)]) -> Result<Lexicon, LexiconError> {
    let mut lexicon = Lexicon {
        entries: Vec::new(),
        implications: Vec::new(),
        titles: Titles::default(),
        concepts: Vec::new(),
        by_form: HashMap::new(),
        digest: digest(files),
        rulings: Rulings::default(),
    };
    let special = [IMPLICATIONS, CONCEPTS, titles::FILE];
    for (name, text) in files.iter().filter(|(name, _)| !special.contains(&name.as_str())) {
        for row in rows(name, text, &NAMES)? {
            add_entry(&mut lexicon, &row)?;
        }
    }
    if lexicon.entries.is_empty() {
        return Err(LexiconError::Empty);
    }
    // After all entries, since an implication may name those of any file.
    for (name, text) in files.iter().filter(|(name, _)| name == IMPLICATIONS) {
        for row in rows(name, text, &IMPLICATION_NAMES)? {
            let implication = implication(&lexicon, &row)?;
            lexicon.implications.push(implication);
        }
    }
    for (name, text) in files.iter().filter(|(name, _)| name == CONCEPTS) {
        for row in rows(name, text, &CONCEPT_NAMES)? {
            link(&mut lexicon, &row)?;
        }
    }
    for (name, text) in files.iter().filter(|(name, _)| name == titles::FILE) {
        lexicon.concepts.extend(lexicon.titles.read(name, text)?);
    }
    // Two entries may share a concept where they are names of one thing.
    let mut seen = HashSet::new();
    lexicon.concepts.retain(|concept| seen.insert(concept.uri.clone()));
    Ok(lexicon)
}

fn digest(files: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    // With lengths, so that no text runs into the name of the next file.
    for (name, text) in files {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

fn add_entry(lexicon: &mut Lexicon, row: &Row<'_>) -> Result<(), LexiconError> {
    let entry = entry(row)?;
    let index = lexicon.entries.len();
    for form in &entry.forms {
        let key = tokens::key(&form.text);
        match lexicon.by_form.get(&key) {
            // Spanish and English forms of one entry may be the same word.
            Some(other) if *other != index => {
                let other = &lexicon.entries[*other].label;
                return Err(row.error("label", format!("`{}` already names `{other}`", form.text)));
            }
            _ => lexicon.by_form.insert(key, index),
        };
    }
    lexicon.entries.push(entry);
    Ok(())
}

fn entry(row: &Row<'_>) -> Result<Entry, LexiconError> {
    let label = row.cell(0);
    if tokens::key(label).is_empty() {
        return Err(row.error("label", "must hold at least one letter or digit"));
    }
    let kind = match row.cell(1) {
        "hard" => SkillKind::Hard,
        "soft" => SkillKind::Soft,
        other => return Err(row.error("kind", format!("`{other}` is not allowed; use hard or soft"))),
    };
    let category = row.cell(2);
    if !CATEGORIES.contains(&category) {
        let allowed = CATEGORIES.join(", ");
        return Err(row.error("category", format!("`{category}` is not allowed; use one of {allowed}")));
    }
    let mut forms = vec![label_form(row)?];
    for (column, name) in [(3, "es"), (4, "en")] {
        for text in row.cell(column).split('|').map(str::trim).filter(|text| !text.is_empty()) {
            forms.push(form(row, name, text)?);
        }
    }
    let uri = row.cell(6);
    Ok(Entry {
        label: label.to_owned(),
        kind,
        category: category.to_owned(),
        forms,
        link: if uri.is_empty() { Link::ByLabel } else { Link::Concept(absolute(row, uri)?) },
    })
}

fn absolute(row: &Row<'_>, uri: &str) -> Result<String, LexiconError> {
    match uri.contains("://") {
        true => Ok(uri.to_owned()),
        false => Err(row.error("uri", format!("`{uri}` is not an absolute URI"))),
    }
}

/// A row of the table of concepts chosen by hand.
fn link(lexicon: &mut Lexicon, row: &Row<'_>) -> Result<(), LexiconError> {
    let label = row.cell(0);
    let index = lexicon.by_form.get(&tokens::key(label)).copied();
    let index = index
        .filter(|index| lexicon.entries[*index].label == label)
        .ok_or_else(|| row.error("label", format!("`{label}` is not the label of an entry")))?;
    let entry = &mut lexicon.entries[index];
    if entry.link != Link::ByLabel {
        return Err(row.error("label", format!("`{label}` is linked already")));
    }
    entry.link = match row.cell(1) {
        NO_CONCEPT => Link::Nothing,
        uri => Link::Concept(absolute(row, uri)?),
    };
    if let Link::Concept(uri) = &entry.link {
        lexicon.concepts.push(concept(ConceptKind::Skill, uri.clone(), row.cell(2)));
    }
    // Without its reason nobody could check a choice that was made by hand.
    match row.cell(4).is_empty() {
        true => Err(row.error("why", "must not be empty")),
        false => Ok(()),
    }
}

fn label_form(row: &Row<'_>) -> Result<Form, LexiconError> {
    let mut form = Form { text: row.cell(0).to_owned(), case: false, context: false };
    for flag in row.cell(5).split_whitespace() {
        match flag {
            "case" => form.case = true,
            "context" => form.context = true,
            other => {
                return Err(row.error("flags", format!("`{other}` is not a flag; use case and context")));
            }
        }
    }
    Ok(form)
}

fn form(row: &Row<'_>, column: &'static str, marked: &str) -> Result<Form, LexiconError> {
    let text = marked.trim_start_matches(['=', '?']);
    if tokens::key(text).is_empty() {
        return Err(row.error(column, format!("`{marked}` holds no letter or digit")));
    }
    let marks = &marked[..marked.len() - text.len()];
    Ok(Form { text: text.to_owned(), case: marks.contains('='), context: marks.contains('?') })
}

fn implication(lexicon: &Lexicon, row: &Row<'_>) -> Result<Implication, LexiconError> {
    for (column, name) in [(0, "skill"), (1, "implies")] {
        let label = row.cell(column);
        if lexicon.find(label).is_none_or(|entry| entry.label != label) {
            return Err(row.error(name, format!("`{label}` is not the label of an entry")));
        }
    }
    if row.cell(0) == row.cell(1) {
        return Err(row.error("implies", "a skill cannot imply itself"));
    }
    if row.cell(2).is_empty() {
        return Err(row.error("relation", "must not be empty"));
    }
    // Written so that NaN is refused too.
    let confidence = row.cell(3).parse().ok().filter(|value: &f32| *value > 0.0 && *value <= 1.0);
    Ok(Implication {
        skill: row.cell(0).to_owned(),
        implies: row.cell(1).to_owned(),
        relation: row.cell(2).to_owned(),
        confidence: confidence.ok_or_else(|| {
            row.error("confidence", format!("`{}` is not above 0 and at most 1", row.cell(3)))
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "label\tkind\tcategory\tes\ten\tflags\turi\n";

    fn problem(name: &str, text: &str) -> String {
        let files = [
            ("a.tsv".to_owned(), format!("{HEADER}Rust\thard\ttechnology\n")),
            (name.to_owned(), text.to_owned()),
        ];
        parse(&files).unwrap_err().to_string()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of inputs")]
    fn errors_name_the_place_and_what_is_allowed() {
        for (name, text, expected) in [
            (
                "b.tsv",
                format!("{HEADER}Go\tfirm\ttechnology\n"),
                "b.tsv, line 2, column kind: `firm` is not allowed; use hard or soft",
            ),
            (
                "b.tsv",
                format!("{HEADER}\nRUST\thard\ttechnology\n"),
                "b.tsv, line 3, column label: `RUST` already names `Rust`",
            ),
            (
                "b.tsv",
                format!("{HEADER}Go\thard\ttechnology\t\t\tshout\n"),
                "column flags: `shout` is not a flag; use case and context",
            ),
            (
                "b.tsv",
                format!("{HEADER}Go\thard\ttech\n"),
                "column category: `tech` is not allowed; use one of technology",
            ),
            (
                "b.tsv",
                format!("{HEADER}--\thard\ttechnology\n"),
                "column label: must hold at least one letter or digit",
            ),
            (
                "b.tsv",
                format!("{HEADER}Go\thard\ttechnology\t\t\t\tgo\n"),
                "column uri: `go` is not an absolute URI",
            ),
            (
                "b.tsv",
                format!("{HEADER}Go\thard\ttechnology\t\t\t\t\tmore\n"),
                "column uri: more than 7 columns",
            ),
            (
                "b.tsv",
                "label\tkind\n".to_owned(),
                "line 1, column label: the first line must name the columns",
            ),
            (
                "implies.tsv",
                "skill\timplies\trelation\tconfidence\nRust\tC\tuses\t1\n".to_owned(),
                "column implies: `C` is not the label of an entry",
            ),
            (
                "concepts.tsv",
                "label\turi\tconcept\tover\twhy\nRost\tnone\t\t\tno concept\n".to_owned(),
                "concepts.tsv, line 2, column label: `Rost` is not the label of an entry",
            ),
            (
                "concepts.tsv",
                "label\turi\tconcept\tover\twhy\nRust\tnone\t\t\tx\nRust\tnone\t\t\tx\n".to_owned(),
                "line 3, column label: `Rust` is linked already",
            ),
            (
                "concepts.tsv",
                "label\turi\tconcept\tover\twhy\nRust\tnone\n".to_owned(),
                "column why: must not be empty",
            ),
            (
                "implies.tsv",
                "skill\timplies\trelation\tconfidence\nRust\tRust\tuses\t1\n".to_owned(),
                "a skill cannot imply itself",
            ),
        ] {
            let found = problem(name, &text);
            assert!(found.contains(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn an_empty_set_is_refused() {
        assert!(matches!(parse(&[]), Err(LexiconError::Empty)));
        assert!(matches!(read_dir(Path::new("/nonexistent/lexicon")), Err(LexiconError::Read { .. })));
    }
}
