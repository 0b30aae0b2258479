//! Reading ESCO as the portal publishes it (a folder of CSV files per language), and the bilingual table
//! merged from such folders.
//!
//! Recognised names, each `.csv` or `.csv.gz`: `skills_xx`, `occupations_xx`, `…SkillsCollection_xx`,
//! `broaderRelationsSkillPillar`, `broaderRelationsOccPillar`, `occupationSkillRelations`,
//! `skillSkillRelations` (these with or without `_xx`), `skills_en_es`, `occupations_en_es`.
//! Other files are left alone. Labels of one concept from several files are united; the first preferred
//! label of a language stays preferred, so list the newest folder first.

mod table;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use csv::StringRecord;

pub use table::Table;

use super::{Loaded, TaxonomyError};
use crate::domain::taxonomy::{Concept, ConceptKind, Label, Relation};

const EXPECTED: &str = "files of an ESCO download such as skills_es.csv and occupations_es.csv, plain or .gz";

/// What a file of an ESCO folder holds.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Content {
    Concepts { kind: ConceptKind, language: String },
    Merged { kind: ConceptKind },
    Broader,
    OccupationSkills,
    SkillSkills,
}

/// Reads ESCO folders; with `languages` given, labels of other languages are left out.
///
/// # Errors
/// If a folder or file cannot be read, a needed column is missing or a row is broken; the error names the
/// file and the line. Folders without a single concept are an error too.
pub fn read(dirs: &[PathBuf], languages: &[String]) -> Result<Loaded, TaxonomyError> {
    let mut reader =
        Reader { languages, loaded: Loaded::default(), ids: HashMap::new(), relations: Vec::new() };
    for dir in dirs {
        reader.read_dir(dir)?;
    }
    reader.finish(dirs)
}

/// The content of a file by its name.
fn content(name: &str) -> Option<Content> {
    let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".csv")?;
    let (base, language) = match stem.rsplit_once('_') {
        Some((base, language)) if language.len() == 2 => (base, Some(language)),
        _ => (stem, None),
    };
    let kind = |base: &str| match base {
        "skills" => Some(ConceptKind::Skill),
        "occupations" => Some(ConceptKind::Occupation),
        _ => base.ends_with("SkillsCollection").then_some(ConceptKind::Skill),
    };
    match base {
        "skills_en" => Some(Content::Merged { kind: ConceptKind::Skill }),
        "occupations_en" => Some(Content::Merged { kind: ConceptKind::Occupation }),
        "broaderRelationsSkillPillar" | "broaderRelationsOccPillar" => Some(Content::Broader),
        "occupationSkillRelations" => Some(Content::OccupationSkills),
        "skillSkillRelations" => Some(Content::SkillSkills),
        _ => Some(Content::Concepts { kind: kind(base)?, language: language?.to_owned() }),
    }
}

struct Reader<'a> {
    languages: &'a [String],
    loaded: Loaded,
    ids: HashMap<String, usize>,
    relations: Vec<Relation>,
}

