//! Gold of every form, whole and damaged.

use serde_json::json;

use super::*;

fn read(text: &str, measure: Measure) -> Result<Gold, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gold");
    std::fs::write(&path, text).unwrap();
    let read = Gold::read(&path, measure);
    // The folder is another one every time.
    let prefix = format!("{}/", dir.path().display());
    read.map_err(|error| format!("{error:#}").replace(&prefix, ""))
}

const AD: &str = r#"{"id": "a", "description": "Usar Excel", "spans": [{"start": 5, "end": 10}]}"#;
const LIST: &str = r#"{"job_id": 1, "title": "T", "description": "D", "requirements": null,
    "hard_skills": ["SQL"], "soft_skills": []}"#;
const SENTENCE: &str =
    r#"{"tokens": ["Write", "C"], "tags_skill": ["B", "I"], "tags_knowledge": ["O", "B"]}"#;

#[test]
fn the_form_is_recognised_and_the_marks_stay_here() {
    let check = |text: &str, measure, expected: Value| {
        let gold = read(&text.replace('\n', " "), measure).unwrap();
        let questions = gold.questions();
        assert_eq!(questions.len(), 1);
        assert!(questions[0].place.ends_with("gold:1"), "{}", questions[0].place);
        assert_eq!(questions[0].document, expected);
    };
    let ad = json!({ "id": "a", "title": null, "description": "Usar Excel", "requirements": null,
        "country": null, "language": null });
    check(AD, Measure::Spans, ad.clone());
    check(AD, Measure::Skills, ad);
    let list = json!({ "id": "1", "title": "T", "description": "D", "requirements": "", "country": null });
    check(LIST, Measure::Skills, list);
    check(SENTENCE, Measure::Spans, json!({ "id": 0, "description": "Write C" }));
}

