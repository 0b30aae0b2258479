//! People judge what was found, and the next run finds what they said.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::site::Site;

const ADS: &str = "title,description,country,portal,url\n\
    Analista,\"Requisitos: manejo de Excel. Experiencia en Django.\",CO,p,https://ads.example/1\n\
    Contadora,\"Requisitos: manejo de EXCEL. Idiomas: Inglés.\",CO,p,https://ads.example/2\n";

/// Names and concepts of the skills that are stored, by what their posting says.
async fn enhanced(site: &Site) -> BTreeMap<String, Option<String>> {
    let run = site.run(&["run", "start", "--stages", "extract,enhance", "--watch", "--json"]).ended(0).json();
    assert_eq!(run["state"], "succeeded", "{run}");
    let rows: Vec<(String, Option<String>)> =
        sqlx::query_as("select normalized_skill, esco_concept_uri from enhanced_skills")
            .fetch_all(&mut site.database().await)
            .await
            .unwrap();
    rows.into_iter().collect()
}

/// The find of a wording that nobody has judged.
fn open(site: &Site, kind: &str, wording: &str) -> Option<Value> {
    let said = site.run(&["review", "next", "--kind", kind, "--limit", "500", "--json"]);
    let finds = said.json();
    finds.as_array().unwrap().iter().find(|find| find["wording"] == wording).cloned()
}

fn id(find: &Value) -> &str {
    find["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_hold_from_the_next_run_on_and_their_history_is_kept() {
    let site = Site::up();
    site.run(&["taxonomy", "import", "lexicon"]).ended(0);
    site.run(&["postings", "import", &site.file("ads.csv", ADS)]).ended(0);
    let before = enhanced(&site).await;
    let concept = before["Inglés"].clone().expect("a concept of the lexicon");
    assert!(before.contains_key("Python") && before.contains_key("Django"), "{before:?}");

    // Two spellings of a wording are one find; it cites the posting that is shown.
    let excel = open(&site, "link", "EXCEL").or_else(|| open(&site, "link", "Excel")).unwrap();
    assert!(excel["sentence"].as_str().unwrap().contains(excel["wording"].as_str().unwrap()), "{excel}");
    let english = open(&site, "link", "Inglés").unwrap();
    let django = open(&site, "skill", "Django").unwrap();
    let python = open(&site, "implied", "Django").unwrap();
    assert_eq!(
        (&python["label"], &python["reason"]),
        (&json!("Python"), &json!("Django is built on Python"))
    );

    let judge = |arguments: &[&str]| {
        let by = ["--by", "ana", "--json"];
        site.run(&[&["review"], arguments, &by].concat()).ended(0).json()
    };
    let accepted = judge(&["accept", id(&english)]);
    assert_eq!((&accepted[0]["uri"], &accepted[0]["reviewer"]), (&json!(concept), &json!("ana")));
    assert_eq!(judge(&["accept", id(&english)])[0]["verdict_id"], accepted[0]["verdict_id"], "said twice");
    judge(&["reject", id(&python), "--why", "no se sigue"]);
    let without = enhanced(&site).await;
    assert!(without.contains_key("Django") && !without.contains_key("Python"), "{without:?}");
    judge(&["reject", id(&django), "--why", "no es lo que se pide"]);
    judge(&[
        "correct",
        id(&excel),
        "--uri",
        &concept,
        "--label",
        "Planillas de prueba",
        "--why",
        "una prueba",
    ]);
    assert!(["Excel", "EXCEL"].iter().all(|wording| open(&site, "link", wording).is_none()));

    let after = enhanced(&site).await;
    assert!(!after.contains_key("Django") && !after.contains_key("Excel"), "{after:?}");
    assert_eq!(after["Planillas de prueba"].as_ref(), Some(&concept));

    // The rows are others now; what was judged is still known by its id.
    judge(&["reject", id(&excel), "--why", "sí es Excel, pero sin concepto"]);
    assert_eq!(enhanced(&site).await["Excel"], None);
    let in_force = site.run(&["review", "list", "--json"]).ended(0).json();
    let all = site.run(&["review", "list", "--history", "--json"]).ended(0).json();
    assert_eq!((in_force.as_array().unwrap().len(), all.as_array().unwrap().len()), (4, 5));
    assert_eq!(in_force[0]["why"], "sí es Excel, pero sin concepto");

    let gold = site.dir.path().join("gold.jsonl");
    let gold = gold.to_str().unwrap();
    site.run(&["review", "export", "--gold", gold]).ended(0);
    let measured = site.run(&["eval", "linking", "--gold", gold, "--json"]).ended(0).json();
    assert!(measured.to_string().contains("accuracy"), "{measured}");
}

#[test]
fn mistakes_are_named() {
    let site = Site::up();
    let refused = |arguments: &[&str], expected: &str| {
        let said = site.run(&[&["review"], arguments, &["--by", "ana"]].concat()).ended(2);
        assert!(said.stderr.contains(expected), "expected `{expected}` in: {}", said.stderr);
    };
    refused(&["accept", "7"], "`7` is not an id");
    refused(&["accept", "00000000-0000-0000-0000-000000000000"], "no find `00000000");
    refused(&["reject", "00000000-0000-0000-0000-000000000000"], "--why");
    refused(&["correct", "00000000-0000-0000-0000-000000000000", "--why", "x"], "--uri");
    let nothing = site.run(&["review", "next"]).ended(1);
    assert!(nothing.stderr.contains("nothing is left to judge"), "{}", nothing.stderr);
}
