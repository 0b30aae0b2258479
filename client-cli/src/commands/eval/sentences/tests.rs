//! Figures of tagged sentences, computed by hand.

use serde_json::json;

use super::*;
use crate::commands::eval::gold::{Cases, Gold, Measure};

fn sentences() -> Vec<Sentence> {
    let first = json!({ "tokens": ["Diseño", "de", "APIs", "con", "C", "."], "source": "tech",
        "tags_skill": ["B", "I", "I", "O", "O", "O"], "tags_knowledge": ["O", "O", "B", "O", "B", "O"] });
    let second = json!({ "tokens": ["Hola"], "tags_skill": ["O"], "tags_knowledge": ["O"] });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gold");
    std::fs::write(&path, format!("{first}\n{second}")).unwrap();
    match Gold::read(&path, Measure::Spans).unwrap().cases {
        Cases::Sentences(sentences) => sentences,
        other => panic!("{other:?}"),
    }
}

#[test]
fn characters_become_the_tokens_they_touch() {
    let sentence = &sentences()[0];
    assert_eq!(sentence.text(0, 6), "Diseño de APIs con C .");
    let check = |start, end, first, after| {
        let span = crate::commands::overlap::Span { start, end };
        let expected = TokenSpan { label: Label::Skill, first, end: after };
        assert_eq!(sentence.tokens_of(span, Label::Skill), expected, "{start} to {end}");
    };
    check(0, 6, Some(0), 1);
    check(5, 8, Some(0), 2);
    check(10, 14, Some(2), 3);
    check(0, 99, Some(0), 6);
    // The blank between two tokens.
    check(6, 7, None, 6);
}

#[test]
fn a_span_is_right_with_its_label_and_its_tokens() {
    let spans = json!([
        { "start": 1, "end": 12, "label": "skill" },
        { "start": 10, "end": 14, "label": "skill" },
        { "start": 19, "end": 20, "label": "knowledge" },
        { "start": 19, "end": 20, "label": "knowledge" },
        { "start": 6, "end": 7, "label": "knowledge" } ]);
    let answer = serde_json::from_value(json!({ "spans": spans })).unwrap();
    let report = report(&sentences(), &[Some(answer), None], 0);
    let differences = report.differences.clone();
    let found = serde_json::to_value(report.document()).unwrap();
    assert_eq!((&found["sentences"], &found["missing"]), (&json!(2), &json!(1)));
    for group in ["all", "source=tech"] {
        let counts = |label: &str| {
            let block = &found[group][label];
            ["gold", "predicted", "correct"].map(|name| block[name].as_u64().unwrap())
        };
        // The repeated span counts once, and the one on a blank is wrong.
        assert_eq!((counts("skill"), counts("knowledge")), ([1, 2, 1], [2, 2, 1]), "{group}");
        assert_eq!(counts("both"), [3, 4, 2], "{group}");
    }
    let differences: Vec<_> = differences
        .iter()
        .map(|difference| (difference.fault, difference.kind.as_str(), difference.text.as_str()))
        .collect();
    assert_eq!(
        differences,
        [
            (Fault::Missed, "knowledge", "APIs"),
            (Fault::Wrong, "skill", "APIs"),
            (Fault::Wrong, "knowledge", ""),
        ]
    );
}
