//! Reading ESCO as the portal publishes it (a folder of CSV files per language), and the bilingual
//! table merged from such folders.
//!
//! Recognised names, in any case, each `.csv` or `.csv.gz`: `skills_xx`, `occupations_xx`,
//! `…SkillsCollection_xx`, `broaderRelationsSkillPillar`, `broaderRelationsOccPillar`,
//! `occupationSkillRelations`, `skillSkillRelations` (these with or without `_xx`), `skills_en_es`,
//! `occupations_en_es`; a region behind the language (`skills_es-419`) and what a browser adds to a
//! second download (`skills_es (1)`) do not matter. Other files are left alone. Labels of one
//! concept from several files are united; the first preferred label of a language stays preferred,
//! so list the newest folder first.

mod table;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use csv::StringRecord;

pub(crate) use table::Table;

use super::{Loaded, Source, TaxonomyError};
use crate::domain::taxonomy::{Concept, ConceptKind, Label, Relation};

const EXPECTED: &str = "files of an ESCO download such as skills_es.csv and occupations_es.csv, plain or .gz";

/// Content of a file of an ESCO folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Concepts { kind: ConceptKind, language: Option<String> },
    Merged { kind: ConceptKind },
    Broader,
    OccupationSkills,
    SkillSkills,
}

/// Reads ESCO folders; with `languages` given, labels of other languages are left out.
///
/// # Errors
/// As `read_files`, and if a folder cannot be read.
pub fn read(dirs: &[PathBuf], languages: &[String]) -> Result<Loaded, TaxonomyError> {
    let mut folders = Vec::new();
    for dir in dirs {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(|source| unreadable(dir, source))? {
            files.push(Source::at(&entry.map_err(|source| unreadable(dir, source))?.path()));
        }
        folders.push(files);
    }
    read_files(&folders, languages)
}

fn unreadable(dir: &Path, source: std::io::Error) -> TaxonomyError {
    TaxonomyError::Read { path: dir.display().to_string(), source }
}

/// Reads the files of ESCO folders; with `languages` given, labels of other languages are left out.
///
/// # Errors
/// If a file cannot be read, a needed column is missing or a row is broken; the error names the
/// file and the line. Files without a single concept, or without a label of one of the languages,
/// are an error too.
pub(crate) fn read_files(folders: &[Vec<Source>], languages: &[String]) -> Result<Loaded, TaxonomyError> {
    let languages: Vec<String> = languages.iter().map(|language| base(language)).collect();
    let mut reader = Reader {
        languages: &languages,
        loaded: Loaded::default(),
        ids: HashMap::new(),
        relations: Vec::new(),
        found: BTreeSet::new(),
    };
    for files in folders {
        let mut known: Vec<(Content, &Source)> =
            files.iter().filter_map(|file| Some((content(&file.name)?, file))).collect();
        // Of two files of a language the one without a region is the shorter one and comes first.
        known.sort_by_key(|(content, file)| (content.clone(), file.name.len(), file.path.clone()));
        known.into_iter().try_for_each(|(content, file)| reader.read_file(&content, file))?;
    }
    reader.finish(folders)
}

/// A language without its region: `es` of `es-419`.
fn base(language: &str) -> String {
    language.trim().to_lowercase().split(['-', '_']).next().unwrap_or_default().to_owned()
}

