use std::path::{Path, PathBuf};

use crate::{
    domain::taxonomy::{Concept, ConceptKind, Label},
    lexicon::{Lexicon, Titles},
    taxonomy::{Taxonomy, esco},
};

fn occupation(uri: &str, preferred: &str, english: &str, alternatives: &[&str]) -> Concept {
    let label = |language: &str, text: &str, preferred| Label {
        language: language.to_owned(),
        text: text.to_owned(),
        preferred,
    };
    let mut labels = vec![label("es", preferred, true), label("en", english, true)];
    labels.extend(alternatives.iter().map(|text| label("es", text, false)));
    Concept { uri: uri.to_owned(), kind: ConceptKind::Occupation, class: String::new(), labels }
}

/// Labels of our own in the manner of a classification, with its traps.
fn taxonomy() -> Taxonomy {
    let concepts = vec![
        occupation("o:lawyer", "abogado/abogada", "lawyer", &["jurista"]),
        occupation("o:corporate", "abogado de empresa/abogada de empresa", "corporate lawyer", &[]),
        occupation("o:cook", "cocinero/cocinera", "cook", &[]),
        occupation("o:kitchen", "ayudante de cocina", "kitchen assistant", &["ayudante", "jardinero"]),
        occupation("o:gardener", "jardinero/jardinera", "gardener", &[]),
        occupation("o:welder", "soldador/soldadora", "welder", &[]),
        occupation("o:solderer", "soldador de estaño/soldadora de estaño", "solderer", &["soldador"]),
        occupation("o:doctor", "médico/médica", "doctor", &[]),
        occupation("o:vet", "médico veterinario/médica veterinaria", "veterinarian", &["veterinario"]),
        occupation("o:reception", "recepcionista", "receptionist", &[]),
        occupation("o:secretary", "secretario/secretaria", "secretary", &["recepcionista"]),
        occupation("o:architect", "arquitecto/arquitecta", "architect", &[]),
        occupation("o:civil", "ingeniero civil/ingeniera civil", "civil engineer", &[]),
        occupation("o:hair", "peluquero/peluquera", "hairdresser", &[]),
        occupation("o:barber", "barbero/barbera", "barber", &["peluquero"]),
        occupation(
            "o:dev",
            "desarrollador de software/desarrolladora de software",
            "software developer",
            &[],
        ),
        occupation("o:data", "analista de datos", "data analyst", &[]),
        occupation("o:cost", "analista de costos", "cost analyst", &[]),
        occupation("o:electric", "electricista", "electrician", &[]),
        occupation("o:hr", "director de recursos humanos/directora de recursos humanos", "HR manager", &[]),
        occupation("o:blanching", "operario/operaria de blanqueo", "blanching operator", &[]),
        occupation("o:coding", "técnico/a de codificación", "clinical coder", &[]),
        occupation("o:tailor", "sastre", "tailor", &["costurera"]),
        occupation("o:machinist", "maquinista de confección", "sewing machinist", &["costurera"]),
        occupation("o:chief", "jefe", "chief", &[]),
    ];
    Taxonomy::new("own", "1", concepts)
}

fn check_with(titles: &Titles, cases: &[(&str, Option<&str>)]) {
    let taxonomy = taxonomy();
    for (title, expected) in cases {
        let found = taxonomy.occupation(title, titles).map(|ranked| ranked.concept.uri.as_str());
        assert_eq!(found, *expected, "{title}");
    }
}

fn check(cases: &[(&str, Option<&str>)]) {
    check_with(&Titles::default(), cases);
}

#[test]
fn bare_trades_in_both_genders() {
    check(&[
        ("Abogado", Some("o:lawyer")),
        ("ABOGADA", Some("o:lawyer")),
        ("Abogado de empresa", Some("o:corporate")),
        ("Cocinero", Some("o:cook")),
        ("Cocineras", Some("o:cook")),
        ("Jardinero", Some("o:gardener")),
        ("Soldadora", Some("o:welder")),
        ("Médico", Some("o:doctor")),
        ("Médica", Some("o:doctor")),
        ("Médico Veterinario", Some("o:vet")),
        ("Veterinaria", Some("o:vet")),
        ("Recepcionista", Some("o:reception")),
        ("Arquitecta", Some("o:architect")),
        ("Ingeniera Civil", Some("o:civil")),
        ("Peluquera", Some("o:hair")),
        ("Desarrolladora de Software", Some("o:dev")),
        ("Jefa", Some("o:chief")),
    ]);
}

