//! What people decide about wordings.
//!
//! A verdict answers a question of a kind; what holds from then on is its ruling.

/// What holds for a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// The wording is no skill.
    NotASkill,
    /// The wording does not imply the skill.
    NotImplied,
    /// The wording is a skill of this name.
    Means {
        /// Its name.
        label: String,
        /// Its concept; none where no concept means the same.
        uri: Option<String>,
    },
}

impl Ruling {
    /// The ruling of a verdict on a find of a kind; nothing where it changes nothing.
    pub(crate) fn of(kind: &str, verdict: &str, (label, uri): (String, Option<String>)) -> Option<Self> {
        match (kind, verdict) {
            ("implied", "reject") => Some(Self::NotImplied),
            ("implied", _) => None,
            ("skill", "reject") => Some(Self::NotASkill),
            _ => Some(Self::Means { label, uri }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_verdict_means_depends_on_the_question() {
        let ruling = |kind, verdict| Ruling::of(kind, verdict, ("A".to_owned(), None));
        let means = Some(Ruling::Means { label: "A".to_owned(), uri: None });
        assert_eq!(ruling("skill", "reject"), Some(Ruling::NotASkill));
        assert_eq!(ruling("link", "reject"), means);
        assert_eq!(ruling("skill", "accept"), means);
        assert_eq!(ruling("implied", "reject"), Some(Ruling::NotImplied));
        assert_eq!(ruling("implied", "accept"), None);
    }
}
