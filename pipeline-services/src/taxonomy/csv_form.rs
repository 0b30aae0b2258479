//! The project's own taxonomy file: one label a row, `uri,kind,class,language,label,preferred`, and
//! where wanted `broader` and `description`.
//!
//! For taxonomies that are published in no form the program knows. Rows of a concept may stand
//! anywhere in the file; a mistake is named with its line.

use std::collections::{HashMap, HashSet, hash_map};

use csv::StringRecord;

use super::{
    Loaded, Source, TaxonomyError,
    esco::Table,
    hierarchy::{cycle, shown},
};
use crate::domain::taxonomy::{BROADER, Concept, ConceptKind, Description, Label, Relation};

const COLUMNS: [&str; 6] = ["uri", "kind", "class", "language", "label", "preferred"];
/// Columns that a file may lack.
const OPTIONAL: [&str; 2] = ["broader", "description"];

/// Reads a file, plain or `.gz`.
///
/// # Errors
/// If the file cannot be read, a column is missing, a value is not allowed, rows contradict each
/// other or concepts are above each other in a cycle; the error names file and line.
pub(crate) fn read(source: &Source) -> Result<Loaded, TaxonomyError> {
    let mut table = Table::open(source)?;
    let columns = Columns::of(&table)?;
    let mut contents = Contents::default();
    while let Some(record) = table.read_row()? {
        let line = table.line();
        let added = columns.row(&record).and_then(|row| contents.add(&row, line));
        added.map_err(|problem| table.error(line, problem))?;
    }
    if contents.loaded.concepts.is_empty() {
        return Err(TaxonomyError::Empty { searched: source.shown.clone(), expected: "one label a row" });
    }
    contents.finish().map_err(|(line, problem)| table.error(line, problem))
}

/// Places of the columns.
struct Columns {
    needed: [usize; COLUMNS.len()],
    optional: [Option<usize>; OPTIONAL.len()],
}

impl Columns {
    fn of(table: &Table) -> Result<Self, TaxonomyError> {
        let needed = COLUMNS.map(|name| table.column(name));
        if let Some((missing, _)) = COLUMNS.iter().zip(needed).find(|(_, column)| column.is_none()) {
            let (wanted, found) = (COLUMNS.join(","), table.header());
            let advice = match table.column("conceptUri") {
                Some(_) => "; this is a table of ESCO: import it with `taxonomy import esco`",
                None => "",
            };
            let problem = format!("no column `{missing}`; expected {wanted}; found {found}{advice}");
            return Err(table.error(1, problem));
        }
        let optional = OPTIONAL.map(|name| table.column(name));
        Ok(Self { needed: needed.map(Option::unwrap_or_default), optional })
    }

    /// Reads the cells of a row; the error says what is wrong with it.
    fn row<'a>(&self, record: &'a StringRecord) -> Result<Row<'a>, String> {
        let cell = |column: usize| record.get(column).unwrap_or_default().trim();
        let [uri, kind, class, language, label, preferred] = self.needed.map(cell);
        let [broader, description] = self.optional.map(|column| column.map_or("", cell));
        for (cell, name) in [(uri, "uri"), (language, "language"), (label, "label")] {
            if cell.is_empty() {
                return Err(format!("`{name}` is empty"));
            }
        }
        let kind = ConceptKind::of(kind)
            .ok_or_else(|| format!("invalid kind `{kind}`: expected skill, occupation or group"))?;
        let preferred = match preferred {
            "true" | "1" | "yes" => true,
            "false" | "0" | "no" | "" => false,
            other => return Err(format!("invalid preferred `{other}`: expected true or false")),
        };
        Ok(Row { uri, kind, class, language, label, preferred, broader, description })
    }
}

/// A row of the file.
struct Row<'a> {
    uri: &'a str,
    kind: ConceptKind,
    class: &'a str,
    language: &'a str,
    label: &'a str,
    preferred: bool,
    /// URIs of the concepts above it, separated by `|`.
    broader: &'a str,
    description: &'a str,
}

/// A text that a concept has once in a language, with its line.
type Unique = HashMap<(usize, String), (String, u64)>;

