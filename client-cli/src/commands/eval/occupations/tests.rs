//! Figures of occupations, computed by hand.

use serde_json::json;

use super::*;
use crate::commands::eval::gold::{Cases, Gold, Measure};

/// Four advertisements with an occupation and one without.
fn ads() -> Vec<Ad> {
    let mut lines = String::new();
    for id in 0..5 {
        let occupation = json!({ "esco": ["o:1", "o:2"], "isco": ["2512"], "cuoc": ["25120"] });
        let occupation = if id < 4 { occupation } else { Value::Null };
        let ad = json!({ "id": id, "title": format!("título {id}"), "description": "x", "spans": [],
            "occupation": occupation });
        lines.push_str(&format!("{ad}\n"));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gold");
    std::fs::write(&path, lines).unwrap();
    match Gold::read(&path, Measure::Occupations).unwrap().cases {
        Cases::Ads(ads) => ads,
        other => panic!("{other:?}"),
    }
}

fn answer(occupation: Value) -> Option<Skills> {
    Some(serde_json::from_value(json!({ "skills": [], "occupation": occupation })).unwrap())
}

#[test]
fn occupations_are_given_and_right() {
    let answers = [
        answer(json!({ "uri": "o:2", "label": "a", "isco": "2512", "cuoc": 25120 })),
        answer(json!({ "uri": "o:3", "label": "otra", "isco": "2512", "cuoc": null })),
        answer(Value::Null),
        None,
        answer(json!({ "uri": "o:9", "isco": "1111" })),
    ];
    let report = report(&ads(), &answers);
    let differences = report.differences.clone();
    let found = serde_json::to_value(report.document()).unwrap();
    assert_eq!(
        (&found["ads"], &found["missing"], &found["gold_occupations"]),
        (&json!(5), &json!(1), &json!(4))
    );
    // Of the three answered: two get one, the first is right; the code of the second is right, too.
    assert_eq!(found["occupation.given"], json!(2.0 / 3.0));
    assert_eq!(found["occupation.esco"], json!(1.0 / 3.0));
    assert_eq!(found["occupation.precision"], json!(0.5));
    assert_eq!(found["occupation.isco"], json!(2.0 / 3.0));
    assert_eq!(found["occupation.cuoc"], json!(1.0 / 3.0));
    let differences: Vec<_> =
        differences.iter().map(|difference| (difference.fault, difference.text.as_str())).collect();
    assert_eq!(differences, [(Fault::Wrong, "otra"), (Fault::Missed, "título 2")]);
}

#[test]
fn a_code_that_is_never_given_has_no_figure() {
    let unknown = json!({ "uri": "o:1", "isco": null, "cuoc": null });
    let answers = [answer(unknown), answer(json!({ "uri": "o:1" })), None, None, None];
    let found = serde_json::to_value(report(&ads(), &answers).document()).unwrap();
    assert_eq!(found["occupation.esco"], json!(1.0));
    assert_eq!((found.get("occupation.isco"), found.get("occupation.cuoc")), (None, None));
}
