//! The lexicon: skills by name, the spellings under which advertisements mention them, and what
//! they imply.
//!
//! Tab-separated files, one skill a line: `label kind category es en flags uri`. `es` and `en` hold
//! further forms separated by `|`. A form may start with `=` (its case must match) and `?` (it
//! counts only near other evidence); the flags `case` and `context` say the same of the label.
//! `implies.tsv` holds `skill implies relation confidence`, `occupations.tsv` titles of
//! occupations. The set is built in; a directory of such files replaces it.

mod load;
mod rows;
mod rulings;
mod titles;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use sha2::{Digest, Sha256};

pub(crate) use rows::LexiconError;
pub(crate) use rulings::{Rulings, implication, subject};
pub(crate) use titles::Titles;

use crate::{
    domain::{skill::SkillKind, taxonomy::Concept},
    text::tokens,
};

/// Categories a skill may have.
pub(crate) const CATEGORIES: [&str; 9] = [
    "technology",
    "tool",
    "knowledge",
    "competence",
    "method",
    "certification",
    "language",
    "licence",
    "soft",
];

/// One spelling of a skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The words.
    pub text: String,
    /// The text must have this case.
    pub case: bool,
    /// The form is an ordinary word too and counts only near other evidence.
    pub context: bool,
}

/// A skill of the lexicon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Canonical name.
    pub label: String,
    /// Hard or soft.
    pub kind: SkillKind,
    /// One of [`CATEGORIES`].
    pub category: String,
    /// Every spelling, the label first.
    pub forms: Vec<Form>,
    /// Its link to a taxonomy.
    pub link: Link,
}

/// Link of an entry to a taxonomy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Link {
    /// To the concept that bears the entry's own label as a preferred one, if any does.
    #[default]
    ByLabel,
    /// To the concept of this URI, which was chosen by hand.
    Concept(String),
    /// To none: somebody looked, and no concept means the same.
    Nothing,
}

impl Entry {
    /// Returns whether the names are fixed (products, standards), so that they do not inflect.
    pub fn is_name(&self) -> bool {
        matches!(self.category.as_str(), "technology" | "tool" | "certification" | "language")
    }
}

/// A skill that another one implies.
#[derive(Debug, Clone, PartialEq)]
pub struct Implication {
    /// Label of the skill that is named.
    pub skill: String,
    /// Label of the skill that follows.
    pub implies: String,
    /// Relation of the two, for the reader: "{skill} {relation} {implies}".
    pub relation: String,
    /// 0..1: how surely the second follows from the first.
    pub confidence: f32,
}

/// Skills by name.
#[derive(Debug, Clone)]
pub struct Lexicon {
    entries: Vec<Entry>,
    implications: Vec<Implication>,
    titles: Titles,
    /// The concepts that the files' hands chose, with the labels the files give them.
    concepts: Vec<Concept>,
    by_form: HashMap<String, usize>,
    digest: String,
    rulings: Rulings,
}

const BUILT_IN: [(&str, &str); 10] = [
    ("concepts.tsv", include_str!("../lexicon/concepts.tsv")),
    ("certification.tsv", include_str!("../lexicon/certification.tsv")),
    ("digital.tsv", include_str!("../lexicon/digital.tsv")),
    ("implies.tsv", include_str!("../lexicon/implies.tsv")),
    ("language.tsv", include_str!("../lexicon/language.tsv")),
    ("occupational.tsv", include_str!("../lexicon/occupational.tsv")),
    ("occupations.tsv", include_str!("../lexicon/occupations.tsv")),
    ("soft.tsv", include_str!("../lexicon/soft.tsv")),
    ("technology.tsv", include_str!("../lexicon/technology.tsv")),
    ("tool.tsv", include_str!("../lexicon/tool.tsv")),
];

impl Lexicon {
    /// The lexicon that ships.
    ///
    /// # Errors
    /// If the shipped files are inconsistent; a test keeps that from happening.
    pub fn built_in() -> Result<Self, LexiconError> {
        load::parse(&BUILT_IN.map(|(name, text)| (name.to_owned(), text.to_owned())))
    }

    /// The `.tsv` files of a directory, read in order of their names.
    ///
    /// # Errors
    /// If the directory cannot be read, holds no entry, or a line is wrong; the error names file,
    /// line and column.
    pub fn from_dir(dir: &Path) -> Result<Self, LexiconError> {
        load::parse(&load::read_dir(dir)?)
    }

    /// Every concept that an entry or a title is linked to by hand, once, with the preferred labels
    /// that the files name: a small taxonomy for installations without one.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// Every entry.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every implication.
    pub fn implications(&self) -> &[Implication] {
        &self.implications
    }

    /// Titles of occupations.
    pub fn titles(&self) -> &Titles {
        &self.titles
    }

    /// The entry that has this label or form, whatever the case and the accents.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.by_form.get(&tokens::key(name)).map(|index| &self.entries[*index])
    }

    /// Every word of every form, folded.
    pub fn words(&self) -> BTreeSet<String> {
        let forms = self.entries.iter().flat_map(|entry| &entry.forms);
        forms
            .flat_map(|form| tokens::key(&form.text).split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// The same lexicon with what people decided about wordings; its digest changes with that.
    #[must_use]
    pub(crate) fn ruled(&self, rulings: Rulings) -> Self {
        let digest = match rulings.is_empty() {
            true => self.digest.clone(),
            false => hex::encode(Sha256::digest(format!("{}+{}", self.digest, rulings.digest()))),
        };
        Self { digest, rulings, ..self.clone() }
    }

    /// What people decided about wordings.
    pub(crate) fn rulings(&self) -> &Rulings {
        &self.rulings
    }

    /// SHA-256 of the files, hexadecimal: the lexicon's version.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_lexicon_is_consistent() {
        let lexicon = Lexicon::built_in().unwrap();
        assert!(lexicon.entries().len() >= 1_500, "{}", lexicon.entries().len());
        assert_eq!(lexicon.find("reactjs").unwrap().label, "React");
        assert_eq!(lexicon.find("INGLES").unwrap().label, "Inglés");
        assert_eq!(lexicon.digest().len(), 64);
        assert_eq!(lexicon.ruled(Rulings::default()).digest(), lexicon.digest());
        assert!(lexicon.find("c").unwrap().forms[0].context);
    }

    #[test]
    fn a_directory_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("own.tsv"),
            "label\tkind\tcategory\tes\ten\tflags\turi\nQuesería\thard\tknowledge\tqueso artesanal\n",
        )
        .unwrap();
        let lexicon = Lexicon::from_dir(dir.path()).unwrap();
        assert_eq!(lexicon.entries().len(), 1);
        assert_eq!(lexicon.find("Queso Artesanal").unwrap().label, "Quesería");
    }
}
