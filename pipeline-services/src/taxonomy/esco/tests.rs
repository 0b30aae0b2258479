use std::io::Write;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        if name.ends_with(".gz") {
            let file = fs::File::create(path).unwrap();
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            fs::write(path, text).unwrap();
        }
    }
    dir
}

#[test]
fn damaged_files_are_read_or_refused() {
    let corpus = [
        "conceptUri,skillType,preferredLabel,altLabels\nu:1,knowledge,cheese making,\"make cheese\ncheesecraft\"\nu:2,skill/competence,bake,\n",
        "conceptUri;skillType;preferredLabel;altLabels\nu:1;knowledge;quesería;hacer queso | elaborar queso\n",
    ];
    observatory_mutator::texts("skills of ESCO", &corpus, |text| {
        let relations = "occupationUri,relationType,skillType,skillUri\no:1,essential,knowledge,u:1\n";
        let dir = folder(&[("skills_en.csv", text), ("occupationSkillRelations.csv", relations)]);
        match read(&[dir.path().to_owned()], &[]) {
            Ok(loaded) => assert!(loaded.concepts.iter().all(|concept| !concept.uri.is_empty())),
            Err(problem) => assert!(problem.to_string().len() <= 4 * text.len() + 1_000),
        }
    });
}

#[test]
fn unites_languages_and_keeps_relations_between_concepts() {
    let english = folder(&[
        (
            "skills_en.csv",
            "conceptUri,skillType,preferredLabel,altLabels\nu:1,knowledge,cheese making,\"make cheese\ncheesecraft\"\n",
        ),
        ("occupations_en.csv", "conceptUri,iscoGroup,preferredLabel,altLabels\no:1,7513,cheesemaker,\n"),
        (
            "occupationSkillRelations.csv.gz",
            "occupationUri,relationType,skillType,skillUri\no:1,essential,knowledge,u:1\n",
        ),
        ("broaderRelationsSkillPillar_en.csv", "conceptUri,broaderUri\nu:1,g:group\n"),
        ("readme.txt", "not read"),
    ]);
    let spanish = folder(&[(
        "skills_es.csv.gz",
        "conceptUri,skillType,preferredLabel,altLabels\nu:1,knowledge,quesería,hacer queso | elaborar queso\n",
    )]);
    let dirs = [english.path().to_owned(), spanish.path().to_owned()];
    let loaded = read(&dirs, &[]).unwrap();
    assert_eq!(loaded.concepts.len(), 2);
    let skill = loaded.concepts.iter().find(|concept| concept.uri == "u:1").unwrap();
    assert_eq!(skill.labels.len(), 6);
    assert_eq!(skill.preferred_label("es"), Some("quesería"));
    assert_eq!(
        loaded.relations,
        [Relation { from: "o:1".into(), kind: "essential".into(), to: "u:1".into() }]
    );
    assert_eq!(loaded.skipped_relations, 1);
    let only = read(&dirs, &["es".to_owned()]).unwrap();
    assert_eq!(only.concepts.len(), 1);
}

#[test]
fn reads_the_merged_table() {
    let dir = folder(&[(
        "skills_en_es.csv",
        "conceptUri,skillType,preferredLabel_en,altLabels_en,preferredLabel_es,altLabels_es\nu:1,skill/competence,milk cows,milking | cow milking,ordeñar vacas,\n",
    )]);
    let loaded = read(&[dir.path().to_owned()], &[]).unwrap();
    assert_eq!(loaded.concepts[0].labels.len(), 4);
    assert_eq!(loaded.concepts[0].class, "skill/competence");
}

