//! Reading ESCO as the portal publishes it (a folder of CSV files per language), and the bilingual
//! table merged from such folders.
//!
//! Recognised names, in any case, each `.csv` or `.csv.gz`: `skills_xx`, `occupations_xx`,
//! `…SkillsCollection_xx`, `skillGroups_xx`, `ISCOGroups_xx`, `skillsHierarchy_xx`,
//! `broaderRelationsSkillPillar`, `broaderRelationsOccPillar`, `occupationSkillRelations`,
//! `skillSkillRelations` (these with or without `_xx`), `skills_en_es`, `occupations_en_es`; a
//! region behind the language (`skills_es-419`) and what a browser adds to a second download
//! (`skills_es (1)`) do not matter. Other files are left alone. Labels of one
//! concept from several files are united; the first preferred label of a language stays preferred,
//! and the first folder that says what is above a concept decides, so list the newest folder first.

mod content;
mod table;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use csv::StringRecord;

pub(crate) use table::Table;

use super::{
    Loaded, Source, TaxonomyError,
    hierarchy::{cycle, shown},
};
use crate::domain::taxonomy::{BROADER, Concept, ConceptKind, Description, ISCO_GROUP, Label, Relation};
use content::{Content, base, content};

const EXPECTED: &str = "files of an ESCO download such as skills_es.csv and occupations_es.csv, plain or .gz";

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
        described: HashSet::new(),
        placed: HashSet::new(),
    };
    for files in folders {
        reader.read_folder(files)?;
    }
    reader.finish(folders)
}

struct Reader<'a> {
    languages: &'a [String],
    loaded: Loaded,
    ids: HashMap<String, usize>,
    relations: Vec<Relation>,
    /// Languages of all labels.
    found: BTreeSet<String>,
    /// Concepts with the languages in which they have a description.
    described: HashSet<(usize, String)>,
    /// Concepts of which a folder has said what is above them.
    placed: HashSet<String>,
}

