//! Enhancement without a language model: canonical names, duplicates, and what the lexicon says is
//! implied.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use crate::{
    domain::{
        posting::Document,
        skill::{Citation, EnhancedSkill, Maker, Mention},
        taxonomy::Concept,
    },
    lexicon::{Entry, Implication, Lexicon},
    taxonomy::Taxonomy,
    text::tokens,
};

/// Raised with every change of these rules.
const RULES: u32 = 4;
/// An implied skill below this confidence is left out: what is less likely than not (a choice).
pub(super) const REPORTED: f32 = 0.5;

/// Changes with the rules, the lexicon and the taxonomy.
pub(crate) fn version(taxonomy: Option<&Taxonomy>, lexicon: &Lexicon) -> String {
    let taxonomy = taxonomy.map(|taxonomy| format!("+{}@{}", taxonomy.name(), taxonomy.version()));
    format!("rules-{RULES}+{}{}", &lexicon.digest()[..16], taxonomy.unwrap_or_default())
}

/// Normalises, deduplicates and completes the mentions of one posting.
///
/// The first `mentions.len()` skills stand for the mentions, in order; a mention that repeats a
/// surer or earlier one points at it by `duplicate_of` and says why. The implicit skills follow:
/// each with its reason, none equal to an explicit one.
pub fn enhance(mentions: &[Mention], taxonomy: Option<&Taxonomy>, lexicon: &Lexicon) -> Vec<EnhancedSkill> {
    let skills = mentions.iter().map(|mention| normalised(mention, lexicon)).collect();
    completed(skills, Vec::new(), taxonomy, lexicon)
}

/// Takes out the implicit skills of which people said that their wording does not imply them;
/// returns how many.
pub(crate) fn drop_refused(skills: &mut Vec<EnhancedSkill>, document: &Document, lexicon: &Lexicon) -> u64 {
    let before = skills.len();
    skills.retain(|skill| {
        skill.explicit || !lexicon.rulings().refuse(&skill.citation.text(document), &skill.normalized_skill)
    });
    (before - skills.len()) as u64
}

/// Folds the explicit `skills`, and adds the implicit ones: what was `inferred` elsewhere and what
/// the lexicon says, the surer reason of each.
pub(super) fn completed(
    mut skills: Vec<EnhancedSkill>,
    inferred: Vec<EnhancedSkill>,
    taxonomy: Option<&Taxonomy>,
    lexicon: &Lexicon,
) -> Vec<EnhancedSkill> {
    fold_duplicates(&mut skills);
    let implied = implied(&skills, inferred, taxonomy, lexicon);
    skills.extend(implied);
    skills
}

/// A mention under its canonical name.
pub(super) fn normalised(mention: &Mention, lexicon: &Lexicon) -> EnhancedSkill {
    let entry = lexicon.find(&mention.label);
    EnhancedSkill {
        original_skill_text: Some(mention.surface.clone()),
        normalized_skill: entry.map_or_else(|| mention.label.clone(), |entry| entry.label.clone()),
        explicit: true,
        kind: entry.map_or(mention.kind, |entry| entry.kind),
        category: entry.map_or_else(|| mention.category.clone(), |entry| entry.category.clone()),
        esco_concept_uri: mention.uri.clone(),
        esco_preferred_label: mention.preferred_label.clone(),
        confidence: mention.confidence,
        reasoning: None,
        duplicate_of: None,
        maker: Maker::Rules,
        citation: Citation::from(mention),
    }
}

/// Points every skill but the surest at that one, by name. Skills that share a concept stay apart:
/// taxonomies know one concept for many names (Scrum and Kanban, SEO and SEM), and the spellings
/// and translations of one name are forms of one entry.
fn fold_duplicates(skills: &mut [EnhancedSkill]) {
    let mut order: Vec<usize> = (0..skills.len()).collect();
    // Ties go to the earlier mention, which a reader meets first.
    order.sort_by(|left, right| surer(&skills[*left], &skills[*right]).then(left.cmp(right)));
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for index in order {
        // In the order of confidence the first of a name is the surest.
        let original = *by_name.entry(name_key(&skills[index])).or_insert(index);
        if original != index {
            let reason = format!("names the same skill as \"{}\"", skills[original].normalized_skill);
            skills[index].duplicate_of = Some(original);
            skills[index].reasoning = Some(reason);
        }
    }
}

