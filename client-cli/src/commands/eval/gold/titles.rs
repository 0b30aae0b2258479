//! Job titles and the occupations they mean, as the MELO benchmark has them (Retyk et al. 2024): a
//! folder of `queries.tsv`, `annotations.tsv`, `corpus_elements.tsv` and `concept_mapping.tsv`.
//!
//! The corpus holds names of occupations ("elements"), several of one concept; a query is annotated
//! with every element of the right concept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::commands::lines;

/// The titles and the corpus.
#[derive(Debug)]
pub(in crate::commands::eval) struct Titles {
    /// What is linked.
    pub(in crate::commands::eval) queries: Vec<Query>,
    /// URI of the concept of each element.
    pub(in crate::commands::eval) concepts: Vec<String>,
    /// Elements by the key of their name.
    by_name: HashMap<String, Vec<usize>>,
}

/// A title with the elements that are right.
#[derive(Debug)]
pub(in crate::commands::eval) struct Query {
    /// Its id in the benchmark.
    pub(in crate::commands::eval) id: String,
    /// The title.
    pub(in crate::commands::eval) text: String,
    /// Indexes of elements.
    pub(in crate::commands::eval) relevant: BTreeSet<usize>,
}

impl Titles {
    /// The element of this name and concept; none if it is not in the corpus.
    pub(in crate::commands::eval) fn element(&self, name: &str, uri: &str) -> Option<usize> {
        let named = self.by_name.get(&name_key(name))?;
        named.iter().copied().find(|element| self.concepts[*element] == clean_uri(uri))
    }

    /// Reads the folder. Titles without annotation are left out: nothing is right for them.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the files contradict each other.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        let mut known = HashMap::new();
        for [element, uri] in rows(folder, "concept_mapping.tsv")? {
            known.insert(element, clean_uri(&uri));
        }
        let (mut concepts, mut by_name) = (Vec::new(), HashMap::<String, Vec<usize>>::new());
        let mut elements = HashMap::new();
        for [element, name] in rows(folder, "corpus_elements.tsv")? {
            let Some(uri) = known.get(&element) else {
                bail!("{shown}: corpus element `{element}` has no concept in concept_mapping.tsv")
            };
            by_name.entry(name_key(&name)).or_default().push(concepts.len());
            elements.insert(element, concepts.len());
            concepts.push(uri.clone());
        }
        let mut queries = BTreeMap::new();
        for [id, text] in rows(folder, "queries.tsv")? {
            let query = Query { id: id.clone(), text, relevant: BTreeSet::new() };
            if queries.insert(id.clone(), query).is_some() {
                bail!("{shown}: query `{id}` stands twice in queries.tsv");
            }
        }
        for [id, _, element, grade] in rows(folder, "annotations.tsv")? {
            let (Some(query), Some(element)) = (queries.get_mut(&id), elements.get(&element)) else {
                bail!("{shown}: the annotation {id} {element} is of no query or no corpus element")
            };
            if grade != "0" {
                query.relevant.insert(*element);
            }
        }
        let queries: Vec<Query> = queries.into_values().filter(|query| !query.relevant.is_empty()).collect();
        if queries.is_empty() {
            bail!("{shown}: no title has an annotation");
        }
        Ok(Self { queries, concepts, by_name })
    }
}

/// The file of a folder, plain or `.gz`.
fn file(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

/// True if a folder has the form of the benchmark.
pub(super) fn is_titles(folder: &Path) -> bool {
    ["queries.tsv", "annotations.tsv"].iter().all(|name| file(folder, name).is_some())
}

/// The rows of a file without header, each with as many cells as are wanted.
fn rows<const N: usize>(folder: &Path, name: &str) -> anyhow::Result<Vec<[String; N]>> {
    let path = file(folder, name).with_context(|| format!("{}: {name} is missing", folder.display()))?;
    let mut found = Vec::new();
    for line in lines::read(&path)? {
        let cells: Vec<String> = line.text.split('\t').map(|cell| cell.trim().to_owned()).collect();
        let count = cells.len();
        let cells = <[String; N]>::try_from(cells);
        let cells = cells.map_err(|_| {
            anyhow::anyhow!("{}:{}: expected {N} cells, found {count}", path.display(), line.number)
        })?;
        found.push(cells);
    }
    Ok(found)
}

/// Key of a name: case and the width of blanks do not matter, accents and punctuation do.
pub(in crate::commands::eval) fn name_key(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A URI as it is compared: `http` for `https`, without a slash at the end.
pub(in crate::commands::eval) fn clean_uri(uri: &str) -> String {
    let uri = uri.trim().trim_end_matches('/');
    uri.strip_prefix("https://").map_or_else(|| uri.to_owned(), |rest| format!("http://{rest}"))
}
