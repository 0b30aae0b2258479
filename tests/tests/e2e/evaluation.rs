//! `eval`: gold in, figures out, through the real services.
//!
//! The gold is invented; its marks are what a person would mark in it.

use serde_json::json;

use crate::site::Site;

/// A description, and its marks with kind, place and concepts.
fn ad(id: &str, description: &str, marks: &[(&str, &str, &str)]) -> String {
    let spans: Vec<_> = marks
        .iter()
        .map(|(text, kind, uri)| {
            let start = description.find(text).unwrap();
            let start = description[..start].chars().count();
            let uris: Vec<&str> = [*uri].into_iter().filter(|uri| !uri.is_empty()).collect();
            json!({ "start": start, "end": start + text.chars().count(), "kind": kind, "place": "R", "uris": uris })
        })
        .collect();
    let occupation = json!({ "esco": ["x:9"], "isco": ["7512"], "cuoc": ["75120"] });
    let ad = json!({ "id": id, "country": "CO", "title": "Panadero", "description": description,
        "spans": spans, "occupation": occupation });
    format!("{ad}\n")
}

#[test]
fn figures_of_marked_texts() {
    let site = Site::with("", &[]);
    let taxonomy = "uri,kind,class,language,label,preferred\nx:1,skill,,es,Hornear pan,1\nx:9,occupation,,es,Panadero,1\n";
    site.run(&["taxonomy", "import", "csv", &site.file("own.csv", taxonomy)]).ended(0);
    let first = "Requisitos: hornear pan, Excel y proactividad. Años de experiencia: dos.";
    let marks = [("hornear pan", "ability", "x:1"), ("Excel", "tool", ""), ("experiencia", "soft", "")];
    let ads = ad("a", first, &marks) + &ad("b", "Requisitos: Django.", &[("Django", "tool", "")]);
    let gold = site.file("gold.jsonl", &ads);
    let errors = site.dir.path().join("errors.tsv");

    let spans = ["eval", "spans", "--gold", &gold, "--bootstrap", "20", "--errors", errors.to_str().unwrap()];
    let found = site.run(&[&spans[..], &["--json"]].concat()).ended(0).json();
    // Three of four marks are found with their bounds, and proactividad is found unmarked.
    for (name, expected) in [
        ("ads", json!(2)),
        ("missing", json!(0)),
        ("gold_spans", json!(4)),
        ("pred_spans", json!(4)),
        ("exact.f1", json!(0.75)),
        ("overlap.recall", json!(0.75)),
        ("recall.kind=soft", json!(0.0)),
        ("recall.country=CO", json!(0.75)),
    ] {
        assert_eq!(found[name], expected, "{name}: {found}");
    }
    let written = std::fs::read_to_string(&errors).unwrap();
    assert_eq!(written, "missed\ta\tsoft\tR\texperiencia\nwrong\ta\t\t\tproactividad\n");
    let text = site.run(&spans).ended(0).stdout;
    assert!(text.starts_with("FIGURE") && text.contains("0.7500  ["), "{text}");

    let linked = site.run(&["eval", "linking", "--gold", &gold, "--json"]).ended(0).json();
    assert_eq!((&linked["uri.recall"], &linked["link.abstained"]), (&json!(1.0), &json!(0.0)), "{linked}");
    let skills = site.run(&["eval", "skills", "--gold", &gold, "--json"]).ended(0).json();
    assert_eq!(skills["kind.hard_soft"], json!(1.0), "{skills}");
    let occupations = site.run(&["eval", "occupations", "--gold", &gold, "--json"]).ended(0).json();
    assert_eq!(occupations["occupation.esco"], json!(1.0), "{occupations}");
    lists_and_sentences(&site);
    single_texts(&site);
    refusals(&site, &ads);
}

fn lists_and_sentences(site: &Site) {
    let list = json!({ "job_id": "l", "country": "CO", "lang": "es", "title": "Backend",
        "description": "Requisitos: Django y proactividad.", "hard_skills": ["django"],
        "soft_skills": ["Proactividad", "Puntualidad"] });
    let gold = site.file("lists.jsonl", list.to_string());
    let aliases = site.file("aliases.tsv", "python\tdjango\n");
    let found =
        site.run(&["eval", "skills", "--gold", &gold, "--aliases", &aliases, "--json"]).ended(0).json();
    let (hard, soft) = (&found["kinds"]["hard"], &found["kinds"]["soft"]["exact"]["all"]);
    // Django implies Python, which nobody listed; the table makes them one.
    assert_eq!(
        (&hard["exact"]["all"]["precision"], &hard["exact"]["all"]["recall"]),
        (&json!(0.5), &json!(1.0))
    );
    assert_eq!((&hard["aliased"]["all"]["f1"], &hard["leaked"]), (&json!(1.0), &json!(1)), "{hard}");
    assert_eq!((&soft["precision"], &soft["recall"]), (&json!(1.0), &json!(0.5)), "{soft}");

    let sentence = json!({ "tokens": ["Manejo", "de", "Excel"], "tags_skill": ["O", "O", "O"],
        "tags_knowledge": ["O", "O", "B"], "source": "x" });
    let gold = site.file("sentences.jsonl", sentence.to_string());
    let found = site.run(&["eval", "spans", "--gold", &gold, "--json"]).ended(0).json();
    assert_eq!(found["source=x"]["knowledge"]["f1"], json!(1.0), "{found}");
}