#[test]
fn noise_around_the_title() {
    check(&[
        ("Desarrolladora de Software Sr.", Some("o:dev")),
        ("Analista de Datos Ssr - Zona Norte", Some("o:data")),
        ("ELECTRICISTA (turno noche)", Some("o:electric")),
        ("¡URGENTE! Se busca Cocinero/a con experiencia", Some("o:cook")),
        ("Importante empresa requiere soldadores para obra", Some("o:welder")),
        ("Recepcionista bilingüe - Medellín", Some("o:reception")),
        ("Recepcionista ABRAXAS GYM", Some("o:reception")),
        ("1290CC | Abogado/a Jr. | Presencial", Some("o:lawyer")),
        ("Arquitecto(a) H/M por temporada", Some("o:architect")),
        ("Oficial electricista", Some("o:electric")),
        ("Gomero / peluquero y barbero", Some("o:hair")),
        ("Senior Civil Engineer", Some("o:civil")),
        ("Lawyer (m/f/d)", Some("o:lawyer")),
        ("Ing. Civil", Some("o:civil")),
        ("Dir. de RR.HH.", Some("o:hr")),
    ]);
}

#[test]
fn titles_without_a_clear_occupation_stay_without() {
    check(&[
        ("Analista", None),
        ("Ejecutivo de cuentas", None),
        ("Jefe de planta", None),
        ("Se busca personal", None),
        ("Joven para tareas generales", None),
        ("Líder", None),
        ("Operario", None),
        ("Técnica", None),
        ("Costurera", None),
        ("Ayudante de soldador", None),
        ("Estudiante de abogacía", None),
        ("¡Sumate a nuestro equipo!", None),
        ("", None),
    ]);
}

#[test]
fn labels_with_one_tail_for_both_genders() {
    check(&[
        ("Operaria de blanqueo", Some("o:blanching")),
        ("Operario de blanqueo", Some("o:blanching")),
        ("Técnica de codificación", Some("o:coding")),
    ]);
}

#[test]
fn own_titles_stand_above_labels() {
    let header = "label\tkind\tcategory\nRust\thard\ttechnology\n";
    let titles = "label\turi\tes\ten\twhy\n\
        lawyer\tx://lawyer\tletrado\t\tnot in this taxonomy\n\
        \t\tjurista|ayudante|cocinero\t\tof what?\n";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("skills.tsv"),
        header.replace("category\n", "category\tes\ten\tflags\turi\n"),
    )
    .unwrap();
    std::fs::write(dir.path().join("occupations.tsv"), titles).unwrap();
    let lexicon = Lexicon::from_dir(dir.path()).unwrap();
    check_with(
        lexicon.titles(),
        &[
            ("Letrado", None),
            ("Jurista", None),
            ("Ayudante", None),
            ("Ayudante de cocina", Some("o:kitchen")),
            // A preferred label knows better than a title that is said to name nothing.
            ("Cocinero", Some("o:cook")),
        ],
    );
}

/// Titles of the shipped file against ESCO, which is not part of the repository.
#[test]
fn the_shipped_titles_name_concepts_of_esco() {
    let Some(data) = std::env::var_os("OBSERVATORY_TESTDATA") else {
        println!("skipped: OBSERVATORY_TESTDATA does not name a folder with esco-merged");
        return;
    };
    let loaded = esco::read(&[PathBuf::from(data).join("esco-merged")], &[]).unwrap();
    let taxonomy = Taxonomy::new("esco", "1", loaded.concepts);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("lexicon/occupations.tsv");
    let text = std::fs::read_to_string(file).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let label = taxonomy.concept(cells[1]).and_then(|concept| concept.preferred_label("en"));
        // The Spanish half is that of a later version than the table's.
        assert_eq!(label.unwrap_or_default(), cells[0].rsplit(" / ").next().unwrap_or_default(), "{line}");
    }
    let lexicon = Lexicon::built_in().unwrap();
    for (title, expected) in [
        ("Plomero", "plumber"),
        ("Mozos y mozas", "waiter/waitress"),
        ("Contadora Pública", "accountant"),
        ("Jefa de Recursos Humanos", "human resources manager"),
        ("Docente", "secondary school teacher"),
        ("Enfermero/a", "nurse responsible for general care"),
        ("Community Manager - Part Time", "online community manager"),
        ("Senior Python Developer", "software developer"),
        ("Clarkista con experiencia", "forklift operator"),
    ] {
        let found = taxonomy.occupation(title, lexicon.titles());
        assert_eq!(found.and_then(|found| found.concept.preferred_label("en")), Some(expected), "{title}");
    }
}
