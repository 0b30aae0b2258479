//! JSON in all shapes that files have, and damaged files.
//!
//! Shapes must agree on rows and lines; errors must name the line.

use serde_json::json;

use super::*;

fn rows(text: &str) -> Result<Vec<(u64, Value)>, String> {
    let table = table(text)?;
    let object = |row: &Row| {
        let named = table.columns.iter().cloned().zip(row.cells.iter().cloned());
        (row.place, Value::Object(named.filter(|(_, cell)| !cell.is_null()).collect()))
    };
    Ok(table.rows.iter().map(object).collect())
}

#[test]
fn every_shape_gives_the_same_rows() {
    let one = json!({ "title": "a", "n": 1 });
    let two = json!({ "title": "b{\"" });
    let check = |text: &str, lines: [u64; 2]| {
        let expected = vec![(lines[0], one.clone()), (lines[1], two.clone())];
        assert_eq!(rows(text).expect("rows"), expected, "{text}");
    };
    check("{\"title\":\"a\",\"n\":1}\n{\"title\":\"b{\\\"\"}\n", [1, 2]);
    check("{\"title\":\"a\",\"n\":1}\r\n\r\n{\"title\":\"b{\\\"\"}", [1, 3]);
    check("[{\"title\":\"a\",\"n\":1},{\"title\":\"b{\\\"\"}]", [1, 1]);
    check("[\n  {\n    \"title\": \"a\", \"n\": 1\n  },\n  {\"title\": \"b{\\\"\"}\n]\n", [2, 5]);
    check("{\"jobs\": [\n{\"title\":\"a\",\"n\":1},\n{\"title\":\"b{\\\"\"}]}", [2, 3]);
    check(
        "{\"ok\": true, \"data\": {\"count\": 2, \"results\": [{\"title\":\"a\",\"n\":1},\n{\"title\":\"b{\\\"\"}]}}",
        [1, 2],
    );
    check("{\"title\": {\"0\": \"a\", \"1\": \"b{\\\"\"}, \"n\": {\"0\": 1, \"1\": null}}", [1, 2]);
    check("{\"0\": {\"title\": \"a\", \"n\": 1}, \"7\": {\"title\": \"b{\\\"\"}}", [1, 2]);
    check(
        "{\"columns\": [\"title\", \"n\"], \"index\": [0, 1], \"data\": [[\"a\", 1], [\"b{\\\"\", null]]}",
        [1, 2],
    );
    check(
        "{\"schema\": {\"fields\": []}, \"data\": [{\"title\":\"a\",\"n\":1},{\"title\":\"b{\\\"\"}]}",
        [1, 1],
    );
    check("{\n\"title\": \"a\",\n\"n\": 1\n}\n{\n\"title\": \"b{\\\"\"\n}\n", [1, 5]);
    check("[[{\"title\":\"a\",\"n\":1}],[{\"title\":\"b{\\\"\"}]]", [1, 1]);
    check("{\"title\":\"a\",\"n\":{\"$numberLong\":\"1\"}}\n{\"title\":\"b{\\\"\"}", [1, 2]);
    check("[{\"title\":\"a\",\"n\":1}]\n[{\"title\":\"b{\\\"\"}]".replace("]\n[", ",").as_str(), [1, 1]);
}

#[test]
fn json_ld_is_opened() {
    let posting = |title: &str| format!("{{\"@type\":\"JobPosting\",\"title\":\"{title}\"}}");
    let (a, b) = (posting("a"), posting("b"));
    let check = |text: String| {
        let titles: Vec<Value> =
            rows(&text).expect("rows").into_iter().map(|(_, row)| row["title"].clone()).collect();
        assert_eq!(titles, ["a", "b"], "{text}");
    };
    check(format!("{a}\n{b}\n"));
    check(format!("{{\"@context\":\"https://schema.org\",\"@graph\":[{{\"@type\":\"WebPage\"}},{a},{b}]}}"));
    check(format!(
        "{{\"@type\":\"ItemList\",\"itemListElement\":[{{\"@type\":\"ListItem\",\"position\":1,\"item\":{a}}},{{\"@type\":\"ListItem\",\"item\":{b}}}]}}"
    ));
    check(format!("[{a},{b}]"));
}

#[test]
fn an_empty_answer_holds_nothing() {
    for text in ["[]", "{\"jobs\": [], \"count\": 0}"] {
        assert_eq!(rows(text), Ok(Vec::new()), "{text}");
    }
}

#[test]
fn nan_is_nothing() {
    let found =
        rows("{\"title\": \"NaN is \\\"NaN\\\"\", \"company\": NaN, \"n\": -Infinity}").expect("rows");
    assert_eq!(found, [(1, json!({ "title": "NaN is \"NaN\"" }))]);
}

#[test]
fn damage_is_told_with_its_place() {
    let check = |text: &str, expected: &str| {
        let message = match table(text) {
            Err(message) => message,
            Ok(table) => {
                let told = table.problems.messages("f");
                told.iter().map(|error| format!("{}: {}\n", error.line, error.message)).collect()
            }
        };
        assert!(message.contains(expected), "{text}: {message}");
    };
    check("[{\"title\": \"a\"},\n{\"title\": ", "truncated: EOF while parsing a value at line 2");
    check("{\n  \"jobs\": [\n    {\"title\": \"a\"}\n", "truncated: EOF");
    check(
        "{\"title\":\"a\"}\n{bad\n[1]\n7\n",
        "2: not valid JSON: key must be a string at column 2\n3: not a JSON object",
    );
    check(
        "{\"title\":\"a\"}\n{\"title\":\"a\",\"title\":\"b\"}\n",
        "2: not valid JSON: duplicate member `title`",
    );
    check("{\"jobs\":[{\"a\":1}],\"firms\":[{\"b\":1}]}", "several arrays, `jobs` and `firms`");
    check("[[1, 2], [3, 4]]", "1: an array of plain values");
    check("[1, 2]", "not a JSON object");
    check("{\"a\":1},\n{\"a\":2},\n", "1: not valid JSON: trailing characters at column 8\n");
}
