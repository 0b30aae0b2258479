//! Links from the lexicon to the taxonomy in use.
//!
//! A concept is taken from a decision of the lexicon's files or from the entry's own label, never
//! from a further form: taxonomies list narrower and neighbouring things as alternative labels.

use super::Taxonomy;
use crate::lexicon::{Entry, Link};

impl Entry {
    /// URI of the concept that the entry stands for.
    pub fn concept_uri(&self, taxonomy: Option<&Taxonomy>) -> Option<String> {
        match &self.link {
            // Another taxonomy than the one it was chosen in may know the entry by its label.
            Link::Concept(uri) => {
                let other = taxonomy.filter(|taxonomy| taxonomy.concept(uri).is_none());
                let own = other.and_then(|taxonomy| taxonomy.named(&self.label));
                Some(own.map_or_else(|| uri.clone(), |concept| concept.uri.clone()))
            }
            Link::Nothing => None,
            Link::ByLabel => Some(taxonomy?.named(&self.label)?.uri.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::taxonomy::ConceptKind, lexicon::Lexicon};

    #[test]
    fn the_shipped_concepts_make_a_taxonomy() {
        let lexicon = Lexicon::built_in().unwrap();
        let taxonomy = Taxonomy::new("own", "1", lexicon.concepts().to_vec());
        for entry in lexicon.entries() {
            let Link::Concept(uri) = &entry.link else { continue };
            let concept = taxonomy.concept(uri).unwrap_or_else(|| panic!("{} has no concept", entry.label));
            assert!(concept.preferred_label("es").is_some_and(|label| label.len() > 1), "{concept:?}");
            assert_eq!(entry.concept_uri(Some(&taxonomy)).as_ref(), Some(uri), "{}", entry.label);
        }
        let count = |kind| lexicon.concepts().iter().filter(|concept| concept.kind == kind).count();
        assert!(count(ConceptKind::Skill) >= 200 && count(ConceptKind::Occupation) >= 400);
    }
}
