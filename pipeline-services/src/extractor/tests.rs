use proptest::prelude::*;

use super::*;
use crate::domain::{
    skill::SkillKind,
    taxonomy::{Concept, ConceptKind, Label},
};

fn extractor(taxonomy: Option<Taxonomy>) -> Extractor {
    Extractor::new(
        Arc::new(Lexicon::built_in().unwrap()),
        Arc::new(Patterns::built_in().unwrap()),
        taxonomy.map(Arc::new),
    )
}

fn described(description: &str) -> Document {
    Document { description: description.to_owned(), ..Document::default() }
}

fn labels(extractor: &Extractor, text: &str) -> Vec<String> {
    extractor.extract(&described(text)).mentions.into_iter().map(|mention| mention.label).collect()
}

#[test]
fn finds_what_is_asked_for() {
    let extractor = extractor(None);
    for (text, expected) in [
        ("Manejo de Excel avanzado, SAP MM y Power BI.", vec!["Excel", "SAP MM", "Power BI"]),
        ("SQL Server, SQL y NoSQL", vec!["SQL Server", "SQL", "NoSQL"]),
        ("We go to market with a great team", vec![]),
        ("Lenguajes: Go, Rust y Python", vec!["Go", "Rust", "Python"]),
        ("Inglés B2 y trabajo en equipo", vec!["Inglés", "Trabajo en equipo"]),
        ("Conocer la norma ISO 9001:2015 e IRAM 301", vec!["ISO 9001", "IRAM 301"]),
        (
            "Conocimientos en telares circulares y tintura de lana.",
            vec!["Telares circulares", "Tintura de lana"],
        ),
        ("No se requiere experiencia en ventas.", vec![]),
        ("Licencia de conducción C2 vigente", vec!["Licencia de conducción C2"]),
        ("Experiencia en el rubro de 3 años", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(labels(&extractor, text), expected, "{text}");
    }
}

#[test]
fn benefits_count_less_than_requirements() {
    let extractor = extractor(None);
    let found = extractor.extract(&described("Requisitos: Excel.\nBeneficios: clases de Python y SQL"));
    let excel = &found.mentions[0];
    assert_eq!((excel.label.as_str(), excel.section.as_str()), ("Excel", "requirements"));
    assert!(found.mentions.iter().all(|mention| mention.label != "Python"));
    assert!(
        found
            .mentions
            .iter()
            .filter(|mention| mention.section == "benefits")
            .all(|mention| mention.confidence < 0.5)
    );
}

#[test]
fn the_taxonomy_adds_labels_and_links() {
    let concept = |uri: &str, kind, labels: [(&str, &str); 2]| Concept {
        uri: uri.to_owned(),
        kind,
        class: "knowledge".to_owned(),
        labels: labels
            .map(|(language, text)| Label { language: language.into(), text: text.into(), preferred: true })
            .to_vec(),
    };
    let concepts = vec![
        concept("t:1", ConceptKind::Skill, [("es", "quesería artesanal"), ("en", "artisan cheese making")]),
        concept("t:2", ConceptKind::Skill, [("es", "Python"), ("en", "Python")]),
        concept("o:1", ConceptKind::Occupation, [("es", "quesero/quesera"), ("en", "cheesemaker")]),
    ];
    let plain = extractor(None);
    let extractor = extractor(Some(Taxonomy::new("own", "1", concepts, &[])));
    assert_ne!(plain.version(), extractor.version());
    let found = extractor.extract(&Document {
        title: "Quesera".to_owned(),
        description: "Sabe de quesería artesanal y también de Python".to_owned(),
        ..Document::default()
    });
    assert_eq!(found.occupation.unwrap().uri, "o:1");
    let links: Vec<_> =
        found.mentions.iter().map(|mention| (mention.label.as_str(), mention.uri.as_deref())).collect();
    assert_eq!(links, [("quesería artesanal", Some("t:1")), ("Python", Some("t:2"))]);
    assert_eq!(found.mentions[1].methods, [Method::Lexicon, Method::Taxonomy]);
}

#[test]
fn a_tagger_adds_spans() {
    let extractor = extractor(None);
    let document = described("Domar dragones con SQL");
    let entity =
        |start, end| NerEntity { field: Field::Description, start, end, label: "skill".into(), score: 0.8 };
    let found = extractor.extract_with(&document, &[entity(0, 14), entity(19, 22), entity(90, 95)]);
    let summary: Vec<_> =
        found.mentions.iter().map(|mention| (mention.surface.as_str(), mention.methods.clone())).collect();
    assert_eq!(summary, [("Domar dragones", vec![Method::Ner]), ("SQL", vec![Method::Ner, Method::Lexicon])]);
}

fn sources() -> &'static Extractor {
    static EXTRACTOR: std::sync::OnceLock<Extractor> = std::sync::OnceLock::new();
    EXTRACTOR.get_or_init(|| extractor(None))
}

