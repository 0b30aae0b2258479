//! A taxonomy in memory: concepts by URI and by name, and linking to them.
//!
//! Concepts are found by preferred labels; alternative ones count only where they resemble one,
//! since taxonomies list narrower and neighbouring things there.

pub(crate) mod csv_form;
pub(crate) mod difference;
pub(crate) mod esco;
mod hierarchy;
mod linking;
mod occupation;
mod ranking;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub(crate) use occupation::Ranked;
pub(crate) use ranking::{Linked, Nearness, Occupations, Sought};

use crate::{
    domain::taxonomy::{Concept, ConceptKind, Description, Label, Relation},
    lexicon::Titles,
    text::{
        tokens::{self, Tokens},
        trie::{Inflection, Match, Trie},
    },
};
use observatory_linking::Index;
use occupation::Meaning;

/// Names that look like a concept's label and mean something else: `SPARK` is ESCO's name for a
/// dialect of Ada, advertisements mean Apache Spark. A choice.
const FALSE_FRIENDS: [&str; 3] = ["spark", "salt", "chef"];

/// Ordinary words that are also labels of concepts; they name no skill in an advertisement. A
/// choice.
const GENERIC: [&str; 58] = [
    "analisis",
    "arte",
    "ofertas de empleo",
    "oferta de empleo",
    "base",
    "calidad",
    "campo",
    "ciencia",
    "cliente",
    "clientes",
    "comercio",
    "comunicacion",
    "cultura",
    "deporte",
    "deportes",
    "desarrollo",
    "diseno",
    "educacion",
    "empresa",
    "energia",
    "equipo",
    "estilo",
    "formacion",
    "gestion",
    "historia",
    "humor",
    "idiomas",
    "informacion",
    "ingenieria",
    "materiales",
    "mercado",
    "moda",
    "modelo",
    "moldes",
    "musica",
    "plantas",
    "politica",
    "producto",
    "productos",
    "proyecto",
    "salud",
    "seguridad",
    "servicio",
    "sistema",
    "tecnologia",
    "tecnologias",
    "business",
    "communication",
    "customer",
    "design",
    "development",
    "education",
    "health",
    "management",
    "products",
    "service",
    "technology",
    "work",
];

/// Yield of a reader of taxonomy files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// Concepts in order of first appearance.
    pub concepts: Vec<Concept>,
    /// Relations between these concepts.
    pub relations: Vec<Relation>,
    /// Descriptions of these concepts.
    pub descriptions: Vec<Description>,
    /// Relations left out because an end is not among the concepts.
    pub skipped_relations: usize,
}

/// A file of a taxonomy.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its name, which says what it holds.
    pub name: String,
    /// Path of its bytes.
    pub path: PathBuf,
    /// Name by which its owner knows it.
    pub shown: String,
}

impl Source {
    /// A file that is known by its path.
    pub(crate) fn at(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, path: path.to_owned(), shown: path.display().to_string() }
    }
}

/// A file that cannot be read as a taxonomy.
#[derive(Debug, thiserror::Error)]
pub enum TaxonomyError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which one.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A row is wrong.
    #[error("{path}:{line}: {problem}")]
    Row {
        /// Which file.
        path: String,
        /// Line, from 1.
        line: u64,
        /// The mistake, and the values that are allowed.
        problem: String,
    },
    /// Concepts stand above each other in a circle.
    #[error("broader relations form a cycle: {cycle}")]
    Cycle {
        /// URIs from a concept up to itself.
        cycle: String,
    },
    /// A language that was asked for is not there.
    #[error("no label in `{wanted}`; the files hold {found}")]
    Language {
        /// Which one.
        wanted: String,
        /// Those that are.
        found: String,
    },
    /// Nothing was found.
    #[error("no concept in {searched}; expected {expected}")]
    Empty {
        /// The place that was searched.
        searched: String,
        /// The content that was expected there.
        expected: &'static str,
    },
}

/// A label of a skill concept found in a text.
#[derive(Debug, Clone, Copy)]
pub struct Found<'taxonomy> {
    /// First word.
    pub first: usize,
    /// One past the last word.
    pub end: usize,
    /// The concept.
    pub concept: &'taxonomy Concept,
    /// True if a preferred label was found.
    pub preferred: bool,
}

/// Concepts and their names.
#[derive(Debug)]
pub struct Taxonomy {
    name: String,
    version: String,
    concepts: Vec<Concept>,
    by_uri: HashMap<String, u32>,
    // Of ISCO: ranked and never linked.
    groups: HashMap<String, u32>,
    // Preferred labels of skill concepts, folded; `None` where several concepts bear one.
    names: HashMap<String, Option<u32>>,
    skills: Trie,
    wordings: Index,
    // Built when occupations are first ranked: extraction does without.
    occupation_wordings: OnceLock<Index>,
    occupations: occupation::Index,
}

