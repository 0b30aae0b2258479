use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        skill::SkillKind,
        taxonomy::{Concept, ConceptKind, Label},
    },
    lexicon::Rulings,
};

fn extractor(taxonomy: Option<Taxonomy>) -> Extractor {
    Extractor::new(
        Arc::new(Lexicon::built_in().unwrap()),
        Arc::new(Patterns::built_in().unwrap()),
        taxonomy.map(Arc::new),
    )
    .unwrap()
}

fn described(description: &str) -> Document {
    Document { description: description.to_owned(), ..Document::default() }
}

/// The names under which a text's skills are counted.
fn labels(extractor: &Extractor, text: &str) -> Vec<String> {
    extractor.extract(&described(text)).named().map(|mention| mention.label.clone()).collect()
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
        ("Excel, Word, Outlook, PowerPoint", vec!["Excel", "Word", "Outlook", "PowerPoint"]),
        (r"* C\+\+ * C\# * Node\.js", vec!["C++", "C#", "Node.js"]),
        ("", vec![]),
    ] {
        assert_eq!(labels(&extractor, text), expected, "{text}");
    }
}

/// Whatever is done to an advertisement, each mention lies where it says.
#[test]
fn damaged_advertisements_keep_their_spans() {
    let extractor = extractor(None);
    let corpus = [
        "Requisitos: 3 años de experiencia en Excel avanzado, SAP MM y Power BI; inglés B2 (excluyente).\nOfrecemos: capacitación.",
        "Responsabilidades:\n- Desarrollo en C++ / C# y Node.js\n* Conocimientos en tintura de lana y metodologías ágiles",
        "No se requiere experiencia en ventas. Licencia de conducción C2 vigente, norma ISO 9001:2015 e IRAM 301",
    ];
    observatory_mutator::texts("advertisements to extract from", &corpus, |text| {
        let characters: Vec<char> = text.chars().collect();
        for mention in extractor.extract(&described(text)).mentions {
            let span = mention.start as usize..mention.end as usize;
            let found: String = characters[span].iter().collect();
            assert_eq!(found, mention.surface);
        }
    });
}

/// Each line is what was once counted as a skill and is none, or was lost and is one; the kinds are
/// those of the masks.
#[test]
fn counts_what_is_asked_and_nothing_else() {
    for (text, expected) in [
        // Inflection makes no attitude of a duty, and an ordinary word is none.
        ("Sus responsabilidades serán atender la caja.", vec![]),
        ("Será responsable de la caja; establecer la responsabilidad de las partes", vec![]),
        ("Buscamos una persona con responsabilidad y compromiso", vec!["Responsabilidad", "Compromiso"]),
        ("Brindar una atención ágil y eficiente a personas ágiles", vec![]),
        ("Confección de planos, balances y planillas", vec![]),
        ("Confección de prendas y metodologías ágiles", vec!["Confección", "Metodologías ágiles"]),
        ("Manejo de sistema de gestión Tango", vec!["Tango Gestión"]),
        ("Trabajos puntuales. Asistir a visitantes. Clima laboral, estabilidad laboral.", vec![]),
        ("Título secundario, con analítico en mano", vec![]),
        // Company forms and addresses.
        ("Inversiones Andinas SAS requiere auxiliar contable con manejo de Excel.", vec!["Excel"]),
        ("Excel Servicios S.A. de C.V. solicita contador con SAP", vec!["SAP"]),
        ("Conocimientos en SPSS, SAS y Stata", vec!["SPSS", "SAS", "Stata"]),
        ("www.empresa.com.co, https://example.org, rh@react.com, python.mx", vec![]),
        ("ASP.NET y Node.js", vec!["ASP.NET", "Node.js"]),
        ("Liderazgo.Es indispensable Excel.Us", vec!["Liderazgo", "Excel"]),
        ("Facturación EPS, Autorizaciones IPS", vec![]),
        // Words of English and Portuguese.
        ("Ability to react quickly under pressure. You will excel at it.", vec![]),
        ("Experience with react, node and angular", vec!["React", "Node.js", "Angular"]),
        ("Sem experiência com nada, nas lojas, dos clientes", vec![]),
        // The law, degrees, sectors, positions.
        ("Tus datos se tratan en cumplimiento de la Ley 25.326 de protección de datos personales.", vec![]),
        ("Estudios en Administración de Empresas, Logística, Marketing o afines", vec![]),
        ("Estudiante de Contabilidad con manejo de Excel", vec!["Excel"]),
        ("Profesional en Economía, Finanzas. Conocimientos en finanzas", vec!["Finanzas"]),
        ("Experiencia en empresas de logística o rubro construcción", vec![]),
        ("Experiencia como analista de compras", vec![]),
        // What is negated, offered, or said of the employer.
        ("No se requiere SAP ni inglés. SQL no es necesario.", vec![]),
        ("No se requiere experiencia, manejo de Excel", vec!["Excel"]),
        ("Ofrecemos capacitación en Excel y Python, clases de inglés", vec![]),
        ("Te capacitamos en Java. We will train you in Go and SQL", vec![]),
        ("Somos una empresa líder en logística que busca personas con liderazgo", vec!["Liderazgo"]),
        ("Importante empresa de marketing digital se encuentra en la búsqueda de un chofer", vec![]),
        // A section ends with what belongs to it.
        (
            "Modalidad: presencial. Buscamos personas con habilidades de negociación, liderazgo y trabajo en equipo. Excel.",
            vec!["Negociación", "Liderazgo", "Trabajo en equipo", "Excel"],
        ),
        ("Modalidad Mixta | Part-Time\nOrientación a resultados", vec!["Orientación a resultados"]),
        (
            "Horario: lunes a viernes\nProactividad\nUbicación: Bogotá\nPuntualidad",
            vec!["Proactividad", "Puntualidad"],
        ),
        ("Ofrecemos: prepaga.\nRequerimos manejo de AutoCAD y liderazgo", vec!["AutoCAD", "Liderazgo"]),
        // Labels that share a concept, typing errors, lost line breaks.
        ("Scrum y Kanban; SEO y SEM", vec!["Scrum", "Kanban", "SEO", "SEM"]),
        (
            "exel, Exell avanzado, phyton, paquete officce",
            vec!["Excel", "Excel", "Python", "Microsoft Office"],
        ),
        (
            "Buena presenciaProactividadCapacidad de trabajo en equipoResidir cerca",
            vec!["Buena presencia", "Proactividad", "Trabajo en equipo"],
        ),
        // Phrases that introduce no skill.
        ("manejo de Excel y conocimientos en Analista", vec!["Excel"]),
        ("Experiencia en TUCUMAN y esperamos tu postulación", vec![]),
        ("Conocimientos de normas GMPNos orientamos, utilizando tecnologías modernas", vec![]),
    ] {
        assert_eq!(labels(sources(), text), expected, "{text}");
    }
}

