//! How a candidate gets the concept that its words name.

use super::*;
use crate::domain::taxonomy::{Concept, ConceptKind, Label};

const DATABASE: &str = "t:database";
const MANAGE: &str = "t:manage";

fn taxonomy() -> Taxonomy {
    let concept = |(uri, text): (&str, &str)| Concept {
        uri: uri.to_owned(),
        kind: ConceptKind::Skill,
        class: String::new(),
        labels: vec![Label { language: "es".to_owned(), text: text.to_owned(), preferred: true }],
    };
    let rows =
        [(DATABASE, "bases de datos"), (MANAGE, "gestionar bases de datos"), ("t:team", "Trabajo en equipo")];
    Taxonomy::new("own", "1", rows.map(concept).to_vec())
}

/// A candidate with a name of the lexicon, or with the words that the tagger marked.
fn candidate(label: &str, category: &str, uri: Option<&str>, methods: &[Method]) -> Candidate {
    Candidate {
        first: 0,
        end: 1,
        label: Some(label.to_owned()),
        kind: SkillKind::Hard,
        category: category.to_owned(),
        mark: None,
        partial: false,
        methods: methods.to_vec(),
        confidence: 0.8,
        uri: uri.map(str::to_owned),
    }
}

#[test]
fn words_link_what_a_name_does_not() {
    let taxonomy = taxonomy();
    let source = Source::new(&Lexicon::built_in().unwrap(), Some(&taxonomy));
    let tagged = [Method::Tagger];
    let named = [Method::Lexicon, Method::Tagger];
    let part = |candidate: Candidate| Candidate { partial: true, ..candidate };
    let databases = || candidate("Bases de datos", "knowledge", Some(DATABASE), &named);
    for (given, surface, uri, label) in [
        // What the tagger alone knows gets a concept and its name, which may be one of the lexicon.
        (candidate("X", "competence", None, &tagged), "gestión de bases de datos", Some(MANAGE), None),
        (
            candidate("X", "soft", None, &tagged),
            "trabajos en equipos",
            Some("t:team"),
            Some("Trabajo en equipo"),
        ),
        (candidate("X", "competence", None, &tagged), "domar dragones", None, Some("X")),
        // A product keeps what it has, and so does a name that is all of the words.
        (candidate("SQL", "technology", None, &named), "bases de datos", None, Some("SQL")),
        (databases(), "Bases de Datos", Some(DATABASE), Some("Bases de datos")),
        // A part of the words yields to all of them.
        (part(databases()), "gestionar las bases de datos", Some(MANAGE), None),
        (part(databases()), "mantenimiento de bases de datos", None, Some("Bases de datos")),
    ] {
        let found = source.linked(given, surface, &taxonomy);
        assert_eq!((found.uri.as_deref(), found.label.as_deref()), (uri, label), "{surface}");
        let fresh = uri.is_some() && label != Some("Bases de datos");
        assert_eq!(found.methods.contains(&Method::Taxonomy), fresh, "{surface}");
    }
}