/// What was read so far, with the lines that later rows may contradict.
#[derive(Default)]
struct Contents {
    loaded: Loaded,
    /// Place and first line of each concept.
    known: HashMap<String, (usize, u64)>,
    preferred: Unique,
    descriptions: Unique,
    /// Line of each relation, which is kept once.
    relations: HashMap<(String, String), u64>,
}

impl Contents {
    /// Adds a row; the error says what is wrong with it.
    fn add(&mut self, row: &Row<'_>, line: u64) -> Result<(), String> {
        let index = self.concept(row, line)?;
        if row.preferred {
            once(&mut self.preferred, (index, row.language), (row.label, line), "preferred label")?;
        }
        if !row.description.is_empty() {
            let text = (row.description, line);
            if once(&mut self.descriptions, (index, row.language), text, "description")? {
                self.loaded.descriptions.push(Description {
                    uri: row.uri.to_owned(),
                    language: row.language.to_owned(),
                    text: row.description.to_owned(),
                });
            }
        }
        for above in row.broader.split('|').map(str::trim).filter(|above| !above.is_empty()) {
            let edge = (row.uri.to_owned(), above.to_owned());
            if let hash_map::Entry::Vacant(place) = self.relations.entry(edge) {
                place.insert(line);
                let (from, to) = (row.uri.to_owned(), above.to_owned());
                self.loaded.relations.push(Relation { from, kind: BROADER.to_owned(), to });
            }
        }
        let (language, text) = (row.language.to_owned(), row.label.to_owned());
        let label = Label { language, text, preferred: row.preferred };
        self.loaded.concepts[index].labels.push(label);
        Ok(())
    }

    /// The place of a row's concept.
    fn concept(&mut self, row: &Row<'_>, line: u64) -> Result<usize, String> {
        let fresh = self.loaded.concepts.len();
        let (index, first) = *self.known.entry(row.uri.to_owned()).or_insert((fresh, line));
        if index == fresh {
            let (uri, class) = (row.uri.to_owned(), row.class.to_owned());
            self.loaded.concepts.push(Concept { uri, kind: row.kind, class, labels: Vec::new() });
        }
        let known = &mut self.loaded.concepts[index];
        let contradiction = |what: &str, own: &str, other: &str| {
            Err(format!("`{}` has the {what} `{own}`, and `{other}` in line {first}", row.uri))
        };
        if known.kind != row.kind {
            return contradiction("kind", row.kind.name(), known.kind.name());
        }
        if known.class.is_empty() {
            row.class.clone_into(&mut known.class);
        } else if !row.class.is_empty() && row.class != known.class {
            return contradiction("class", row.class, &known.class);
        }
        Ok(index)
    }

    /// The contents, if every concept above another one is there and none is above itself.
    fn finish(self) -> Result<Loaded, (u64, String)> {
        let line = |relation: &Relation| {
            self.relations.get(&(relation.from.clone(), relation.to.clone())).copied().unwrap_or(1)
        };
        let relations = &self.loaded.relations;
        if let Some(lost) = relations.iter().find(|relation| !self.known.contains_key(&relation.to)) {
            return Err((line(lost), format!("broader `{}` is not the uri of a row", lost.to)));
        }
        let edges = relations.iter().map(|relation| (relation.from.as_str(), relation.to.as_str()));
        if let Some(turn) = cycle(edges) {
            let pairs: HashSet<(&str, &str)> = turn.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let part = |relation: &&Relation| pairs.contains(&(relation.from.as_str(), relation.to.as_str()));
            let first = relations.iter().filter(part).map(line).min().unwrap_or(1);
            return Err((first, TaxonomyError::Cycle { cycle: shown(&turn) }.to_string()));
        }
        Ok(self.loaded)
    }
}

/// Notes a text that a concept may have once in a language; false if it is noted already.
fn once(
    seen: &mut Unique,
    (concept, language): (usize, &str),
    (text, line): (&str, u64),
    what: &str,
) -> Result<bool, String> {
    match seen.entry((concept, language.to_owned())) {
        hash_map::Entry::Vacant(place) => {
            place.insert((text.to_owned(), line));
            Ok(true)
        }
        hash_map::Entry::Occupied(known) if known.get().0 == text => Ok(false),
        hash_map::Entry::Occupied(known) => {
            Err(format!("a second {what} in `{language}`; the first is in line {}", known.get().1))
        }
    }
}

#[cfg(test)]
mod tests;