#[test]
fn files_are_known_by_name_in_any_spelling() {
    let skills = |language: &str| {
        Some(Content::Concepts { kind: ConceptKind::Skill, language: Some(language.to_owned()) })
    };
    let check = |name: &str, expected: Option<Content>| assert_eq!(content(name), expected, "{name}");
    check("skills_es.csv", skills("es"));
    check("Skills_ES.CSV", skills("es"));
    check("SKILLS_es.csv.GZ", skills("es"));
    check("skills_es-419.csv", skills("es"));
    check("skills_pt_BR.csv", skills("pt"));
    check("skills_es (1).csv", skills("es"));
    check("digitalSkillsCollection_en.csv", skills("en"));
    check("skills_es.tsv", skills("es"));
    check("skills.csv", Some(Content::Concepts { kind: ConceptKind::Skill, language: None }));
    check("skills_en_es.csv", Some(Content::Merged { kind: ConceptKind::Skill }));
    check("BroaderRelationsOccPillar_es.csv", Some(Content::Broader));
    check(
        "skillGroups_es.csv",
        Some(Content::Concepts { kind: ConceptKind::Group, language: Some("es".to_owned()) }),
    );
    check("ISCOGroups.csv", Some(Content::Concepts { kind: ConceptKind::Group, language: None }));
    check("skillsHierarchy_en.csv", Some(Content::Hierarchy { language: Some("en".to_owned()) }));
    check("conceptSchemes_es.csv", None);
    check("readme.txt", None);
}

#[test]
fn separators_and_a_missing_language_are_found() {
    for delimiter in [";", "\t", ","] {
        let text = "\u{feff}conceptUri|preferredLabel|altLabels\nu:1|hornear, amasar; y más|pan\n";
        let text =
            text.replace("hornear, amasar; y más", "\"hornear, amasar; y más\"").replace('|', delimiter);
        let dir = folder(&[("Skills_ES.CSV", &text)]);
        let loaded = read(&[dir.path().to_owned()], &["ES".to_owned()]).unwrap();
        assert_eq!(loaded.concepts[0].preferred_label("es"), Some("hornear, amasar; y más"), "{delimiter:?}");
    }
    let english = folder(&[("skills_en.csv", "conceptUri,preferredLabel\nu:1,a\n")]);
    let refused = |languages: &[&str]| {
        let languages: Vec<String> = languages.iter().map(|language| (*language).to_owned()).collect();
        read(&[english.path().to_owned()], &languages).unwrap_err().to_string()
    };
    assert_eq!(refused(&["pt"]), "no label in `pt`; the files hold en");
    assert_eq!(refused(&["en", "es"]), "no label in `es`; the files hold en");
    let unnamed = folder(&[("skills.csv", "conceptUri,preferredLabel\nu:1,a\n")]);
    let message = read(&[unnamed.path().to_owned()], &[]).unwrap_err().to_string();
    assert!(message.contains("skills.csv:1: the name does not say the language"), "{message}");
    let loaded = read(&[unnamed.path().to_owned()], &["es".to_owned()]).unwrap();
    assert_eq!(loaded.concepts[0].preferred_label("es"), Some("a"));
}

#[test]
fn errors_name_file_and_line() {
    for (name, text, expected) in [
        ("skills_es.csv", "uri,label\nu:1,a\n", "skills_es.csv:1: column `conceptUri` is missing"),
        ("skills_es.csv", "conceptUri,preferredLabel\nu:1,a\n,b\n", "skills_es.csv:3: `conceptUri` is empty"),
        ("skills_es.csv", "conceptUri,preferredLabel\nu:1,a,b,c\n", "skills_es.csv:2: "),
        (
            "broaderRelationsOccPillar.csv",
            "conceptUri,broaderUri\no:1,\n",
            "broaderRelationsOccPillar.csv:2: a relation needs two URIs",
        ),
        (
            "skillsHierarchy_es.csv",
            "Level 0 URI,Level 0 preferred term\ng:1,a,b\n",
            "skillsHierarchy_es.csv:2: the row has 3 cells, the header 2",
        ),
        ("other.csv", "a\n", "no concept in"),
    ] {
        let dir = folder(&[(name, text)]);
        let found = read(&[dir.path().to_owned()], &[]).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }
}