fn single_texts(site: &Site) {
    let taxonomy = "uri,kind,class,language,label,preferred\n\
        x:1,skill,,es,hornear pan,1\nx:1,skill,,en,bake bread,1\nx:2,skill,,en,sell bread,1\n\
        http://x.example/occupation/9,occupation,,es,panadero,1\n";
    let own = site.file("wordings.csv", taxonomy);
    site.run(&["taxonomy", "import", "csv", &own, "--name", "wordings", "--inactive"]).ended(0);
    let table = "sentence,span,label\nhornear pan,,bake bread\nto sell bread,,sell bread\n\
        to sell bread,,LABEL NOT PRESENT\ncoser,,sew\n";
    let gold = site.file("sentences.csv", table);
    let asked = ["eval", "linking", "--gold", &gold, "--taxonomy", "wordings", "--bootstrap", "20", "--json"];
    let found = site.run(&asked).ended(0).json();
    assert_eq!(
        (&found["sentences"], &found["without_valid_label"], &found["queries"]),
        (&json!(3), &json!(1), &json!(2)),
        "{found}"
    );
    assert_eq!(
        (&found["mrr"], &found["rp@5"], &found["mrr.ci95"]),
        (&json!(1.0), &json!(1.0), &json!([1.0, 1.0]))
    );

    let folder = site.dir.path().join("titles");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in [
        ("queries.tsv", "q1\tPANADEROS\nq2\tGRUPOS\n"),
        ("annotations.tsv", "q1\t0\te1\t1\nq2\t0\te2\t1\n"),
        ("concept_mapping.tsv", "e1\thttp://x.example/occupation/9\ne2\thttp://x.example/isco/C1\n"),
        ("corpus_elements.tsv", "e1\tpanadero\ne2\tgrupos\n"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let asked =
        ["eval", "occupations", "--gold", folder.to_str().unwrap(), "--taxonomy", "wordings", "--json"];
    let found = site.run(&asked).ended(0).json();
    assert_eq!(
        (&found["surface.mrr"], &found["surface_esco.mrr"], &found["concept.success@1"]),
        (&json!(0.5), &json!(1.0), &json!(0.5)),
        "{found}"
    );
}

fn refusals(site: &Site, ads: &str) {
    // What the services refuse is missing, and the others are measured.
    let empty = json!({ "id": "c", "description": " ", "spans": [] });
    let gold = site.file("refused.jsonl", format!("{ads}{empty}\n"));
    let said = site.run(&["eval", "spans", "--gold", &gold, "--json"]).ended(1);
    assert_eq!((&said.json()["missing"], &said.json()["exact.f1"]), (&json!(1), &json!(0.75)));
    assert!(said.stderr.contains("refused.jsonl:3: `description` is missing or empty"), "{}", said.stderr);

    let gold = site.file("lists.jsonl", r#"{"job_id": 1, "hard_skills": [], "soft_skills": []}"#);
    let said = site.run(&["eval", "spans", "--gold", &gold]).ended(2);
    assert!(said.stderr.contains("lists.jsonl: `eval spans` expects"), "{}", said.stderr);
    let gold = site.file("gold.jsonl", ads);
    let said = site.run(&["eval", "skills", "--gold", &gold, "--aliases", &gold]).ended(2);
    assert!(said.stderr.contains("--aliases is for lists of skills"), "{}", said.stderr);
    let said = site.run(&["eval", "linking", "--gold", &gold, "--taxonomy", "own"]).ended(2);
    assert!(said.stderr.contains("--taxonomy is for single texts"), "{}", said.stderr);
    site.run(&["down"]).ended(0);
    let said = site.run(&["eval", "spans", "--gold", &gold, "--no-start"]).ended(2);
    assert!(said.stderr.contains("no pipeline-services answers"), "{}", said.stderr);
}
