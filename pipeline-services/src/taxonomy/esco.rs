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
    path::PathBuf,
};

use csv::StringRecord;

pub(crate) use table::Table;

use super::{Loaded, Source, TaxonomyError};
use crate::domain::taxonomy::{Concept, ConceptKind, Label, Relation};

const EXPECTED: &str = "files of an ESCO download such as skills_es.csv and occupations_es.csv, plain or .gz";

/// What a file of an ESCO folder holds.
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
/// As [`read_files`], and if a folder cannot be read.
pub fn read(dirs: &[PathBuf], languages: &[String]) -> Result<Loaded, TaxonomyError> {
    let mut folders = Vec::new();
    for dir in dirs {
        let failed = |source| TaxonomyError::Read { path: dir.display().to_string(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            files.push(Source::at(&entry.map_err(failed)?.path()));
        }
        folders.push(files);
    }
    read_files(&folders, languages)
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
        if !text.is_empty() && !self.found.contains(language) {
            self.found.insert(language.to_owned());
        }
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

    fn finish(mut self, folders: &[Vec<Source>]) -> Result<Loaded, TaxonomyError> {
        let missing = self.languages.iter().find(|language| !self.found.contains(*language));
        if let (Some(wanted), false) = (missing, self.found.is_empty()) {
            let found = self.found.into_iter().collect::<Vec<_>>().join(", ");
            return Err(TaxonomyError::Language { wanted: wanted.clone(), found });
        }
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
    fn damaged_files_are_read_or_refused() {
        let corpus = [
            "conceptUri,skillType,preferredLabel,altLabels\nu:1,knowledge,cheese making,\"make cheese\ncheesecraft\"\nu:2,skill/competence,bake,\n",
            "conceptUri;skillType;preferredLabel;altLabels\nu:1;knowledge;quesería;hacer queso | elaborar queso\n",
        ];
        observatory_mutator::texts("skills of ESCO", &corpus, |text| {
            let relations = "occupationUri,relationType,skillType,skillUri\no:1,essential,knowledge,u:1\n";
            let dir = folder(&[("skills_en.csv", text), ("occupationSkillRelations.csv", relations)]);
            match read(&[dir.path().to_owned()], &[]) {
                Ok(loaded) => assert!(loaded.concepts.iter().all(|concept| !concept.uri.is_empty())),
                Err(problem) => assert!(problem.to_string().len() <= 4 * text.len() + 1_000),
            }
        });
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
    fn files_are_known_by_name_in_any_spelling() {
        let skills = |language: &str| {
            Some(Content::Concepts { kind: ConceptKind::Skill, language: Some(language.to_owned()) })
        };
        let check = |name: &str, expected: Option<Content>| assert_eq!(content(name), expected, "{name}");
        check("skills_es.csv", skills("es"));
        check("Skills_ES.CSV", skills("es"));
        check("SKILLS_es.csv.GZ", skills("es"));
        check("skills_es-419.csv", skills("es"));
        check("skills_pt_BR.csv", skills("pt"));
        check("skills_es (1).csv", skills("es"));
        check("digitalSkillsCollection_en.csv", skills("en"));
        check("skills_es.tsv", skills("es"));
        check("skills.csv", Some(Content::Concepts { kind: ConceptKind::Skill, language: None }));
        check("skills_en_es.csv", Some(Content::Merged { kind: ConceptKind::Skill }));
        check("BroaderRelationsOccPillar_es.csv", Some(Content::Broader));
        check("skillGroups_es.csv", None);
        check("readme.txt", None);
    }

    #[test]
    fn separators_and_a_missing_language_are_found() {
        for delimiter in [";", "\t", ","] {
            let text = "\u{feff}conceptUri|preferredLabel|altLabels\nu:1|hornear, amasar; y más|pan\n";
            let text =
                text.replace("hornear, amasar; y más", "\"hornear, amasar; y más\"").replace('|', delimiter);
            let dir = folder(&[("Skills_ES.CSV", &text)]);
            let loaded = read(&[dir.path().to_owned()], &["ES".to_owned()]).unwrap();
            assert_eq!(
                loaded.concepts[0].preferred_label("es"),
                Some("hornear, amasar; y más"),
                "{delimiter:?}"
            );
        }
        let english = folder(&[("skills_en.csv", "conceptUri,preferredLabel\nu:1,a\n")]);
        let refused = |languages: &[&str]| {
            let languages: Vec<String> = languages.iter().map(|language| (*language).to_owned()).collect();
            read(&[english.path().to_owned()], &languages).unwrap_err().to_string()
        };
        assert_eq!(refused(&["pt"]), "no label in `pt`; the files hold en");
        assert_eq!(refused(&["en", "es"]), "no label in `es`; the files hold en");
        let unnamed = folder(&[("skills.csv", "conceptUri,preferredLabel\nu:1,a\n")]);
        let message = read(&[unnamed.path().to_owned()], &[]).unwrap_err().to_string();
        assert!(message.contains("skills.csv:1: the name does not say the language"), "{message}");
        let loaded = read(&[unnamed.path().to_owned()], &["es".to_owned()]).unwrap();
        assert_eq!(loaded.concepts[0].preferred_label("es"), Some("a"));
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