/// Of real advertisements read by eye.
#[test]
fn phrases_end_with_their_clause_and_tools_have_their_own_name() {
    for (text, expected) in [
        ("Amplio conocimiento en direcciones desempeñándose en terreno", vec![]),
        ("Manejo de volúmenes importantes de dotación", vec![]),
        ("Conducir un equipo sólido y eficiente", vec![]),
        ("Manejo de guadaña", vec!["Guadaña"]),
    ] {
        assert_eq!(labels(sources(), text), expected, "{text}");
    }
}

#[test]
fn a_title_names_the_job() {
    for (title, expected) in [
        ("Ejecutivo de ventas", vec![]),
        ("Desarrollador Java", vec!["Java"]),
        ("Administrativa con manejo de redes sociales", vec!["Redes sociales"]),
    ] {
        let found = sources().extract(&Document { title: title.to_owned(), ..Document::default() });
        let labels: Vec<_> = found.mentions.into_iter().map(|mention| mention.label).collect();
        assert_eq!(labels, expected, "{title}");
    }
}

/// A word of three hundred letters is none.
#[test]
fn a_run_of_letters_is_no_skill() {
    let text = format!("conocimientos en {} industrial", "a".repeat(300));
    assert_eq!(labels(sources(), &text), Vec::<String>::new());
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
    let extractor = extractor(Some(Taxonomy::new("own", "1", concepts)));
    assert_ne!(plain.version(), extractor.version());
    let found = extractor.extract(&Document {
        title: "Quesera".to_owned(),
        description: "Sabe de quesería artesanal y también de Python".to_owned(),
        ..Document::default()
    });
    assert_eq!(found.occupation.unwrap().uri.as_deref(), Some("o:1"));
    let links: Vec<_> =
        found.mentions.iter().map(|mention| (mention.label.as_str(), mention.uri.as_deref())).collect();
    assert_eq!(links, [("quesería artesanal", Some("t:1")), ("Python", Some("t:2"))]);
    assert_eq!(found.mentions[1].methods, [Method::Lexicon, Method::Taxonomy, Method::Tagger]);
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
    assert_eq!(
        summary,
        [("Domar dragones", vec![Method::Ner]), ("SQL", vec![Method::Ner, Method::Lexicon, Method::Tagger])]
    );
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

#[test]
fn what_people_decided_about_a_wording_holds() {
    let means = |label: &str, uri: &str| Ruling::Means { label: label.to_owned(), uri: Some(uri.to_owned()) };
    let rulings = Rulings::new(vec![
        ("python".to_owned(), Ruling::NotASkill),
        ("rust".to_owned(), means("excel", "u:1")),
        ("tintura de lana".to_owned(), means("Teñido", "u:2")),
    ]);
    let lexicon = Lexicon::built_in().unwrap();
    let patterns = Arc::new(Patterns::built_in().unwrap());
    let ruled = Arc::new(lexicon.ruled(rulings));
    let ruled = Extractor::new(ruled, patterns, None).unwrap();
    let text = "Lenguajes: Go, RUST y Python. Conocimientos en telares circulares y tintura de lana.";
    assert_eq!(labels(&ruled, text), ["Go", "Excel", "Telares circulares", "Teñido"]);
    let found = ruled.extract(&described(text)).mentions;
    let uris: Vec<&str> = found.iter().filter_map(|mention| mention.uri.as_deref()).collect();
    assert!(uris.ends_with(&["u:1", "u:2"]), "{found:?}");
    assert_ne!(ruled.version(), extractor(None).version());
}