impl Taxonomy {
    /// Indexes skills and occupations; of two concepts with one URI the first stays. Groups are
    /// left out, since nothing may be linked to them, but for those of ISCO, which are ranked among
    /// the occupations.
    pub fn new(name: impl Into<String>, version: impl Into<String>, concepts: Vec<Concept>) -> Self {
        let mut taxonomy = Self {
            name: name.into(),
            version: version.into(),
            concepts: Vec::with_capacity(concepts.len()),
            by_uri: HashMap::with_capacity(concepts.len()),
            groups: HashMap::new(),
            names: HashMap::new(),
            skills: Trie::default(),
            wordings: Index::default(),
            occupation_wordings: OnceLock::new(),
            occupations: occupation::Index::default(),
        };
        concepts.into_iter().for_each(|concept| taxonomy.add(concept));
        taxonomy.occupations.weigh();
        taxonomy.wordings = taxonomy.skill_wordings();
        taxonomy
    }

    fn add(&mut self, concept: Concept) {
        let id = self.concepts.len() as u32;
        if self.by_uri.contains_key(&concept.uri) {
            return;
        }
        match concept.kind {
            ConceptKind::Skill => self.add_skill(&concept, id),
            ConceptKind::Occupation => self.occupations.add(&concept, id),
            ConceptKind::Group if concept.is_isco_group() => {
                self.groups.insert(concept.uri.clone(), id);
                return self.concepts.push(concept);
            }
            ConceptKind::Group => return,
        }
        self.by_uri.insert(concept.uri.clone(), id);
        self.concepts.push(concept);
    }

    fn add_skill(&mut self, concept: &Concept, id: u32) {
        let preferred: Vec<(&str, String)> = concept
            .labels
            .iter()
            .filter(|label| label.preferred)
            .map(|label| (label.language.as_str(), tokens::key(&label.text)))
            .collect();
        for label in &concept.labels {
            let tokens = Tokens::new(&label.text);
            if tokens.is_empty() {
                continue;
            }
            let key = tokens.key();
            if findable(&key, label, &concept.class, &preferred) {
                let inflection = if tokens.len() > 1 { Inflection::Agreement } else { Inflection::Exact };
                // Both facts in one number, since a phrase of the trie carries no more.
                self.skills.insert_tokens(&tokens, inflection, id * 2 + u32::from(label.preferred));
            }
            if label.preferred {
                // One concept may bear a name in two languages, which leaves it unambiguous.
                let bearer = self.names.entry(key).or_insert(Some(id));
                *bearer = bearer.filter(|other| *other == id);
            }
        }
    }

    /// The taxonomy's name, e.g. `esco`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The concept of a URI.
    pub fn concept(&self, uri: &str) -> Option<&Concept> {
        self.by_uri.get(uri).map(|id| &self.concepts[*id as usize])
    }

    /// The skill concept that bears this name as a preferred label: nothing where several do, or
    /// where the name means something else in advertisements. An alternative label proves nothing,
    /// since taxonomies list narrower, broader and neighbouring things there (`tensorflow` under
    /// computer vision, `capacidad organizativa` under organisational resilience).
    pub fn named(&self, name: &str) -> Option<&Concept> {
        let key = tokens::key(name);
        let id = (*self.names.get(&key)?)?;
        (!FALSE_FRIENDS.contains(&key.as_str())).then(|| &self.concepts[id as usize])
    }

    /// Every label of a skill concept that stands in the text.
    pub fn find(&self, tokens: &Tokens<'_>) -> Vec<Found<'_>> {
        self.skills.find(tokens).into_iter().map(|found| self.found(&found)).collect()
    }

    /// A match by its payload: the concept's place, and whether the label is a preferred one.
    fn found(&self, found: &Match) -> Found<'_> {
        Found {
            first: found.first,
            end: found.end,
            concept: &self.concepts[(found.payload / 2) as usize],
            preferred: found.payload % 2 == 1,
        }
    }

    /// The occupation of a job title, or `None` where the best candidate is not clearly right. Of
    /// `titles`, which stand above the labels, those count whose concept the taxonomy holds.
    pub fn occupation(&self, title: &str, titles: &Titles) -> Option<Ranked<'_>> {
        self.occupations
            .decide(title, &|key: &str| self.listed(titles, key))
            .map(|(id, score)| Ranked { concept: &self.concepts[id as usize], score })
    }

    /// The meaning of a listed title; none where its concept is not of this taxonomy.
    fn listed(&self, titles: &Titles, key: &str) -> Option<Meaning> {
        let found = titles.get(key)?;
        let concept = match &found.uri {
            Some(uri) => Some(*self.by_uri.get(uri)?),
            None => None,
        };
        Some(Meaning { concept, extends: found.extends, english: found.english })
    }
}

/// Returns whether a label may be searched for in running text. Alternative labels are often
/// narrower or vaguer than their concept, so they must resemble a preferred label of their
/// language.
fn findable(key: &str, label: &Label, class: &str, preferred: &[(&str, String)]) -> bool {
    if FALSE_FRIENDS.contains(&key) || GENERIC.contains(&key) {
        return false;
    }
    let keys = || preferred.iter().map(|(_, key)| key.as_str());
    match key.split(' ').count() {
        1 => key.len() >= 3 && class == "knowledge" && (label.preferred || shares_word(key, keys())),
        2..=8 => label.preferred || resembles(key, &label.language, preferred),
        _ => false,
    }
}

