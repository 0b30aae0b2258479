//! Figures of lists of skills, computed by hand.

use std::path::PathBuf;

use super::*;
use crate::commands::eval::gold::{Cases, Gold, Measure};

struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn lists(files: &Files) -> Vec<List> {
    let ads = [
        json!({ "job_id": "a", "country": "CO", "lang": "es", "title": "Desarrollo",
            "description": "Se usa Kafka.", "hard_skills": ["React", "SQL", "sql"],
            "soft_skills": ["Comunicación"] }),
        json!({ "job_id": "b", "country": "MX", "lang": "es", "title": "x", "hard_skills": [],
            "soft_skills": [] }),
    ];
    let path = files.write("gold", &ads.map(|ad| ad.to_string()).join("\n"));
    match Gold::read(&path, Measure::Skills).unwrap().cases {
        Cases::Lists(lists) => lists,
        other => panic!("{other:?}"),
    }
}

fn answer(skills: &[(&str, &str)]) -> Option<Skills> {
    let skills: Vec<Value> =
        skills.iter().map(|(label, kind)| json!({ "label": label, "kind": kind })).collect();
    Some(serde_json::from_value(json!({ "skills": skills })).unwrap())
}

#[test]
fn names_are_compared_by_kind_group_and_alias() {
    let files = Files(tempfile::tempdir().unwrap());
    let aliases = files.write("aliases", "ReactJS\tReact\n");
    let aliases = Aliases::read(&aliases).unwrap();
    let first = answer(&[
        ("ReactJS", "hard"),
        ("SQL", "hard"),
        ("Kafka", "hard"),
        ("comunicacion", "hard"),
        ("Liderazgo", "soft"),
        ("!", "soft"),
    ]);
    let report = report(&lists(&files), &[first, None], Some(&aliases), 0);
    let differences = report.differences.clone();
    let found = serde_json::to_value(report.document()).unwrap();
    assert_eq!((&found["ads"], &found["missing"], &found["empty_labels"]), (&json!(2), &json!(1), &json!(1)));
    let check = |kind: &str, name: &str, counts: [usize; 3], macro_f1: f64| {
        let block = &found["kinds"][kind][name]["all"];
        let numbers = ["gold", "predicted", "correct"].map(|name| block[name].as_u64().unwrap() as usize);
        assert_eq!(numbers, counts, "{kind} {name}");
        assert!((block["macro_f1"].as_f64().unwrap() - macro_f1).abs() < 1e-12, "{kind} {name}: {block}");
    };
    // The second advertisement has nothing to find and counts as 1 in the mean.
    check("hard", "exact", [2, 4, 1], (1.0 / 3.0 + 1.0) / 2.0);
    check("hard", "aliased", [2, 4, 2], (2.0 / 3.0 + 1.0) / 2.0);
    check("soft", "exact", [1, 1, 0], 0.5);
    check("all", "exact", [3, 5, 2], (0.5 + 1.0) / 2.0);
    let hard = &found["kinds"]["hard"];
    assert_eq!(
        (&hard["exact"]["country=CO"]["ads"], &hard["exact"]["lang=es"]["ads"]),
        (&json!(1), &json!(2))
    );
    // ReactJS is neither marked nor in the text; Kafka is in the text, the others are marked.
    assert_eq!((&hard["leaked"], &hard["leak"]), (&json!(1), &json!(0.25)));
    assert_eq!(found["leak.soft"], json!(1.0));
    let missed = differences.iter().filter(|difference| difference.fault == Fault::Missed);
    let missed: Vec<_> = missed.map(|missed| (missed.kind.as_str(), missed.text.as_str())).collect();
    assert_eq!(missed, [("hard", "react"), ("soft", "comunicacion")]);
}

#[test]
fn without_aliases_there_is_one_comparison() {
    let files = Files(tempfile::tempdir().unwrap());
    let report = report(&lists(&files), &[None, None], None, 10);
    let found = serde_json::to_value(report.document()).unwrap();
    assert_eq!(found["kinds"]["hard"].get("aliased"), None);
    assert_eq!(found["kinds"]["hard"]["exact"]["all"]["f1_ci95"], json!([0.0, 0.0]));
}