proptest! {
    #[test]
    fn spans_point_at_their_surface(
        title in "\\PC{0,20}",
        parts in prop::collection::vec(
            prop_oneof![
                "\\PC{0,8}".boxed(),
                prop::sample::select(vec![
                    "conocimientos en ", "SQL", "c++", "Go, ", "Requisitos: ", ". ", "inglés", "\n", "ISO 9001", "ñandú ",
                    "trabajo en equipo", "React.Experiencia en ", " y ", "no se requiere ", "😀 ", "Beneficios ",
                ]).prop_map(str::to_owned).boxed(),
            ],
            0..20,
        ),
    ) {
        let document = Document { title, description: parts.concat(), ..Document::default() };
        let found = sources().extract(&document);
        prop_assert_eq!(&found, &sources().extract(&document));
        let mut last = (Field::Title, 0);
        for mention in &found.mentions {
            let surface: String = document
                .field(mention.field)
                .chars()
                .skip(mention.start as usize)
                .take((mention.end - mention.start) as usize)
                .collect();
            prop_assert_eq!(&surface, &mention.surface);
            prop_assert!((mention.field, mention.start) >= last && mention.end > mention.start);
            prop_assert!((0.0..=1.0).contains(&mention.confidence));
            last = (mention.field, mention.end);
        }
    }
}

#[test]
fn soft_skills_are_soft() {
    let found = sources().extract(&described("Proactividad y liderazgo"));
    assert!(
        found.mentions.iter().all(|mention| mention.kind == SkillKind::Soft) && found.mentions.len() == 2
    );
}

/// On the real advertisements of `OBSERVATORY_TESTDATA`, where that folder is at hand.
#[test]
fn real_advertisements_keep_the_invariants() {
    let Some(root) = std::env::var_os("OBSERVATORY_TESTDATA") else {
        eprintln!("skipped: OBSERVATORY_TESTDATA is not set");
        return;
    };
    let path = std::path::Path::new(&root).join("ads-elempleo-co/ads_dev.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let (mut named, mut spanish) = (0, 0);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let cleaned = crate::cleaning::clean(value["description"].as_str().unwrap());
        assert_eq!(crate::cleaning::clean(&cleaned.text).text, cleaned.text);
        let document = Document {
            title: value["title"].as_str().unwrap().to_owned(),
            description: cleaned.text,
            country: Some("CO".to_owned()),
            ..Document::default()
        };
        let found = sources().extract(&document);
        spanish += usize::from(found.language == "es");
        named += usize::from(!found.mentions.is_empty());
        for mention in &found.mentions {
            let chars = document.field(mention.field).chars();
            let surface: String =
                chars.skip(mention.start as usize).take((mention.end - mention.start) as usize).collect();
            assert_eq!(surface, mention.surface);
        }
    }
    assert!(spanish * 10 >= text.lines().count() * 9, "{spanish} advertisements in Spanish only");
    assert!(named * 10 >= text.lines().count() * 8, "skills in {named} advertisements only");
}