/// Share of common words (Jaccard) from which an alternative label is taken for another wording.
/// Not tuned.
const RESEMBLANCE: f32 = 0.4;

/// Another wording of a preferred label. One that only leaves words out is broader than its concept
/// ("trabajar en equipo" for "trabajar en equipo en la industria textil").
fn resembles(key: &str, language: &str, preferred: &[(&str, String)]) -> bool {
    let words: Vec<&str> = key.split(' ').collect();
    preferred.iter().filter(|(other, _)| *other == language).any(|(_, other)| {
        let all = other.split(' ').count() + words.len();
        let common = other.split(' ').filter(|word| words.contains(word)).count();
        common < words.len() && common as f32 / (all - common) as f32 >= RESEMBLANCE
    })
}

fn shares_word<'a>(key: &str, mut preferred: impl Iterator<Item = &'a str>) -> bool {
    preferred.any(|other| {
        // Short words are mostly prepositions, which any two labels share.
        other.split(' ').any(|word| (word.len() > 3 || word == key) && key.split(' ').any(|own| own == word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skill(uri: &str, class: &str, preferred: &[(&str, &str)], other: &[(&str, &str)]) -> Concept {
        let label = |preferred: bool| {
            move |(language, text): &(&str, &str)| Label {
                language: (*language).to_owned(),
                text: (*text).to_owned(),
                preferred,
            }
        };
        Concept {
            uri: uri.to_owned(),
            kind: ConceptKind::Skill,
            class: class.to_owned(),
            labels: preferred.iter().map(label(true)).chain(other.iter().map(label(false))).collect(),
        }
    }

    fn taxonomy() -> Taxonomy {
        let concepts = vec![
            skill("t:sql", "knowledge", &[("en", "SQL"), ("es", "SQL")], &[]),
            skill("t:vision", "knowledge", &[("en", "computer vision")], &[("en", "tensorflow")]),
            skill("t:spark", "knowledge", &[("en", "SPARK")], &[]),
            skill("t:a", "skill/competence", &[("es", "cuidar plantas")], &[("es", "jardinería doméstica")]),
            skill("t:c", "knowledge", &[("es", "riego")], &[]),
            skill("t:d", "knowledge", &[("es", "Riego")], &[]),
            skill("t:b", "skill/competence", &[("es", "regar plantas")], &[("es", "jardinería doméstica")]),
        ];
        Taxonomy::new("own", "1", concepts)
    }

    #[test]
    fn links_names_with_guards() {
        let taxonomy = taxonomy();
        for (name, expected) in [
            ("sql", Some("t:sql")),
            ("TensorFlow", None),
            ("Spark", None),
            ("jardineria domestica", None),
            ("Cuidar Plantas", Some("t:a")),
            ("riego", None),
            ("", None),
        ] {
            assert_eq!(taxonomy.named(name).map(|concept| concept.uri.as_str()), expected, "{name}");
        }
    }

    #[test]
    fn nothing_is_linked_to_a_group() {
        let mut group = skill("t:group", "S1", &[("es", "cuidar animales"), ("en", "SQL")], &[]);
        group.kind = ConceptKind::Group;
        let sql = skill("t:sql", "knowledge", &[("en", "SQL")], &[]);
        let taxonomy = Taxonomy::new("own", "1", vec![group, sql]);
        assert!(taxonomy.named("cuidar animales").is_none() && taxonomy.concept("t:group").is_none());
        assert_eq!(taxonomy.named("SQL").map(|concept| concept.uri.as_str()), Some("t:sql"));
        let found = taxonomy.find(&Tokens::new("cuidar animales y SQL")).len();
        assert_eq!(found, 1);
    }

    #[test]
    fn finds_labels() {
        let taxonomy = taxonomy();
        let tokens = Tokens::new("Se busca quien sepa cuidar plantas y SQL, no spark");
        let found: Vec<_> = taxonomy.find(&tokens).iter().map(|found| found.concept.uri.clone()).collect();
        assert_eq!(found, ["t:a", "t:sql"]);
    }

    #[test]
    fn a_hundred_thousand_labels_index_quickly() {
        let concepts = (0..10_000)
            .map(|id| {
                let labels: Vec<String> =
                    (0..10).map(|n| format!("operar máquina tipo{id} serie{n}")).collect();
                let labels: Vec<(&str, &str)> = labels.iter().map(|text| ("es", text.as_str())).collect();
                skill(&format!("t:{id}"), "skill/competence", &labels[..1], &labels[1..])
            })
            .collect();
        let taxonomy = Taxonomy::new("own", "1", concepts);
        assert_eq!(taxonomy.named("operar maquina tipo77 serie0").unwrap().uri, "t:77");
    }
}