fn name_key(skill: &EnhancedSkill) -> String {
    tokens::key(&skill.normalized_skill)
}

fn surer(left: &EnhancedSkill, right: &EnhancedSkill) -> Ordering {
    right.confidence.total_cmp(&left.confidence)
}

/// Skills that follow from the explicit ones, one step of the lexicon's implications after the
/// other; the confidence shrinks with every step.
fn implied(
    skills: &[EnhancedSkill],
    inferred: Vec<EnhancedSkill>,
    taxonomy: Option<&Taxonomy>,
    lexicon: &Lexicon,
) -> Vec<EnhancedSkill> {
    let mut by_skill: HashMap<&str, Vec<&Implication>> = HashMap::new();
    for implication in lexicon.implications() {
        by_skill.entry(&implication.skill).or_default().push(implication);
    }
    // A duplicate implies nothing that its original does not.
    let distinct = skills.iter().filter(|skill| skill.duplicate_of.is_none());
    let mut best: Vec<EnhancedSkill> = Vec::new();
    let mut open: Vec<(String, f32, Citation)> =
        distinct.map(|skill| (skill.normalized_skill.clone(), skill.confidence, skill.citation)).collect();
    let explicit: HashSet<String> = skills.iter().map(name_key).collect();
    for skill in inferred.into_iter().filter(|skill| !explicit.contains(&name_key(skill))) {
        keep(&mut best, skill);
    }
    // Ends on circles too: a skill is followed again only when it took the place of a less sure
    // inference.
    while let Some((name, confidence, citation)) = open.pop() {
        for implication in by_skill.get(name.as_str()).into_iter().flatten() {
            let confidence = confidence * implication.confidence;
            // What begins the chain stands in the text.
            let from = (confidence, citation);
            let Some(skill) = follow(implication, from, taxonomy, lexicon) else { continue };
            if !explicit.contains(&name_key(&skill)) && keep(&mut best, skill) {
                open.push((implication.implies.clone(), confidence, citation));
            }
        }
    }
    // The place in the list makes the id of a row, so it must not depend on the order of the
    // mentions.
    best.sort_by(|left, right| {
        surer(left, right).then_with(|| left.normalized_skill.cmp(&right.normalized_skill))
    });
    best
}

fn follow(
    implication: &Implication,
    (confidence, citation): (f32, Citation),
    taxonomy: Option<&Taxonomy>,
    lexicon: &Lexicon,
) -> Option<EnhancedSkill> {
    let entry = lexicon.find(&implication.implies).filter(|_| confidence >= REPORTED)?;
    let concept = concept(&entry.label, Some(entry), taxonomy);
    Some(EnhancedSkill {
        original_skill_text: None,
        normalized_skill: entry.label.clone(),
        explicit: false,
        kind: entry.kind,
        category: entry.category.clone(),
        esco_concept_uri: entry.concept_uri(taxonomy),
        esco_preferred_label: concept.and_then(|concept| concept.preferred_label("es")).map(str::to_owned),
        confidence,
        reasoning: Some(format!("{} {} {}", implication.skill, implication.relation, implication.implies)),
        duplicate_of: None,
        maker: Maker::Rules,
        citation,
    })
}

/// The concept of a name: its entry's, or the one that bears the name.
pub(super) fn concept<'a>(
    label: &str,
    entry: Option<&Entry>,
    taxonomy: Option<&'a Taxonomy>,
) -> Option<&'a Concept> {
    let taxonomy = taxonomy?;
    match entry {
        // The lexicon may link to a concept that the taxonomy in use does not hold.
        Some(entry) => taxonomy.concept(&entry.concept_uri(Some(taxonomy))?),
        None => taxonomy.named(label),
    }
}