impl Reader<'_> {
    fn read_folder(&mut self, files: &[Source]) -> Result<(), TaxonomyError> {
        let mut known: Vec<(Content, &Source)> =
            files.iter().filter_map(|file| Some((content(&file.name)?, file))).collect();
        // Of two files of a language the one without a region is the shorter one and comes first.
        known.sort_by_key(|(content, file)| (content.clone(), file.name.len(), file.path.clone()));
        let earlier = std::mem::take(&mut self.relations);
        known.into_iter().try_for_each(|(content, file)| self.read_file(&content, file))?;
        let mut own = std::mem::replace(&mut self.relations, earlier);
        // Hierarchies of two versions contradict each other: what is below in one is above in the
        // other.
        own.retain(|relation| relation.kind != BROADER || !self.placed.contains(&relation.from));
        let broader = own.iter().filter(|relation| relation.kind == BROADER);
        self.placed.extend(broader.map(|relation| relation.from.clone()));
        self.relations.extend(own);
        Ok(())
    }

    fn read_file(&mut self, content: &Content, source: &Source) -> Result<(), TaxonomyError> {
        let mut table = match content {
            Content::Hierarchy { .. } => Table::open_ragged(source)?,
            _ => Table::open(source)?,
        };
        match content {
            Content::Concepts { kind, language } => {
                let language = self.language(&table, language.as_deref())?;
                self.read_concepts(&mut table, *kind, &language)
            }
            Content::Merged { kind } => self.read_merged(&mut table, *kind),
            Content::Hierarchy { language } => {
                let language = self.language(&table, language.as_deref())?;
                self.read_hierarchy(&mut table, &language)
            }
            Content::Broader => {
                self.read_relations(&mut table, ("conceptUri", "broaderUri"), |_| BROADER.to_owned())
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

    /// The language of a file: what its name says, else the only one that is wanted.
    fn language(&self, table: &Table, named: Option<&str>) -> Result<String, TaxonomyError> {
        match (named, self.languages) {
            (Some(language), _) => Ok(language.to_owned()),
            (None, [language]) => Ok(language.clone()),
            (None, _) => {
                let problem =
                    "the name does not say the language, as skills_es.csv does; give one --language";
                Err(table.error(1, problem.to_owned()))
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
        let (other, description) = (table.column("altLabels"), table.column("description"));
        let class = class_column(table, kind);
        while let Some(row) = table.read_row()? {
            let id = self.concept(table, cell(&row, Some(uri)), kind, cell(&row, class))?;
            self.label(id, language, cell(&row, Some(preferred)), true);
            // The portal puts each on a line of its own inside of the cell.
            for text in cell(&row, other).split(['\n', '|']) {
                self.label(id, language, text, false);
            }
            self.describe(id, language, cell(&row, description));
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
                table.column(&format!("description_{language}")),
            ));
        }
        while let Some(row) = table.read_row()? {
            let id = self.concept(table, cell(&row, Some(uri)), kind, cell(&row, class))?;
            for (language, preferred, other, description) in &columns {
                self.label(id, language, cell(&row, Some(*preferred)), true);
                for text in cell(&row, Some(*other)).split('|') {
                    self.label(id, language, text, false);
                }
                self.describe(id, language, cell(&row, *description));
            }
        }
        Ok(())
    }

    /// Rows of `Level 0 URI`, `Level 0 preferred term`, `Level 1 URI`, …; the deepest level that is
    /// filled is the row's group. Its description is left: some downloads have it in English.
    fn read_hierarchy(&mut self, table: &mut Table, language: &str) -> Result<(), TaxonomyError> {
        let mut levels = vec![hierarchy_level(table, 0)?];
        while table.column(&format!("Level {} URI", levels.len())).is_some() {
            levels.push(hierarchy_level(table, levels.len())?);
        }
        while let Some(row) = table.read_row()? {
            let mut above: Option<&str> = None;
            for (uri, term, code) in &levels {
                let uri = cell(&row, Some(*uri));
                if uri.is_empty() {
                    break;
                }
                let id = self.concept(table, uri, ConceptKind::Group, cell(&row, *code))?;
                self.label(id, language, cell(&row, Some(*term)), true);
                if let Some(above) = above {
                    let (from, to) = (uri.to_owned(), above.to_owned());
                    self.relations.push(Relation { from, kind: BROADER.to_owned(), to });
                }
                above = Some(uri);
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

    /// Keeps the first description of a concept in a language.
    fn describe(&mut self, concept: usize, language: &str, text: &str) {
        let wanted = self.languages.is_empty() || self.languages.iter().any(|wanted| wanted == language);
        if !text.is_empty() && wanted && self.described.insert((concept, language.to_owned())) {
            self.loaded.descriptions.push(Description {
                uri: self.loaded.concepts[concept].uri.clone(),
                language: language.to_owned(),
                text: text.to_owned(),
            });
        }
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
        // Without a label in a wanted language nobody could show them.
        self.loaded.concepts.retain(|concept| !concept.labels.is_empty());
        self.relate()?;
        if self.loaded.concepts.is_empty() {
            let shown: Vec<&str> = folders.iter().flatten().map(|file| file.shown.as_str()).collect();
            let searched = if shown.is_empty() { "the folders".to_owned() } else { shown.join(", ") };
            return Err(TaxonomyError::Empty { searched, expected: EXPECTED });
        }
        Ok(self.loaded)
    }

    /// Keeps the relations and descriptions of the concepts, which must stand in no cycle.
    fn relate(&mut self) -> Result<(), TaxonomyError> {
        let mut relations = std::mem::take(&mut self.relations);
        relations.sort_by(|left, right| {
            (&left.from, &left.kind, &left.to).cmp(&(&right.from, &right.kind, &right.to))
        });
        // The folders of two languages hold the same relations.
        relations.dedup();
        let distinct = relations.len();
        let concepts = &self.loaded.concepts;
        let kept: HashSet<&str> = concepts.iter().map(|concept| concept.uri.as_str()).collect();
        relations
            .retain(|relation| [&relation.from, &relation.to].iter().all(|uri| kept.contains(uri.as_str())));
        self.loaded.skipped_relations = distinct - relations.len();
        relations.extend(isco_groups(concepts, &relations, &kept));
        self.loaded.descriptions.retain(|description| kept.contains(description.uri.as_str()));
        let broader = relations.iter().filter(|relation| relation.kind == BROADER);
        if let Some(turn) = cycle(broader.map(|relation| (relation.from.as_str(), relation.to.as_str()))) {
            return Err(TaxonomyError::Cycle { cycle: shown(&turn) });
        }
        self.loaded.relations = relations;
        Ok(())
    }
}

/// Relations of occupations to the ISCO group that is their class, where the tables name nothing
/// above them: those below another occupation have the group through it.
fn isco_groups(concepts: &[Concept], relations: &[Relation], kept: &HashSet<&str>) -> Vec<Relation> {
    let broader = relations.iter().filter(|relation| relation.kind == BROADER);
    let below: HashSet<&str> = broader.map(|relation| relation.from.as_str()).collect();
    let mut found = Vec::new();
    for concept in concepts.iter().filter(|concept| concept.kind == ConceptKind::Occupation) {
        let code = concept.class.strip_prefix('C').unwrap_or(&concept.class);
        let to = format!("{ISCO_GROUP}{code}");
        if !below.contains(concept.uri.as_str()) && kept.contains(to.as_str()) {
            found.push(Relation { from: concept.uri.clone(), kind: BROADER.to_owned(), to });
        }
    }
    found
}

/// Columns of a level of the hierarchy: URI, label and code.
fn hierarchy_level(table: &Table, level: usize) -> Result<(usize, usize, Option<usize>), TaxonomyError> {
    let uri = table.needed(&format!("Level {level} URI"))?;
    let term = table.needed(&format!("Level {level} preferred term"))?;
    Ok((uri, term, table.column(&format!("Level {level} code"))))
}

fn class_column(table: &Table, kind: ConceptKind) -> Option<usize> {
    table.column(match kind {
        ConceptKind::Skill => "skillType",
        ConceptKind::Occupation => "iscoGroup",
        ConceptKind::Group => "code",
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
