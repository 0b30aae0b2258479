//! The content of a file of an ESCO download, by its name.
//!
//! Hides the spellings in which such names arrive: case, region, packing, second downloads.

use crate::domain::taxonomy::ConceptKind;

/// Content of a file of an ESCO folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// Concepts in one language.
    Concepts {
        /// Their kind.
        kind: ConceptKind,
        /// What the name says.
        language: Option<String>,
    },
    /// Concepts in English and Spanish.
    Merged {
        /// Their kind.
        kind: ConceptKind,
    },
    /// Groups of skills, each row with all that are above one.
    Hierarchy {
        /// What the name says.
        language: Option<String>,
    },
    /// Which concept is above which.
    Broader,
    /// Skills of occupations.
    OccupationSkills,
    /// Skills of skills.
    SkillSkills,
}

/// A language without its region: `es` of `es-419`.
pub(super) fn base(language: &str) -> String {
    language.trim().to_lowercase().split(['-', '_']).next().unwrap_or_default().to_owned()
}

/// The content of a file by its name.
pub(super) fn content(name: &str) -> Option<Content> {
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
        "skillgroups" | "iscogroups" => Some(ConceptKind::Group),
        _ => first.ends_with("skillscollection").then_some(ConceptKind::Skill),
    };
    let language = rest.map(base).filter(|language| (2..=3).contains(&language.len()));
    match (first, kind, rest) {
        ("skills" | "occupations", Some(kind), Some("en_es")) => Some(Content::Merged { kind }),
        (_, Some(kind), _) => Some(Content::Concepts { kind, language }),
        ("skillshierarchy", ..) => Some(Content::Hierarchy { language }),
        ("broaderrelationsskillpillar" | "broaderrelationsoccpillar", ..) => Some(Content::Broader),
        ("occupationskillrelations", ..) => Some(Content::OccupationSkills),
        ("skillskillrelations", ..) => Some(Content::SkillSkills),
        _ => None,
    }
}