/// Adds a skill, or lets it replace a less sure inference of the same one.
fn keep(best: &mut Vec<EnhancedSkill>, skill: EnhancedSkill) -> bool {
    match best.iter_mut().find(|other| other.normalized_skill == skill.normalized_skill) {
        Some(other) => {
            // Ties go to the reason that sorts first, so the order of mentions decides nothing.
            let better = skill.confidence > other.confidence
                || (skill.confidence == other.confidence
                    && (&skill.reasoning, skill.citation) < (&other.reasoning, other.citation));
            if better {
                *other = skill;
            }
            better
        }
        None => {
            best.push(skill);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{posting::Field, skill::Method, skill::SkillKind};

    fn mention(label: &str, confidence: f32, uri: Option<&str>) -> Mention {
        Mention {
            label: label.to_owned(),
            surface: label.to_lowercase(),
            kind: SkillKind::Hard,
            category: "technology".to_owned(),
            place: None,
            methods: vec![Method::Lexicon],
            confidence,
            section: "body".to_owned(),
            field: Field::Description,
            start: 0,
            end: 1,
            uri: uri.map(str::to_owned),
            preferred_label: None,
        }
    }

    fn summary(mentions: &[Mention]) -> Vec<String> {
        enhance(mentions, None, shipped())
            .iter()
            .map(|skill| {
                let mark = match (skill.explicit, skill.duplicate_of) {
                    (true, Some(original)) => format!("={original}"),
                    (true, None) => String::new(),
                    (false, _) => format!(" < {}", skill.reasoning.as_deref().unwrap_or_default()),
                };
                format!("{}{mark}", skill.normalized_skill)
            })
            .collect()
    }

    #[test]
    fn normalises_folds_and_infers() {
        for (mentions, expected) in [
            (
                vec![mention("ReactJS", 0.8, None), mention("react", 0.9, None)],
                vec!["React=1", "React", "JavaScript < React requires JavaScript"],
            ),
            (
                vec![mention("React", 0.9, None), mention("JavaScript", 0.4, None)],
                vec!["React", "JavaScript"],
            ),
            (
                vec![mention("Una cosa", 0.5, Some("t:1")), mention("Otra cosa", 0.6, Some("t:1"))],
                vec!["Una cosa", "Otra cosa"],
            ),
            (vec![mention("Django", 0.9, None)], vec!["Django", "Python < Django is built on Python"]),
            (vec![mention("React", 0.3, None)], vec!["React"]),
            (vec![], vec![]),
        ] {
            assert_eq!(summary(&mentions), expected);
        }
    }

    fn shipped() -> &'static Lexicon {
        static LEXICON: std::sync::OnceLock<Lexicon> = std::sync::OnceLock::new();
        LEXICON.get_or_init(|| Lexicon::built_in().unwrap())
    }

    proptest! {
        #[test]
        fn explicit_skills_stay_in_order_and_are_not_inferred_again(
            picks in prop::collection::vec((0_usize..400, 0.3_f32..1.0), 0..12),
        ) {
            let lexicon = shipped();
            let mentions: Vec<Mention> = picks
                .iter()
                .map(|(pick, confidence)| mention(&lexicon.entries()[*pick].label, *confidence, None))
                .collect();
            let skills = enhance(&mentions, None, lexicon);
            let (explicit, implicit) = skills.split_at(mentions.len());
            for (skill, mention) in explicit.iter().zip(&mentions) {
                prop_assert_eq!(&skill.normalized_skill, &mention.label);
                if let Some(original) = skill.duplicate_of {
                    prop_assert_eq!(explicit[original].duplicate_of, None);
                }
            }
            for skill in implicit {
                prop_assert!(skill.reasoning.is_some() && !skill.explicit);
                prop_assert!(!explicit.iter().any(|other| other.normalized_skill == skill.normalized_skill));
            }
            let mut turned = mentions.clone();
            turned.reverse();
            prop_assert_eq!(&enhance(&turned, None, lexicon)[mentions.len()..], implicit);
        }
    }
}
