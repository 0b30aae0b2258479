use super::*;

const HEADER: &str = "uri,kind,class,language,label,preferred";

fn check(text: impl AsRef<[u8]>) -> Result<Loaded, TaxonomyError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.csv");
    std::fs::write(&path, text).unwrap();
    read(&Source::at(&path))
}

fn refused(text: impl AsRef<[u8]>, expected: &str) {
    let found = check(text).unwrap_err().to_string();
    assert!(found.contains(expected), "{found}");
}

#[test]
fn groups_labels_by_uri() {
    let rows = "x:1,skill,knowledge,es,Quesería,true\nx:1,skill,,en,\"cheese, making\",1\n";
    let loaded = check(format!("{HEADER}\n{rows}")).unwrap();
    assert_eq!(loaded.concepts.len(), 1);
    assert_eq!(loaded.concepts[0].labels[1].text, "cheese, making");
    assert_eq!(loaded.concepts[0].class, "knowledge");
}

#[test]
fn concepts_stand_above_others_and_are_described() {
    let rows = "x:1,skill,,es,Quesería,true,g:1 | g:2,Hacer queso.\nx:1,skill,,es,Hacer queso,,g:1,\n\
                g:1,group,L,es,Lácteos,true,g:2,\ng:2,group,,es,Alimentos,true,,Todo lo que se come.\n";
    let loaded = check(format!("{HEADER},broader,description\n{rows}")).unwrap();
    let broader = |from: &str, to: &str| Relation {
        from: from.to_owned(),
        kind: BROADER.to_owned(),
        to: to.to_owned(),
    };
    assert_eq!(loaded.relations, [broader("x:1", "g:1"), broader("x:1", "g:2"), broader("g:1", "g:2")]);
    assert_eq!(loaded.concepts[1].kind, ConceptKind::Group);
    let texts: Vec<_> = loaded.descriptions.iter().map(|one| (one.uri.as_str(), one.text.as_str())).collect();
    assert_eq!(texts, [("x:1", "Hacer queso."), ("g:2", "Todo lo que se come.")]);
}

#[test]
fn separators_and_a_mark_do_not_matter() {
    let row = "x:1,skill,knowledge,es,Quesería,true";
    for delimiter in [",", ";", "\t"] {
        let text = format!("\u{feff}{HEADER}\r\n{row}\r\n").replace(',', delimiter);
        assert_eq!(check(text).unwrap().concepts[0].labels[0].text, "Quesería", "{delimiter:?}");
    }
}

#[test]
fn other_encodings_are_refused_by_name() {
    let text = format!("{HEADER}\nx:1,skill,,es,Quesería,true\n");
    let little: Vec<u8> =
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> =
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    refused(little, "own.csv:1: the file is UTF-16: expected UTF-8");
    refused(big, "own.csv:1: the file is UTF-16: expected UTF-8");
    let western = encoding_rs::WINDOWS_1252.encode(&text).0;
    refused(western, "own.csv:2: the row is not UTF-8: save the file as UTF-8");
}

#[test]
fn damaged_files_are_read_or_refused() {
    let corpus = [
        "uri,kind,class,language,label,preferred\nx:1,skill,knowledge,es,Quesería,true\nx:1,skill,knowledge,en,\"cheese, making\",1\n",
        "uri;kind;class;language;label;preferred;broader\nx:2;occupation;7513;es;quesero;true;g:1\ng:1;group;;es;quesera;no\n",
    ];
    observatory_mutator::texts("taxonomies", &corpus, |text| match check(text) {
        Ok(loaded) => assert!(loaded.concepts.iter().all(|concept| !concept.labels.is_empty())),
        Err(problem) => assert!(problem.to_string().len() <= 4 * text.len() + 1_000),
    });
}

#[test]
fn errors_name_the_line() {
    refused(
        "uri,kind\n",
        "own.csv:1: no column `class`; expected uri,kind,class,language,label,preferred; found uri, kind",
    );
    refused("conceptUri,preferredLabel\n", "import it with `taxonomy import esco`");
    refused("", "own.csv:1: the file is empty");
    refused(format!("{HEADER}\n"), "no concept in");
    let rows =
        |rows: &str, expected: &str| refused(format!("{HEADER},broader,description\n{rows}"), expected);
    rows("x:1,job,,es,a,1,,\n", "own.csv:2: invalid kind `job`: expected skill, occupation or group");
    rows("x:1,skill,,es,,1,,\n", "own.csv:2: `label` is empty");
    rows("x:1,skill,,es,a,maybe,,\n", "invalid preferred `maybe`: expected true or false");
    rows("x:1,skill,,es,a,1\n", "own.csv:2: ");
}

#[test]
fn rows_that_contradict_each_other_are_refused() {
    let rows =
        |rows: &str, expected: &str| refused(format!("{HEADER},broader,description\n{rows}"), expected);
    rows(
        "x:1,skill,,es,a,1,,\nx:1,skill,,en,a,1,,\nx:1,skill,,es,b,1,,\n",
        "own.csv:4: a second preferred label in `es`; the first is in line 2",
    );
    rows(
        "x:1,skill,,es,a,1,,\nx:1,group,,es,b,,,\n",
        "own.csv:3: `x:1` has the kind `group`, and `skill` in line 2",
    );
    rows(
        "x:1,skill,,es,a,1,,\nx:1,skill,A,es,b,,,\nx:1,skill,B,es,c,,,\n",
        "own.csv:4: `x:1` has the class `B`, and `A` in line 2",
    );
    rows(
        "x:1,skill,,es,a,1,,one\nx:1,skill,,es,b,,,two\n",
        "own.csv:3: a second description in `es`; the first is in line 2",
    );
    rows("x:1,skill,,es,a,1,,\nx:2,skill,,es,b,1,x:3,\n", "own.csv:3: broader `x:3` is not the uri of a row");
    rows(
        "x:0,skill,,es,o,1,x:1,\nx:1,skill,,es,a,1,x:2,\nx:2,skill,,es,b,1,x:1,\n",
        "own.csv:3: broader relations form a cycle: x:1 -> x:2 -> x:1",
    );
    rows("x:1,skill,,es,a,1,x:1,\n", "own.csv:2: broader relations form a cycle: x:1 -> x:1");
}
