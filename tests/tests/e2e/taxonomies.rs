//! ESCO as its portal hands it out.

use std::io::Write;

use crate::site::Site;

const SKILLS: &str = "conceptUri;skillType;preferredLabel;altLabels\nhttp://esco.example/1;knowledge;quesería;\"hacer queso\nelaborar queso\"\n";
const OCCUPATIONS: &str =
    "conceptUri,iscoGroup,preferredLabel,altLabels\nhttp://esco.example/2,7513,quesero/quesera,\n";

fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    // A stored archive, written by hand: the tests need no writer of their own.
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let (offset, sum) = (out.len() as u32, crc32(data));
        let mut fields = Vec::new();
        fields.write_all(&[20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0]).unwrap();
        fields.write_all(&sum.to_le_bytes()).unwrap();
        fields.write_all(&(data.len() as u32).to_le_bytes()).unwrap();
        fields.write_all(&(data.len() as u32).to_le_bytes()).unwrap();
        fields.write_all(&(name.len() as u16).to_le_bytes()).unwrap();
        fields.write_all(&0u16.to_le_bytes()).unwrap();
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend(name.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length, count) = (out.len() as u32, directory.len() as u32, files.len() as u16);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    [0xff, 0xfe].into_iter().chain(units).collect()
}

fn windows(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect()
}