/// The content of a file by its name.
fn content(name: &str) -> Option<Content> {
    let lower = name.to_lowercase();
    let stem = lower.strip_suffix(".gz").unwrap_or(&lower);
    let stem = [".csv", ".tsv", ".txt"].iter().find_map(|end| stem.strip_suffix(end))?;
    let stem = match stem.rsplit_once('(') {
        Some((first, copy)) if copy.trim_end_matches(')').parse::<u32>().is_ok() => first.trim_end(),
        _ => stem,
    };
    let (first, rest) = match stem.split_once('_') {
        Some((first, rest)) => (first, Some(rest)),
        None => (stem, None),
    };
    let kind = match first {
        "skills" => Some(ConceptKind::Skill),
        "occupations" => Some(ConceptKind::Occupation),
        _ => first.ends_with("skillscollection").then_some(ConceptKind::Skill),
    };
    match (first, kind, rest) {
        ("skills" | "occupations", Some(kind), Some("en_es")) => Some(Content::Merged { kind }),
        (_, Some(kind), _) => {
            let language = rest.map(base).filter(|language| (2..=3).contains(&language.len()));
            Some(Content::Concepts { kind, language })
        }
        ("broaderrelationsskillpillar" | "broaderrelationsoccpillar", ..) => Some(Content::Broader),
        ("occupationskillrelations", ..) => Some(Content::OccupationSkills),
        ("skillskillrelations", ..) => Some(Content::SkillSkills),
        _ => None,
    }
}

struct Reader<'a> {
    languages: &'a [String],
    loaded: Loaded,
    ids: HashMap<String, usize>,
    relations: Vec<Relation>,
    /// Languages of all labels.
    found: BTreeSet<String>,
}

