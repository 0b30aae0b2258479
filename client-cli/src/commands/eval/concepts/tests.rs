//! Figures of kinds, links and concepts, computed by hand.

use serde_json::{Value, json};

use super::*;
use crate::commands::eval::gold::{Cases, Gold};

/// One advertisement with six marks.
fn ads() -> Vec<Ad> {
    let ad = json!({ "id": 1, "description": "0123456789".repeat(6), "spans": [
        { "start": 0, "end": 5, "kind": "tool", "uris": ["u:1", "u:2"] },
        { "start": 10, "end": 15, "kind": "soft", "uris": ["u:3"] },
        { "start": 20, "end": 25, "kind": "soft", "uris": [] },
        { "start": 30, "end": 35, "kind": "ability", "uris_by_part": [["u:4"], ["u:5"]] },
        { "start": 40, "end": 45, "kind": "tool", "uris": ["u:1", "u:2"] },
        { "start": 50, "end": 55, "kind": "tool", "uris": ["u:6"] } ] });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gold");
    std::fs::write(&path, ad.to_string()).unwrap();
    match Gold::read(&path, Measure::Linking).unwrap().cases {
        Cases::Ads(ads) => ads,
        other => panic!("{other:?}"),
    }
}

fn skill(start: u32, kind: &str, uri: Option<&str>) -> Value {
    json!({ "label": "x", "kind": kind, "explicit": true, "field": "description", "start": start,
        "end": start + 5, "uri": uri })
}

fn figures(measure: Measure, skills: &[Value]) -> Value {
    let answer = serde_json::from_value(json!({ "skills": skills })).unwrap();
    serde_json::to_value(report(&ads(), &[Some(answer)], measure, 0).document()).unwrap()
}

fn answered() -> Vec<Value> {
    let mut elsewhere = skill(50, "hard", Some("u:6"));
    elsewhere["field"] = json!("title");
    vec![
        skill(0, "hard", Some("u:2")),
        skill(10, "soft", None),
        skill(20, "hard", Some("u:9")),
        skill(30, "hard", Some("u:5")),
        elsewhere,
    ]
}

#[test]
fn links_of_found_spans_are_right_absent_or_wrong() {
    let found = figures(Measure::Linking, &answered());
    // Three of the four found have concepts of one skill: right, none given, and one where the
    // taxonomy has none.
    assert_eq!(found["link.accuracy"], json!(1.0 / 3.0));
    assert_eq!(found["link.abstained"], json!(1.0 / 3.0));
    assert_eq!(found["link.wrong"], json!(1.0 / 3.0));
    // Marked are {1, 2}, {3}, {4, 5} and {6}; given are 2, 9 and 5.
    assert_eq!((&found["uri.recall"], &found["uri.precision"]), (&json!(0.5), &json!(2.0 / 3.0)));
    assert_eq!((&found["gold_spans"], &found["pred_spans"]), (&json!(6), &json!(4)));
    assert_eq!(found.get("kind.hard_soft"), None);
}

#[test]
fn everything_but_an_attitude_is_hard() {
    let found = figures(Measure::Skills, &answered());
    assert_eq!(found["kind.hard_soft"], json!(0.75));
    assert_eq!(found.get("link.accuracy"), None);
}

#[test]
fn nothing_found_has_no_links() {
    let found = figures(Measure::Linking, &[]);
    assert_eq!((found.get("link.wrong"), &found["uri.f1"]), (None, &json!(0.0)));
}

#[test]
fn no_concept_is_right_where_there_is_none() {
    let found = figures(Measure::Linking, &[skill(20, "soft", None)]);
    assert_eq!((&found["link.accuracy"], &found["link.abstained"]), (&json!(1.0), &json!(0.0)));
}
