use super::*;
use crate::{domain::taxonomy::Label, lexicon::Lexicon};

const COMMUNICATION: &str = "http://data.europa.eu/esco/skill/15d76317-c71a-4fa2-aadc-2ecc34e627b7";

/// Language, text, and whether it is preferred.
type Named = (&'static str, &'static str, bool);

fn taxonomy() -> Taxonomy {
    let rows: [(&str, ConceptKind, &[Named]); 5] = [
        (COMMUNICATION, ConceptKind::Skill, &[("es", "comunicación", true)]),
        ("t:data", ConceptKind::Skill, &[("es", "gestionar bases de datos", true), ("es", "SQL", false)]),
        ("t:design", ConceptKind::Skill, &[("es", "diseñar bases de datos", true)]),
        ("t:twin", ConceptKind::Skill, &[("en", "diseñar bases de datos", true)]),
        ("t:cook", ConceptKind::Occupation, &[("es", "cocinero/cocinera", true), ("en", "cook", true)]),
    ];
    let concept = |(uri, kind, labels): (&str, ConceptKind, &[Named])| Concept {
        uri: uri.to_owned(),
        kind,
        class: String::new(),
        labels: labels
            .iter()
            .map(|(language, text, preferred)| Label {
                language: (*language).to_owned(),
                text: (*text).to_owned(),
                preferred: *preferred,
            })
            .collect(),
    };
    Taxonomy::new("own", "1", rows.into_iter().map(concept).collect())
}

#[test]
fn only_what_names_one_concept_is_linked() {
    let taxonomy = taxonomy();
    for (wording, expected) in [
        ("Comunicación efectiva", Some(COMMUNICATION)),
        ("gestión de la base de datos", Some("t:data")),
        ("SQL", None),
        ("diseño de bases de datos", None),
        ("mantenimiento de bases de datos", None),
        ("cocinero", None),
        ("", None),
    ] {
        assert_eq!(taxonomy.link(wording).map(|concept| concept.uri.as_str()), expected, "{wording}");
    }
}

#[test]
fn rankings_hold_concepts_or_their_labels() {
    let (taxonomy, lexicon) = (taxonomy(), Lexicon::built_in().unwrap());
    let coder = Coder::built_in().unwrap();
    let occupations = Occupations { titles: lexicon.titles(), coder: &coder };
    let ranked = |kind, text, surface| {
        let ranked = taxonomy.ranked(Sought { kind, text, near: &Nearness::new() }, occupations, 3, surface);
        let uris = ranked.iter().map(|linked| linked.concept.uri.clone()).collect::<Vec<_>>();
        (uris, Taxonomy::is_clear(&ranked))
    };
    let (skills, clear) = ranked(ConceptKind::Skill, "gestión de bases de datos", false);
    assert_eq!((skills[0].as_str(), clear), ("t:data", true));
    assert_eq!(skills.len(), 3);
    let (labels, _) = ranked(ConceptKind::Skill, "comunicación efectiva", true);
    assert_eq!(labels[0], COMMUNICATION);
    assert_eq!(labels.iter().filter(|uri| *uri == COMMUNICATION).count(), 1, "phrases are no labels");
    assert!(!ranked(ConceptKind::Skill, "bases", false).1);
    assert_eq!(ranked(ConceptKind::Occupation, "COCINERA", false), (vec!["t:cook".to_owned()], true));
    assert_eq!(ranked(ConceptKind::Occupation, "astronauta", true), (vec![], false));
}

#[test]
fn occupations_are_ranked_by_the_unit_group_of_the_title() {
    let concept = |uri: &str, kind, class: &str, label: &str| Concept {
        uri: uri.to_owned(),
        kind,
        class: class.to_owned(),
        labels: vec![Label { language: "es".to_owned(), text: label.to_owned(), preferred: true }],
    };
    let group = "http://data.europa.eu/esco/isco/C2221";
    let taxonomy = Taxonomy::new(
        "own",
        "1",
        vec![
            concept("o:cook", ConceptKind::Occupation, "5120", "jefe de partida"),
            concept("o:nurse", ConceptKind::Occupation, "2221", "cuidador titulado"),
            concept(group, ConceptKind::Group, "2221", "Profesionales de enfermería"),
            concept("g:0", ConceptKind::Group, "0913", "Enfermería"),
        ],
    );
    let (lexicon, coder) = (Lexicon::built_in().unwrap(), Coder::built_in().unwrap());
    let occupations = Occupations { titles: lexicon.titles(), coder: &coder };
    let ranked = |near: &Nearness| {
        let sought = Sought { kind: ConceptKind::Occupation, text: "Enfermero", near };
        let ranked = taxonomy.ranked(sought, occupations, 3, true);
        assert!(ranked.iter().all(|linked| (0.0..=1.0).contains(&linked.score)), "{ranked:?}");
        ranked.iter().map(|linked| linked.concept.uri.as_str()).collect::<Vec<_>>()
    };
    // No name of the nurse is like the title. A group of skills is no target.
    assert_eq!(ranked(&Nearness::new()), [group, "o:nurse"]);
    let near = |uri: &str| Nearness::from([(uri.to_owned(), 0.9), ("o:unknown".to_owned(), 1.0)]);
    assert_eq!(ranked(&near("o:nurse")), ["o:nurse", group]);
    assert_eq!(ranked(&near(group)), [group, "o:nurse"]);
    // Neither its names nor its unit group say so.
    assert_eq!(ranked(&near("o:cook"))[0], "o:cook");
}