impl Reader<'_> {
    fn read_dir(&mut self, dir: &Path) -> Result<(), TaxonomyError> {
        let failed = |source| TaxonomyError::Read { path: dir.display().to_string(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(content) = content(&entry.file_name().to_string_lossy()) {
                files.push((content, entry.path()));
            }
        }
        files.sort();
        files.into_iter().try_for_each(|(content, path)| self.read_file(&content, &path))
    }

    fn read_file(&mut self, content: &Content, path: &Path) -> Result<(), TaxonomyError> {
        let mut table = Table::open(path)?;
        match content {
            Content::Concepts { kind, language } => self.read_concepts(&mut table, *kind, language),
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
        let wanted = self.languages.is_empty() || self.languages.iter().any(|wanted| wanted == language);
        if text.is_empty() || !wanted {
            return;
        }
        let labels = &mut self.loaded.concepts[concept].labels;
        if labels.iter().any(|label| label.language == language && label.text == text) {
            return;
        }
        let taken = labels.iter().any(|label| label.preferred && label.language == language);
        let preferred = preferred && !taken;
        labels.push(Label { language: language.to_owned(), text: text.to_owned(), preferred });
    }

    fn finish(mut self, dirs: &[PathBuf]) -> Result<Loaded, TaxonomyError> {
        self.relations.sort_by(|left, right| {
            (&left.from, &left.kind, &left.to).cmp(&(&right.from, &right.kind, &right.to))
        });
        self.relations.dedup();
        let distinct = self.relations.len();
        self.relations
            .retain(|relation| self.ids.contains_key(&relation.from) && self.ids.contains_key(&relation.to));
        self.loaded.skipped_relations = distinct - self.relations.len();
        self.loaded.relations = self.relations;
        self.loaded.concepts.retain(|concept| !concept.labels.is_empty());
        if self.loaded.concepts.is_empty() {
            let searched = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
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
mod tests {
    use std::io::Write;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            if name.ends_with(".gz") {
                let file = fs::File::create(path).unwrap();
                let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                packed.write_all(text.as_bytes()).unwrap();
                packed.finish().unwrap();
            } else {
                fs::write(path, text).unwrap();
            }
        }
        dir
    }

    #[test]
    fn unites_languages_and_keeps_relations_between_concepts() {
        let english = folder(&[
            (
                "skills_en.csv",
                "conceptUri,skillType,preferredLabel,altLabels\nu:1,knowledge,cheese making,\"make cheese\ncheesecraft\"\n",
            ),
            ("occupations_en.csv", "conceptUri,iscoGroup,preferredLabel,altLabels\no:1,7513,cheesemaker,\n"),
            (
                "occupationSkillRelations.csv.gz",
                "occupationUri,relationType,skillType,skillUri\no:1,essential,knowledge,u:1\n",
            ),
            ("broaderRelationsSkillPillar_en.csv", "conceptUri,broaderUri\nu:1,g:group\n"),
            ("readme.txt", "not read"),
        ]);
        let spanish = folder(&[(
            "skills_es.csv.gz",
            "conceptUri,skillType,preferredLabel,altLabels\nu:1,knowledge,quesería,hacer queso | elaborar queso\n",
        )]);
        let dirs = [english.path().to_owned(), spanish.path().to_owned()];
        let loaded = read(&dirs, &[]).unwrap();
        assert_eq!(loaded.concepts.len(), 2);
        let skill = loaded.concepts.iter().find(|concept| concept.uri == "u:1").unwrap();
        assert_eq!(skill.labels.len(), 6);
        assert_eq!(skill.preferred_label("es"), Some("quesería"));
        assert_eq!(
            loaded.relations,
            [Relation { from: "o:1".into(), kind: "essential".into(), to: "u:1".into() }]
        );
        assert_eq!(loaded.skipped_relations, 1);
        let only = read(&dirs, &["es".to_owned()]).unwrap();
        assert_eq!(only.concepts.len(), 1);
    }

    #[test]
    fn reads_the_merged_table() {
        let dir = folder(&[(
            "skills_en_es.csv",
            "conceptUri,skillType,preferredLabel_en,altLabels_en,preferredLabel_es,altLabels_es\nu:1,skill/competence,milk cows,milking | cow milking,ordeñar vacas,\n",
        )]);
        let loaded = read(&[dir.path().to_owned()], &[]).unwrap();
        assert_eq!(loaded.concepts[0].labels.len(), 4);
        assert_eq!(loaded.concepts[0].class, "skill/competence");
    }

    #[test]
    fn errors_name_file_and_line() {
        for (name, text, expected) in [
            ("skills_es.csv", "uri,label\nu:1,a\n", "skills_es.csv:1: column `conceptUri` is missing"),
            (
                "skills_es.csv",
                "conceptUri,preferredLabel\nu:1,a\n,b\n",
                "skills_es.csv:3: `conceptUri` is empty",
            ),
            ("skills_es.csv", "conceptUri,preferredLabel\nu:1,a,b,c\n", "skills_es.csv:2: "),
            (
                "broaderRelationsOccPillar.csv",
                "conceptUri,broaderUri\no:1,\n",
                "broaderRelationsOccPillar.csv:2: a relation needs two URIs",
            ),
            ("other.csv", "a\n", "no concept in"),
        ] {
            let dir = folder(&[(name, text)]);
            let found = read(&[dir.path().to_owned()], &[]).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
    }
}
