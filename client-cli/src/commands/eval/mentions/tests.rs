//! Figures of spans, computed by hand.

use serde_json::{Value, json};

use super::*;
use crate::commands::eval::gold::{Cases, Gold, Measure};
use crate::commands::eval::report::write;

/// Two advertisements of twenty characters, the first with four marks.
fn ads() -> Vec<Ad> {
    let first = json!({ "id": "a", "country": "CO", "source": "p", "description": "ñ123456789abcdefghij",
        "spans": [
            { "start": 0, "end": 4, "kind": "tool", "place": "R" },
            { "start": 5, "end": 9, "kind": "soft", "place": "R" },
            { "start": 10, "end": 14, "kind": "tool", "place": "D" },
            { "start": 15, "end": 20, "kind": "ability", "place": "D" } ] });
    let second = json!({ "id": "b", "country": "CO", "description": "ñ123456789abcdefghij", "spans": [] });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gold");
    std::fs::write(&path, format!("{first}\n{second}\n")).unwrap();
    match Gold::read(&path, Measure::Spans).unwrap().cases {
        Cases::Ads(ads) => ads,
        other => panic!("{other:?}"),
    }
}

fn answer(spans: Value) -> Option<Mentions> {
    Some(serde_json::from_value(json!({ "spans": spans })).unwrap())
}

fn figures(answers: &[Option<Mentions>]) -> Value {
    serde_json::to_value(report(&ads(), answers, 0).document()).unwrap()
}

#[test]
fn spans_are_counted_as_exact_overlapping_and_touching() {
    let answers = [
        // Exact; overlaps by 3 of 4; touches by 1 of 5; misses the last mark. Empty ones are none.
        answer(json!([{ "start": 0, "end": 4 }, { "start": 5, "end": 8 }, { "start": 13, "end": 15 },
            { "start": 17, "end": 17 }])),
        answer(json!([{ "start": 2, "end": 3 }])),
    ];
    let found = figures(&answers);
    let expected = json!({
        "ads": 2, "missing": 0, "gold_spans": 4, "pred_spans": 4,
        "exact.precision": 0.25, "exact.recall": 0.25, "exact.f1": 0.25,
        "overlap.precision": 0.5, "overlap.recall": 0.5, "overlap.f1": 0.5,
        "touched.recall": 0.75,
        "recall.country=CO": 0.5, "f1.country=CO": 0.5,
        "recall.kind=ability": 0.0, "recall.kind=soft": 1.0, "recall.kind=tool": 0.5,
        "recall.place=D": 0.0, "recall.place=R": 1.0,
        // Of the first advertisement alone, in which three spans are found.
        "recall.source=p": 0.5, "f1.source=p": 4.0 / 7.0,
    });
    for (name, value) in expected.as_object().unwrap() {
        let (value, found) = (value.as_f64().unwrap(), found[name].as_f64().unwrap());
        assert!((value - found).abs() < 1e-12, "{name}: {found}");
    }
    assert_eq!(found.as_object().unwrap().len(), expected.as_object().unwrap().len(), "{found}");
}

#[test]
fn kind_and_place_are_judged_where_both_sides_name_them() {
    let spans = json!([
        { "start": 0, "end": 4, "kind": "tool", "place": "required" },
        { "start": 5, "end": 9, "kind": "ability", "place": "D" },
        { "start": 10, "end": 14, "place": "duty" },
        { "start": 15, "end": 20, "kind": "ability" } ]);
    let found = figures(&[answer(spans), None]);
    assert_eq!((&found["kind.right"], &found["place.right"]), (&json!(2.0 / 3.0), &json!(2.0 / 3.0)));
    assert_eq!((&found["missing"], &found["exact.f1"]), (&json!(1), &json!(1.0)));
}

#[test]
fn equal_spans_match_once_each() {
    let span = |start| Span { start, end: 9 };
    assert_eq!(same(&[span(0), span(0), span(1)], &[span(0), span(2), span(1), span(1)]), 2);
    assert_eq!(same(&[span(0)], &[span(0), span(0)]), 1);
}

#[test]
fn differences_have_their_text() {
    let spans = json!([{ "start": 0, "end": 4 }, { "start": 5, "end": 9 }, { "start": 15, "end": 20 },
        { "start": 0, "end": 1 }]);
    let report = report(&ads(), &[answer(spans), None], 0);
    let mut file = Vec::new();
    write(&report.differences, &mut file).unwrap();
    assert_eq!(String::from_utf8(file).unwrap(), "missed\ta\ttool\tD\tabcd\nwrong\ta\t\t\tñ\n");
}