impl Reader<'_> {
    fn read_file(&mut self, content: &Content, source: &Source) -> Result<(), TaxonomyError> {
        let mut table = Table::open(source)?;
        match content {
            Content::Concepts { kind, language } => {
                let language = match (language, self.languages) {
                    (Some(language), _) | (None, [language]) => language.clone(),
                    (None, _) => {
                        let problem =
                            "the name does not say the language, as skills_es.csv does; give one --language";
                        return Err(table.error(1, problem.to_owned()));
                    }
                };
                self.read_concepts(&mut table, *kind, &language)
            }
            Content::Merged { kind } => self.read_merged(&mut table, *kind),
            Content::Broader => {
                self.read_relations(&mut table, ("conceptUri", "broaderUri"), |_| "broader".to_owned())
            }
            Content::OccupationSkills => {
                let kind = table.needed("relationType")?;
                self.read_relations(&mut table, ("occupationUri", "skillUri"), move |row| relation(row, kind))
            }
            Content::SkillSkills => {
                let kind = table.needed("relationType")?;
                self.read_relations(&mut table, ("originalSkillUri", "relatedSkillUri"), move |row| {
                    relation(row, kind)
                })
            }
        }
    }

    fn read_concepts(
        &mut self,
        table: &mut Table,
        kind: ConceptKind,
        language: &str,
    ) -> Result<(), TaxonomyError> {
        let (uri, preferred) = (table.needed("conceptUri")?, table.needed("preferredLabel")?);
        let other = table.column("altLabels");
        let class = class_column(table, kind);
        while let Some(row) = table.read_row()? {
            let id = self.concept(table, cell(&row, Some(uri)), kind, cell(&row, class))?;
            self.label(id, language, cell(&row, Some(preferred)), true);
            // The portal puts each on a line of its own inside of the cell.
            for text in cell(&row, other).split(['\n', '|']) {
                self.label(id, language, text, false);
            }
        }
        Ok(())
    }

    fn read_merged(&mut self, table: &mut Table, kind: ConceptKind) -> Result<(), TaxonomyError> {
        let uri = table.needed("conceptUri")?;
        let class = class_column(table, kind);
        let mut columns = Vec::new();
        for language in ["en", "es"] {
            columns.push((
                language,
                table.needed(&format!("preferredLabel_{language}"))?,
                table.needed(&format!("altLabels_{language}"))?,
            ));
        }
        while let Some(row) = table.read_row()? {
            let id = self.concept(table, cell(&row, Some(uri)), kind, cell(&row, class))?;
            for (language, preferred, other) in &columns {
                self.label(id, language, cell(&row, Some(*preferred)), true);
                for text in cell(&row, Some(*other)).split('|') {
                    self.label(id, language, text, false);
                }
            }
        }
        Ok(())
    }

    fn read_relations(
        &mut self,
        table: &mut Table,
        (from, to): (&str, &str),
        kind: impl Fn(&StringRecord) -> String,
    ) -> Result<(), TaxonomyError> {
        let (from, to) = (table.needed(from)?, table.needed(to)?);
        while let Some(row) = table.read_row()? {
            let (from, to) = (cell(&row, Some(from)).to_owned(), cell(&row, Some(to)).to_owned());
            if from.is_empty() || to.is_empty() {
                return Err(table.error(table.line(), "a relation needs two URIs".to_owned()));
            }
            self.relations.push(Relation { from, kind: kind(&row), to });
        }
        Ok(())
    }

    fn concept(
        &mut self,
        table: &Table,
        uri: &str,
        kind: ConceptKind,
        class: &str,
    ) -> Result<usize, TaxonomyError> {
        if uri.is_empty() {
            return Err(table.error(table.line(), "`conceptUri` is empty".to_owned()));
        }
        let fresh = self.loaded.concepts.len();
        let id = *self.ids.entry(uri.to_owned()).or_insert(fresh);
        if id == fresh {
            let (uri, class) = (uri.to_owned(), class.to_owned());
            self.loaded.concepts.push(Concept { uri, kind, class, labels: Vec::new() });
        }
        Ok(id)
    }

    fn label(&mut self, concept: usize, language: &str, text: &str, preferred: bool) {
        let text = text.trim();
        // Before the filter, so that an error can name the languages that there are.
        if !text.is_empty() && !self.found.contains(language) {
            self.found.insert(language.to_owned());
        }
        let wanted = self.languages.is_empty() || self.languages.iter().any(|wanted| wanted == language);
        if text.is_empty() || !wanted {
            return;
        }
        let labels = &mut self.loaded.concepts[concept].labels;
        // Most labels are the same in two versions of a taxonomy.
        if labels.iter().any(|label| label.language == language && label.text == text) {
            return;
        }
        let taken = labels.iter().any(|label| label.preferred && label.language == language);
        let preferred = preferred && !taken;
        labels.push(Label { language: language.to_owned(), text: text.to_owned(), preferred });
    }

    fn finish(mut self, folders: &[Vec<Source>]) -> Result<Loaded, TaxonomyError> {
        let missing = self.languages.iter().find(|language| !self.found.contains(*language));
        // Where there is no label at all, the error below says more.
        if let (Some(wanted), false) = (missing, self.found.is_empty()) {
            let found = self.found.into_iter().collect::<Vec<_>>().join(", ");
            return Err(TaxonomyError::Language { wanted: wanted.clone(), found });
        }
        self.relations.sort_by(|left, right| {
            (&left.from, &left.kind, &left.to).cmp(&(&right.from, &right.kind, &right.to))
        });
        // The folders of two languages hold the same relations.
        self.relations.dedup();
        let distinct = self.relations.len();
        self.relations
            .retain(|relation| self.ids.contains_key(&relation.from) && self.ids.contains_key(&relation.to));
        self.loaded.skipped_relations = distinct - self.relations.len();
        self.loaded.relations = self.relations;
        self.loaded.concepts.retain(|concept| !concept.labels.is_empty());
        if self.loaded.concepts.is_empty() {
            let shown: Vec<&str> = folders.iter().flatten().map(|file| file.shown.as_str()).collect();
            let searched = if shown.is_empty() { "the folders".to_owned() } else { shown.join(", ") };
            return Err(TaxonomyError::Empty { searched, expected: EXPECTED });
        }
        Ok(self.loaded)
    }
}

fn class_column(table: &Table, kind: ConceptKind) -> Option<usize> {
    table.column(match kind {
        ConceptKind::Skill => "skillType",
        ConceptKind::Occupation => "iscoGroup",
    })
}

fn relation(row: &StringRecord, column: usize) -> String {
    match cell(row, Some(column)) {
        "" => "related".to_owned(),
        kind => kind.to_owned(),
    }
}

fn cell(row: &StringRecord, column: Option<usize>) -> &str {
    column.and_then(|column| row.get(column)).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests;