#[test]
fn gold_of_another_form_is_named() {
    let check = |text: &str, measure, expected: &[&str]| {
        let error = read(&text.replace('\n', " "), measure).unwrap_err();
        for words in expected {
            assert!(error.contains(words), "expected `{words}` in: {error}");
        }
    };
    check(LIST, Measure::Spans, &["gold: `eval spans` expects", "`tokens`", "found", "`hard_skills`"]);
    check(SENTENCE, Measure::Skills, &["`eval skills` expects", "found sentences with tagged tokens"]);
    check(AD, Measure::Linking, &["`eval linking` expects concepts", "no advertisement has any"]);
    check(AD, Measure::Occupations, &["`eval occupations` expects occupations"]);
    let table = "sentence,span,label";
    check(table, Measure::Linking, &["gold: the table has no rows"]);
    check(table, Measure::Occupations, &["`eval occupations` expects"]);
    check(table, Measure::Spans, &["`eval spans` expects", "found a table of sentences"]);
    check(r#"{"a": 1, "b": 2}"#, Measure::Spans, &["gold:1: expected", "found the fields a, b"]);
}

#[test]
fn sentences_of_a_table_have_the_labels_of_all_their_rows() {
    let table = "sentence,span,label\n\"Java, SQL\",Java,Java\nExcel,,Excel\n\"Java, SQL\",SQL,SQL\n";
    let Cases::Texts(texts) = read(table, Measure::Linking).unwrap().cases else { panic!("no texts") };
    let text = |text: &str, labels: &[&str]| Text {
        text: text.to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    assert_eq!(texts, [text("Java, SQL", &["Java", "SQL"]), text("Excel", &["Excel"])]);
    let error = read("sentence,label\n ,SQL\n", Measure::Linking).unwrap_err();
    assert_eq!(error, "gold: row 2: `sentence` is empty");
}

#[test]
fn a_folder_of_titles_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let read = |measure| Gold::read(dir.path(), measure).map_err(|error| format!("{error:#}"));
    let error = read(Measure::Occupations).unwrap_err();
    assert!(error.ends_with("is a folder without queries.tsv and annotations.tsv; --gold expects a file"));
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("queries.tsv", "q1\tPANADEROS\nq2\tSIN RESPUESTA\n");
    write("annotations.tsv", "q1\t0\te1\t1\nq1\t0\te2\t0\n");
    assert!(read(Measure::Spans).unwrap_err().contains("`eval spans` expects"));
    assert!(read(Measure::Occupations).unwrap_err().ends_with("concept_mapping.tsv is missing"));
    write("concept_mapping.tsv", "e1\thttps://x.example/occupation/1/\ne2\tx:2\n");
    write("corpus_elements.tsv", "e1\tpanadero\ne2\tPanadero \n");
    let Cases::Titles(titles) = read(Measure::Occupations).unwrap().cases else { panic!("no titles") };
    // A title for which nothing is right is left out; of two elements of one name the URI decides.
    assert_eq!((titles.queries.len(), titles.queries[0].relevant.len()), (1, 1));
    let found = ["http://x.example/occupation/1", "x:2", "x:3"].map(|uri| titles.element("PANADERO", uri));
    assert_eq!(found, [Some(0), Some(1), None]);
    write("annotations.tsv", "q1\t0\te3\t1\n");
    assert!(read(Measure::Occupations).unwrap_err().contains("q1 e3 is of no query or no corpus element"));
    write("annotations.tsv", "q1\te3\n");
    assert!(
        read(Measure::Occupations).unwrap_err().ends_with("annotations.tsv:1: expected 4 cells, found 2")
    );
}

#[test]
fn damaged_lines_are_named() {
    let check = |text: &str, expected: &str| {
        let error = read(text, Measure::Spans).unwrap_err();
        assert!(error.contains(expected), "expected `{expected}` in: {error}");
    };
    check("", "gold is empty: it contains no gold");
    check("\n \n", "gold is empty");
    check(&format!("{AD}\n\n{{\"id\": \n"), "gold:3: not valid JSON (column 7)");
    check(&format!("{AD}\n[1]\n"), "gold:2: not a JSON object");
    check(&format!("{AD}\n{AD}\n"), "gold:2: id `a` already is that of line 1");
    check(&format!("{AD}\n{}\n", AD.replace("\"a\"", "true")), "gold:2: `id` must be a text or a number");
    check(&AD.replace("description", "text"), "gold:1: `description` is missing");
    check(&AD.replace("\"Usar Excel\"", "7"), "gold:1: `description`: invalid type: integer `7`");
    check(&AD.replace("\"start\": 5, ", ""), "gold:1: `spans`: missing field `start`");
    check(&AD.replace("\"start\": 5", "\"start\": -5"), "gold:1: `spans`: invalid value: integer `-5`");
    let outside = "gold:1: `spans[0]`: 5 to 11 is not a span of the description, which has 10 characters";
    check(&AD.replace("10}", "11}"), outside);
    check(&AD.replace("10}", "5}"), "`spans[0]`: 5 to 5 is not a span");
    check(&SENTENCE.replace("\"O\", \"B\"", "\"O\""), "gold:1: `tags_knowledge`: 1 tags for 2 tokens");
    check(&SENTENCE.replace("\"O\"", "\"X\""), "gold:1: `tags_knowledge`: tag `X` is not B, I or O");
}

#[test]
fn tags_become_spans() {
    let check = |tags: [&str; 6], expected: &[(usize, usize)]| {
        let line = json!({ "tokens": ["a", "b", "c", "d", "e", "f"], "tags_skill": tags,
            "tags_knowledge": ["O", "O", "O", "O", "O", "O"] });
        let Cases::Sentences(sentences) = read(&line.to_string(), Measure::Spans).unwrap().cases else {
            panic!("not sentences")
        };
        let spans: Vec<_> = sentences[0].marks.iter().map(|span| (span.first.unwrap(), span.end)).collect();
        assert_eq!(spans, expected, "{tags:?}");
    };
    check(["O", "B", "I", "O", "B", "I"], &[(1, 3), (4, 6)]);
    check(["B", "B", "I", "I", "O", "O"], &[(0, 1), (1, 4)]);
    // An I without a beginning begins a span.
    check(["I", "I", "O", "I", "O", "B"], &[(0, 2), (3, 4), (5, 6)]);
}

#[test]
fn concepts_of_a_mark_are_those_of_all_its_parts() {
    let check = |mark: Value, accepted: &[&str], is_coded| {
        let mark: Mark = serde_json::from_value(mark).unwrap();
        assert_eq!((mark.accepted(), mark.is_coded()), (accepted.to_vec(), is_coded), "{mark:?}");
    };
    check(json!({ "start": 0, "end": 1, "uris": ["u:1", "u:2"] }), &["u:1", "u:2"], true);
    check(json!({ "start": 0, "end": 1, "uris_by_part": [["u:1"], ["u:2"]] }), &["u:1", "u:2"], true);
    check(json!({ "start": 0, "end": 1, "uris": [] }), &[], true);
    check(json!({ "start": 0, "end": 1 }), &[], false);
}