#[test]
fn archives_are_read_as_they_come() {
    let site = Site::up();
    let bom = |text: &str| format!("\u{feff}{text}").into_bytes();
    let folder = "ESCO dataset - v1.2.0 - classification - es - csv/";
    let inside = |name: &str| format!("{folder}{name}");
    let (skills, occupations) = (inside("skills_es.csv"), inside("occupations_es.csv"));
    for (archive, encoding) in [
        (zip(&[(&skills, bom(SKILLS)), (&occupations, bom(OCCUPATIONS))]), "UTF-8 with a mark"),
        (
            zip(&[("Skills_ES.CSV", windows(SKILLS)), ("OCCUPATIONS_es-419.csv", windows(OCCUPATIONS))]),
            "Windows-1252",
        ),
        (zip(&[(&skills, utf16(&SKILLS.replace(';', "\t"))), (&occupations, utf16(OCCUPATIONS))]), "UTF-16"),
    ] {
        let path = site.file("ESCO es.zip", archive);
        let import =
            site.run(&["taxonomy", "import", "esco", &path, "--language", "es", "--json"]).ended(0).json();
        assert_eq!((&import[0]["skills"], &import[0]["occupations"]), (&1.into(), &1.into()), "{encoding}");
        let shown = site.run(&["taxonomy", "show", "http://esco.example/1"]).ended(0).json();
        let labels: Vec<&str> = shown["labels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|label| label["label"].as_str().unwrap())
            .collect();
        assert_eq!(labels, ["quesería", "elaborar queso", "hacer queso"], "{encoding}");
    }
    let single = site.file("skills_es-419.csv", windows(SKILLS));
    let import = site.run(&["taxonomy", "import", "esco", &single, "--json"]).ended(0).json();
    assert_eq!(import[0]["labels"], 3);
}

const COLUMNS: &str = "uri,kind,class,language,label,preferred,broader,description";

#[test]
fn taxonomies_stand_next_to_each_other() {
    let site = Site::up();
    let import = |version: &str, rows: &str| {
        let path = site.file("own.csv", format!("{COLUMNS}\n{rows}"));
        site.run(&["taxonomy", "import", "csv", &path, "--version", version, "--json"]).ended(0).json()
    };
    let group = "g:1,group,L,es,Lácteos,true,,\n";
    let first =
        format!("{group}x:1,skill,knowledge,es,queso,true,,Hacer queso.\nx:2,skill,,es,ordeñar vacas,1,,\n");
    let second =
        format!("{group}x:1,skill,knowledge,es,quesería,true,g:1,\nx:3,skill,,en,churn butter,1,g:1,\n");
    let imported = import("1", &first);
    assert_eq!((&imported[0]["groups"], &imported[0]["skills"]), (&1.into(), &2.into()));
    import("2", &second);
    let show = |arguments: &[&str]| site.run(&[&["taxonomy", "show"], arguments].concat());
    let older = show(&["x:1", "--taxonomy", "own@1"]).ended(0).json();
    assert_eq!(older["descriptions"][0]["description"], "Hacer queso.");
    assert_eq!(older["broader"], serde_json::json!([]));
    let newer = show(&["x:1"]).ended(0).json();
    assert_eq!(
        (&newer["taxonomy"], &newer["broader"][0]["labels"]["es"]),
        (&"own@2".into(), &"Lácteos".into())
    );
    let diff = |from: &str, to: &str| site.run(&["taxonomy", "diff", from, to, "--json"]).ended(0).json();
    let found = diff("own@1", "own@2");
    let rows: Vec<(&str, &str)> = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["change"].as_str().unwrap(), row["uri"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [("added", "x:3"), ("removed", "x:2"), ("renamed", "x:1"), ("moved", "x:1")]);
    assert_eq!(found["differences"][2]["before"], serde_json::json!(["queso"]));
    assert_eq!(diff("own@2", "own@1")["counts"], found["counts"]);
    // The active version of the name.
    assert_eq!(diff("own", "own@2")["differences"], serde_json::json!([]));
    let unknown = site.run(&["taxonomy", "diff", "own@1", "own@3"]).ended(2);
    assert!(unknown.stderr.contains("no taxonomy `own@3`; stored: own@1, own@2"), "{}", unknown.stderr);
    let malformed = show(&["x:1", "--taxonomy", "own@"]).ended(2);
    assert!(malformed.stderr.contains("expected NAME@VERSION or NAME"), "{}", malformed.stderr);
}

#[test]
fn what_cannot_be_read_is_named_as_its_owner_knows_it() {
    let site = Site::up();
    let refused = |arguments: &[&str], expected: &str| {
        let said = site.run(&[&["taxonomy", "import"], arguments].concat()).ended(2);
        assert!(said.stderr.contains(expected), "expected `{expected}` in: {}", said.stderr);
        assert!(!said.stderr.contains("chunk") && !said.stderr.contains(" /0"), "{}", said.stderr);
    };
    let english = zip(&[("ESCO/skills_en.csv", b"conceptUri,preferredLabel\nu:1,cheese\n".to_vec())]);
    let english = site.file("ESCO en.zip", english);
    refused(&["esco", &english, "--language", "pt"], "error: no label in `pt`; the files hold en");
    let broken = site.file("broken.zip", zip(&[("ESCO/skills_es.csv", b"uri,label\nu:1,a\n".to_vec())]));
    refused(
        &["esco", &broken],
        "broken.zip: ESCO/skills_es.csv:1: column `conceptUri` is missing; found uri, label",
    );
    let other = site.file("other.csv", "a,b\n1,2\n");
    refused(&["esco", &other], "no concept in");
    refused(
        &["esco", &site.file("notes.md", "x")],
        "contains no tables: expected .csv files, plain, .gz or in a .zip",
    );
    let own = site.file("skills_es.csv", "conceptUri,preferredLabel\nu:1,a\n");
    refused(
        &["csv", &own],
        "no column `uri`; expected uri,kind,class,language,label,preferred; found conceptUri",
    );
    refused(&["csv", &own], "import it with `taxonomy import esco`");
}

#[test]
fn texts_are_linked_to_any_stored_taxonomy() {
    // By their words alone: this stack serves no model.
    let site = Site::with("", &[]);
    let skills = site.file("skills_es.csv", SKILLS);
    let named = ["--name", "quesos", "--version", "2", "--inactive"];
    let said = site.run(&[&["taxonomy", "import", "esco", &skills][..], &named].concat()).ended(0);
    assert!(said.stderr.contains("quesos@2 has no vectors"), "{}", said.stderr);
    site.run(&["taxonomy", "embed", "quesos"]).ended(2);
    let asked = site.file(
        "texts.jsonl",
        "{\"id\": 1, \"text\": \"elaborando quesos\"}\n{\"id\": 2}\n{\"id\": \"c\", \"text\": \"Quesería\"}\n",
    );
    let said = site.run(&["link", "skill", "--jsonl", &asked, "--taxonomy", "quesos"]).ended(1);
    assert!(said.stderr.contains("line 2: missing field `text`"), "{}", said.stderr);
    let lines = said.lines();
    assert_eq!((&lines[0]["id"], &lines[1]["id"]), (&1.into(), &"c".into()));
    assert_eq!(lines[0]["concepts"][0]["uri"], "http://esco.example/1");
    assert_eq!(lines[1]["concepts"][0]["label"], "quesería");

    let one = |extra: &[&str]| {
        let arguments = ["link", "skill", "--text", "hacer queso", "--taxonomy", "quesos@2"];
        site.run(&[&arguments, extra].concat()).ended(0).lines().remove(0)
    };
    assert_eq!(one(&["--surface"])["concepts"].as_array().unwrap().len(), 3);
    assert_eq!(one(&["--surface", "--top", "1"])["concepts"][0]["label"], "hacer queso");
    // The only name that it has of this is an alternative label, letter by letter the same.
    assert_eq!(one(&["--abstain"])["concepts"].as_array().unwrap().len(), 1);

    // The active taxonomy is another.
    site.run(&["taxonomy", "import", "lexicon"]).ended(0);
    let active = ["link", "occupation", "--text", "Contador público", "--abstain"];
    let found = site.run(&active).ended(0).lines().remove(0);
    let label = found["concepts"][0]["label"].as_str().unwrap().to_lowercase();
    assert!(label.contains("contable") || label.contains("accountant"), "{found}");
    let coded = ["link", "occupation", "--text", "Contador público", "--taxonomy", "cuoc", "--top", "3"];
    let coded = site.run(&coded).ended(0).lines().remove(0);
    assert_eq!(coded["concepts"].as_array().unwrap().len(), 3);
    assert!(coded["concepts"][0]["uri"].as_str().unwrap().starts_with("2411"), "{coded}");
    let nothing = site.run(&["link", "skill", "--text", "domar dragones azules", "--abstain"]).ended(0);
    assert_eq!(nothing.lines()[0]["concepts"].as_array().unwrap().len(), 0);

    let refused = |arguments: &[&str], expected: &str| {
        let said = site.run(&[&["link", "skill", "--text", "queso"], arguments].concat()).ended(2);
        assert!(said.stderr.contains(expected), "expected `{expected}` in: {}", said.stderr);
    };
    refused(&["--taxonomy", "vinos@1"], "no taxonomy `vinos@1`");
    refused(&["--top", "0"], "1..=1000");
}