const GROUPS: &str = "conceptType,conceptUri,preferredLabel,altLabels,code,description\nSkillGroup,g:L1,lenguas,,L1,Hablar y escribir.\n";
const HIERARCHY: &str = "Level 0 URI,Level 0 preferred term,Level 1 URI,Level 1 preferred term,Description,Level 0 code,Level 1 code\ng:L,idiomas,,,,L\ng:L,idiomas,g:L1,lenguas,x,L,L1\n";

fn isco(code: &str) -> String {
    format!("http://data.europa.eu/esco/isco/C{code}")
}

#[test]
fn groups_are_concepts_above_skills_and_occupations() {
    let groups = format!(
        "conceptUri,code,preferredLabel\n{},7513,Lecheros\n{},751,Alimentos\n",
        isco("7513"),
        isco("751")
    );
    let above = format!("conceptUri,broaderUri\n{},{}\no:2,o:1\n", isco("7513"), isco("751"));
    let dir = folder(&[
        (
            "skills_es.csv",
            "conceptUri,skillType,preferredLabel,description\nu:1,knowledge,gallego,El gallego.\n",
        ),
        ("skillGroups_es.csv", GROUPS),
        ("skillsHierarchy_es.csv", HIERARCHY),
        ("broaderRelationsSkillPillar.csv", "conceptUri,broaderUri\nu:1,g:L1\n"),
        (
            "occupations_es.csv",
            "conceptUri,iscoGroup,preferredLabel\no:1,7513,quesero\no:2,7513,afinador\no:3,1111,x\n",
        ),
        ("ISCOGroups_es.csv", &groups),
        ("broaderRelationsOccPillar.csv", &above),
    ]);
    let loaded = read(&[dir.path().to_owned()], &[]).unwrap();
    let mut broader: Vec<(&str, &str)> = loaded
        .relations
        .iter()
        .filter(|relation| relation.kind == "broader")
        .map(|relation| (relation.from.as_str(), relation.to.as_str()))
        .collect();
    broader.sort_unstable();
    let (small, large) = (isco("7513"), isco("751"));
    assert_eq!(
        broader,
        [("g:L1", "g:L"), (&small, &large), ("o:1", &small), ("o:2", "o:1"), ("u:1", "g:L1")]
    );
    let group = loaded.concepts.iter().find(|concept| concept.uri == "g:L1").unwrap();
    assert_eq!((group.kind, group.class.as_str(), group.labels.len()), (ConceptKind::Group, "L1", 1));
    let texts: Vec<&str> = loaded.descriptions.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["El gallego.", "Hablar y escribir."]);
    assert_eq!(loaded.skipped_relations, 0);
}

#[test]
fn a_cycle_of_broader_relations_is_named() {
    let dir = folder(&[
        ("skills_es.csv", "conceptUri,preferredLabel\nu:1,a\nu:2,b\nu:3,c\n"),
        ("broaderRelationsSkillPillar.csv", "conceptUri,broaderUri\nu:1,u:2\nu:2,u:3\nu:3,u:2\n"),
    ]);
    let found = read(&[dir.path().to_owned()], &[]).unwrap_err().to_string();
    assert_eq!(found, "broader relations form a cycle: u:2 -> u:3 -> u:2");
}

#[test]
fn the_first_folder_decides_what_is_above_a_concept() {
    let version = |above: &str| {
        folder(&[
            ("skills_es.csv", "conceptUri,preferredLabel\nu:1,a\nu:2,b\nu:3,c\n"),
            ("broaderRelationsSkillPillar.csv", &format!("conceptUri,broaderUri\n{above}")),
        ])
    };
    let (newer, older) = (version("u:1,u:2\nu:2,u:3\n"), version("u:2,u:1\nu:1,u:3\n"));
    let loaded = read(&[newer.path().to_owned(), older.path().to_owned()], &[]).unwrap();
    let pairs: Vec<(&str, &str)> =
        loaded.relations.iter().map(|relation| (relation.from.as_str(), relation.to.as_str())).collect();
    assert_eq!(pairs, [("u:1", "u:2"), ("u:2", "u:3")]);
}
