//! What people decided about wordings.
//!
//! A subject is a folded wording, or `WORDING > SKILL` for what a wording implies: a verdict on one
//! posting holds for all.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::{domain::verdict::Ruling, text::tokens};

/// The rulings in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rulings {
    by_subject: HashMap<String, Ruling>,
    digest: String,
}

/// The subject of a wording.
pub(crate) fn subject(wording: &str) -> String {
    tokens::key(wording)
}

/// The subject of what a wording implies.
pub(crate) fn implication(wording: &str, skill: &str) -> String {
    format!("{} > {}", tokens::key(wording), tokens::key(skill))
}

impl Rulings {
    /// The rulings by subject, in any order.
    pub(crate) fn new(mut rulings: Vec<(String, Ruling)>) -> Self {
        rulings.sort_by(|left, right| left.0.cmp(&right.0));
        let mut hash = Sha256::new();
        for ruling in &rulings {
            hash.update(format!("{ruling:?}\n"));
        }
        Self { digest: hex::encode(hash.finalize()), by_subject: rulings.into_iter().collect() }
    }

    /// Changes with the rulings.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// What holds for a wording.
    pub(crate) fn on(&self, wording: &str) -> Option<&Ruling> {
        // Nearly every installation has none, and folding costs.
        if self.is_empty() { None } else { self.by_subject.get(&subject(wording)) }
    }

    /// Returns whether a person said that a wording does not imply a skill.
    pub(crate) fn refuse(&self, wording: &str, skill: &str) -> bool {
        !self.is_empty() && self.by_subject.get(&implication(wording, skill)) == Some(&Ruling::NotImplied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rulings_hold_for_every_spelling_and_change_the_digest() {
        let means = |label: &str| Ruling::Means { label: label.to_owned(), uri: None };
        let one = ("redes".to_owned(), means("Redes sociales"));
        let two = (implication("React", "JavaScript"), Ruling::NotImplied);
        let rulings = Rulings::new(vec![one.clone(), two.clone()]);
        assert_eq!(rulings.on(" REDES "), Some(&means("Redes sociales")));
        assert_eq!(rulings.on("red"), None);
        assert!(rulings.refuse("react", "javascript") && !rulings.refuse("react", "CSS"));
        assert_eq!(rulings.digest(), Rulings::new(vec![two, one.clone()]).digest());
        assert_ne!(rulings.digest(), Rulings::new(vec![one]).digest());
    }
}
