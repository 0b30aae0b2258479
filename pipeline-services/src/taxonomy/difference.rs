//! What is different between two taxonomies, concept by concept.
//!
//! Concepts are the same where their URIs are. The differences of two taxonomies in the other order
//! are the same ones with before and after exchanged, and a taxonomy has none from itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::taxonomy::{Concept, ConceptKind, Label};

/// How a concept is different, in the order in which differences are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// The concept is new.
    Added,
    /// The concept is gone.
    Removed,
    /// It has another preferred label in a language.
    Renamed,
    /// It has one more label.
    LabelAdded,
    /// It has one label less.
    LabelRemoved,
    /// It is of another kind.
    KindChanged,
    /// It is of another class.
    ClassChanged,
    /// Other concepts are above it.
    Moved,
}

/// Every change in its order.
pub(crate) const CHANGES: [Change; 8] = [
    Change::Added,
    Change::Removed,
    Change::Renamed,
    Change::LabelAdded,
    Change::LabelRemoved,
    Change::KindChanged,
    Change::ClassChanged,
    Change::Moved,
];

impl Change {
    /// Name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Renamed => "renamed",
            Self::LabelAdded => "label_added",
            Self::LabelRemoved => "label_removed",
            Self::KindChanged => "kind_changed",
            Self::ClassChanged => "class_changed",
            Self::Moved => "moved",
        }
    }
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Which one.
    pub change: Change,
    /// URI of the concept.
    pub uri: String,
    /// Its kind, the later one.
    pub kind: ConceptKind,
    /// Its preferred label, the later one.
    pub label: String,
    /// Language of the labels that are different.
    pub language: String,
    /// Labels, kinds, classes, or URIs of the concepts above it.
    pub before: Vec<String>,
    /// The same afterwards.
    pub after: Vec<String>,
}

/// The contents of a taxonomy that are compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    /// Every concept.
    pub concepts: Vec<Concept>,
    /// Pairs of a concept and the one above it.
    pub broader: Vec<(String, String)>,
}

/// The differences from `old` to `new`, ordered by change, URI, language and text.
pub(crate) fn differences(old: &Contents, new: &Contents) -> Vec<Difference> {
    let (before, after) = (by_uri(old), by_uri(new));
    let (above_before, above_after) = (above(old), above(new));
    let mut found = Vec::new();
    let uris: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    for uri in uris {
        match (before.get(uri), after.get(uri)) {
            (Some(old), Some(new)) => {
                compare(old, new, &mut found);
                let (before, after) = (parents(&above_before, uri), parents(&above_after, uri));
                found.extend(changed(Change::Moved, new, before, after));
            }
            (Some(old), None) => found.push(difference(Change::Removed, old)),
            (None, Some(new)) => found.push(difference(Change::Added, new)),
            (None, None) => {}
        }
    }
    // Stable: within a change the order above stays.
    found.sort_by_key(|difference| difference.change);
    found
}

fn by_uri(contents: &Contents) -> BTreeMap<&str, &Concept> {
    contents.concepts.iter().map(|concept| (concept.uri.as_str(), concept)).collect()
}

fn above(contents: &Contents) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut above: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in &contents.broader {
        above.entry(from).or_default().insert(to);
    }
    above
}

fn parents(above: &BTreeMap<&str, BTreeSet<&str>>, uri: &str) -> Vec<String> {
    above.get(uri).into_iter().flatten().map(|parent| (*parent).to_owned()).collect()
}

fn difference(change: Change, concept: &Concept) -> Difference {
    Difference {
        change,
        uri: concept.uri.clone(),
        kind: concept.kind,
        label: concept.preferred_label("es").unwrap_or_default().to_owned(),
        language: String::new(),
        before: Vec::new(),
        after: Vec::new(),
    }
}

fn changed(change: Change, new: &Concept, before: Vec<String>, after: Vec<String>) -> Option<Difference> {
    (before != after).then(|| Difference { before, after, ..difference(change, new) })
}

/// The differences of a concept that both have, apart from its place.
fn compare(old: &Concept, new: &Concept, found: &mut Vec<Difference>) {
    let languages: BTreeSet<&str> =
        old.labels.iter().chain(&new.labels).map(|label| label.language.as_str()).collect();
    for language in languages {
        labels(old, new, language, found);
    }
    let kinds = [old, new].map(|concept| vec![concept.kind.name().to_owned()]);
    let classes = [old, new].map(|concept| vec![concept.class.clone()]);
    for (change, [before, after]) in [(Change::KindChanged, kinds), (Change::ClassChanged, classes)] {
        found.extend(changed(change, new, before, after));
    }
}

/// The differences of the labels in a language. The two names of a renamed concept are no labels
/// that were added or removed.
fn labels(old: &Concept, new: &Concept, language: &str, found: &mut Vec<Difference>) {
    let (before, after) = (texts(old, language), texts(new, language));
    let (old_name, new_name) = (preferred(old, language), preferred(new, language));
    let renamed = match (old_name, new_name) {
        (Some(old), Some(new)) => old != new,
        // A label that only became the preferred one, or is no longer.
        (Some(name), None) => after.contains(name),
        (None, Some(name)) => before.contains(name),
        (None, None) => false,
    };
    let row = |change, before: Option<&str>, after: Option<&str>| Difference {
        language: language.to_owned(),
        before: before.into_iter().map(str::to_owned).collect(),
        after: after.into_iter().map(str::to_owned).collect(),
        ..difference(change, new)
    };
    if renamed {
        found.push(row(Change::Renamed, old_name, new_name));
    }
    let own = |text: &str, name: Option<&str>| !(renamed && name == Some(text));
    let added = after.difference(&before).filter(|text| own(text, new_name));
    found.extend(added.map(|text| row(Change::LabelAdded, None, Some(text))));
    let removed = before.difference(&after).filter(|text| own(text, old_name));
    found.extend(removed.map(|text| row(Change::LabelRemoved, Some(text), None)));
}

fn in_language<'a>(concept: &'a Concept, language: &str) -> impl Iterator<Item = &'a Label> {
    concept.labels.iter().filter(move |label| label.language == language)
}

fn texts<'a>(concept: &'a Concept, language: &str) -> BTreeSet<&'a str> {
    in_language(concept, language).map(|label| label.text.as_str()).collect()
}

/// The preferred label in a language; the first by its letters where a taxonomy holds several.
fn preferred<'a>(concept: &'a Concept, language: &str) -> Option<&'a str> {
    in_language(concept, language).filter(|label| label.preferred).map(|label| label.text.as_str()).min()
}

#[cfg(test)]
mod tests;
