//! The built-in report template, on the invented document and on worse ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::process::Command;

use observatory_typeset::{Job, Template, TypesetError, typeset};
use serde_json::{Value, json};

/// The invented document with a few rows of each table.
fn document() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("../../reports/example.json")).unwrap();
    for (table, rows) in
        [("/skills", 8), ("/clusters/clusters", 4), ("/clusters/points", 4), ("/evidence", 3)]
    {
        document.pointer_mut(table).unwrap().as_array_mut().unwrap().truncate(rows);
    }
    document
}

/// Data as the pipeline gives it to a template, without charts.
fn data(document: Value) -> Value {
    let words: Value = serde_json::from_str(include_str!("../../reports/words.json")).unwrap();
    let language = document["language"].as_str().unwrap();
    json!({
        "words": words[language],
        "title": document["title"].as_str().unwrap_or("Observatorio laboral"),
        "notices": ["Ejecución parcial: #1 *no* es $x$."],
        "findings": ["Las habilidades que más se nombran son Excel (36,0 %) y C#; n = 2.611."],
        "filters": ["vistas desde el 03/09/2026 14:31 UTC (60 días antes de la ejecución)"],
        "rankings": rankings(&document),
        "country_note": "No se ponen al lado de los demás: Perú (n = 28).",
        "cluster_note": null,
        "occupation_note": "1.077 de las 2.611 ofertas (41,2 %) no tienen ocupación.",
        "cautions": ["Los anuncios en línea no son el mercado laboral."],
        "parameters": [["umap.n_neighbors", "15"], ["vectores", "example/encoder-small @ 3f2a9c0d11e84b7796aa"]],
        "about": [["Autor", "no indicado"], ["Licencia de las cifras", "CC BY 4.0"]],
        "charts": {},
        "limits": {
            "skills": 40, "country_skills": 15, "occupations": 25, "clusters": 40, "top_skills": 6, "evidence": 15, "quotes": 2, "decimals_from": 100,
        },
        "document": document,
    })
}

/// Each country with the skills of the document.
fn rankings(document: &Value) -> Vec<Value> {
    let rows: Vec<Value> = document["skills"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skill| json!([skill["label"], "12,5 %", "10,9–14,3 %"]))
        .collect();
    let countries = document["scope"]["countries"].as_array().unwrap().iter();
    countries
        .map(|c| json!({"code": c["code"], "name": c["code"], "postings": c["postings"], "rows": rows}))
        .collect()
}

fn job(data: &Value) -> Job {
    Job {
        template: Template::Builtin("report".into()),
        data: serde_json::to_vec(data).unwrap(),
        assets: None,
        fonts: None,
        standards: vec!["ua-1".into()],
    }
}

#[test]
fn the_report_is_accessible_and_the_same_each_time() {
    let job = job(&data(document()));
    let first = typeset(&job).unwrap();
    let second = typeset(&job).unwrap();
    assert!(first.pdf.starts_with(b"%PDF-"));
    assert!(first.pages >= 4, "{}", first.pages);
    assert_eq!(first.warnings, [""; 0]);
    assert!(first.pdf == second.pdf, "two runs differ");
}

/// The document with as many rows as a store of thousands of postings gives.
fn large() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("../../reports/example.json")).unwrap();
    let repeat = |rows: &mut Value, times: usize| {
        let rows = rows.as_array_mut().unwrap();
        *rows = rows.iter().cloned().cycle().take(rows.len() * times).collect();
    };
    for (table, times) in [
        ("/skills", 3),
        ("/clusters/clusters", 6),
        ("/evidence", 5),
        ("/categories", 2),
        ("/occupations/rows", 4),
    ] {
        repeat(document.pointer_mut(table).unwrap(), times);
    }
    document
}

/// Pictures as high as the highest chart, below `folder`.
fn charts(folder: &Path) -> Value {
    let chart = |name: &str| {
        let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='760' height='450'><rect width='760' height='450'/></svg>";
        std::fs::write(folder.join(format!("{name}.svg")), svg).unwrap();
        json!({"file": format!("{name}.svg"), "alt": name})
    };
    let names = ["top_skills", "country_skills", "occupations", "categories", "cluster_map"];
    names.into_iter().map(|name| (name.to_owned(), chart(name))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn no_page_but_the_last_is_less_than_half_full() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, document: Value, with_charts: bool, least_pages: usize| {
        let mut data = data(document);
        for (key, sentences) in [("findings", 8), ("cautions", 8), ("about", 7)] {
            let rows = data[key].as_array_mut().unwrap();
            *rows = rows.iter().cloned().cycle().take(sentences).collect();
        }
        if with_charts {
            data["charts"] = charts(folder.path());
        }
        let assets = with_charts.then(|| folder.path().to_owned());
        let result = typeset(&Job { assets, ..job(&data) }).unwrap();
        assert!(result.pages >= least_pages, "{name}: {} pages", result.pages);
        let (_, before) = result.depths.split_last().unwrap();
        for (page, depth) in before.iter().enumerate() {
            assert!(
                *depth > 0.5,
                "{name}: page {} reaches down to {depth:.2}: {:?}",
                page + 1,
                result.depths
            );
        }
    };
    let full = || serde_json::from_str(include_str!("../../reports/example.json")).unwrap();
    check("small, no charts", document(), false, 4);
    check("small", document(), true, 5);
    check("example", full(), true, 7);
    check("large", large(), true, 10);
    // The length of the first table moves what follows it.
    for rows in (9..40).step_by(3) {
        let mut document: Value = full();
        document["skills"].as_array_mut().unwrap().truncate(rows);
        check(&format!("{rows} skills"), document, true, 6);
    }
}

#[test]
fn depths_are_measured() {
    let check = |template: &str, expected: &[f64]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.typ");
        std::fs::write(&path, format!("#set document(title: \"t\")\n#set page(width: 10cm, height: 10cm, margin: 1cm, footer: [x])\n{template}"))
            .unwrap();
        let found =
            typeset(&Job { template: Template::File(path), standards: Vec::new(), ..job(&json!({})) })
                .unwrap();
        assert_eq!(found.depths.len(), expected.len(), "{template}");
        for (depth, expected) in found.depths.iter().zip(expected) {
            assert!((depth - expected).abs() < 0.02, "{template}: {:?}", found.depths);
        }
    };
    check("#rect(width: 1cm, height: 4cm)", &[0.5]);
    check(
        "#pad(top: 2cm, box(rect(width: 1cm, height: 1cm)))\n#pagebreak()\n#rect(width: 1cm, height: 8cm)",
        &[0.4, 0.9],
    );
}

/// A reader copies the text of the data as it is: no invisible spaces, no hyphen that the layout
/// put in.
#[test]
fn long_names_are_cut_without_a_trace() {
    let template = include_str!("../../reports/report.typ");
    assert!(!template.contains("200b") && !template.contains("hyphenate: true"));
}

#[test]
fn the_report_speaks_both_languages() {
    let mut english = document();
    english["language"] = json!("en");
    let pdf = typeset(&job(&data(english))).unwrap().pdf;
    let holds = |needle: &[u8]| pdf.windows(needle.len()).any(|w| w == needle);
    assert!(holds(b"/Lang") && holds(b"(en)"));
}

#[test]
fn an_empty_document_is_a_short_report() {
    let mut document = document();
    let scope = &mut document["scope"];
    for (field, value) in [("postings", json!(0)), ("countries", json!([])), ("portals", json!([]))] {
        scope[field] = value;
    }
    scope["published"] = Value::Null;
    for field in ["skills", "categories", "evidence", "models"] {
        document[field] = json!([]);
    }
    document["clusters"] = Value::Null;
    document["run"]["stages"] = json!([]);
    let mut data = data(document);
    data["notices"] = json!([]);
    assert!(typeset(&job(&data)).unwrap().pages <= 5);
}

#[test]
fn no_text_is_markup() {
    let hostile = [
        "#panic(\"typst\") *b* _i_ @ref <label> `raw` \\ // x /* c */",
        "= heading\n- list $x^2$ [content] #{1/0}",
        "\u{202e}\u{0}\u{7} \u{1f600}\u{1f680} 漢字",
        "palabrainterminablesinespacios-palabrainterminablesinespacios-palabrainterminable",
        "",
    ];
    let mut document = document();
    poison(&mut document, &mut hostile.into_iter().cycle());
    document["title"] = json!(hostile.join(" "));
    let result = typeset(&job(&data(document)));
    assert!(result.is_ok(), "{}", result.unwrap_err());
}

/// Puts the next of `texts` wherever free text stands.
fn poison(value: &mut Value, texts: &mut impl Iterator<Item = &'static str>) {
    const FREE: &[&str] = &[
        "label",
        "category",
        "portal",
        "name",
        "before",
        "surface",
        "after",
        "job_id",
        "url",
        "field",
        "embedding_model",
        "code_version",
        "lexicon_version",
        "device",
        "revision",
        "value",
        "state",
        "stage",
        "role",
        "run_id",
    ];
    match value {
        Value::Array(items) => items.iter_mut().for_each(|v| poison(v, texts)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(old) if FREE.contains(&name.as_str()) => {
                        *old = texts.next().unwrap().to_owned();
                    }
                    Value::Array(items) if name == "top_skills" || name == "method" => {
                        items.fill(json!(texts.next()));
                    }
                    _ => poison(value, texts),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn faults_of_a_template_are_placed() {
    let folder = tempfile::tempdir().unwrap();
    let check = |template: &str, expected: &str| {
        let path = folder.path().join("mine.typ");
        std::fs::write(&path, template).unwrap();
        let job = Job { template: Template::File(path), ..job(&json!({"a": "x"})) };
        let error = typeset(&job).unwrap_err();
        assert!(matches!(error, TypesetError::Template(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("= A\n\n#unknown-thing", "mine.typ:3:2: error: unknown variable: unknown-thing");
    check("#json(\"/report.json\").b", "mine.typ:1:23: error: dictionary does not contain key \"b\"");
    check("#image(\"/assets/none.png\")", "mine.typ:1:8: error: file not found");
    check("#import \"@preview/x:1.0.0\"", "packages are not available");
    check("#read(\"/../../etc/passwd\")", "would escape the project root");
    check("#datetime.today()", "unable to get the current date");
}

#[test]
fn a_template_reads_data_assets_and_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("pictures")).unwrap();
    write("pictures/a.svg", "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>");
    write("part.typ", "#let part = [neighbour]");
    write(
        "mine.typ",
        "#import \"part.typ\": part\n#set document(title: \"t\")\n= #json(\"/report.json\").a\n#part #image(\"/assets/a.svg\", alt: \"a\")",
    );
    let job = Job {
        template: Template::File(folder.path().join("mine.typ")),
        assets: Some(folder.path().join("pictures")),
        ..job(&json!({"a": "heading"}))
    };
    assert_eq!(typeset(&job).unwrap().pages, 1);
}

#[test]
fn bad_inputs_are_named() {
    let good = job(&data(document()));
    let check = |job: Job, expected: &str| {
        let error = typeset(&job).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(Job { data: b"{".to_vec(), ..good.clone() }, "not valid JSON");
    check(Job { standards: vec!["ua-9".into()], ..good.clone() }, "unknown PDF standard `ua-9`");
    check(Job { template: Template::parse("/no/such.typ"), ..good.clone() }, "/no/such.typ");
    check(Job { fonts: Some("/no/fonts".into()), ..good }, "/no/fonts");
}

fn program(folder: &Path, out: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_typeset"));
    command.arg("--data").arg(folder.join("data.json")).arg("--out").arg(out);
    command.output().unwrap()
}

#[test]
fn the_program_replaces_its_output_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.pdf");
    std::fs::write(folder.path().join("data.json"), serde_json::to_vec(&data(document())).unwrap()).unwrap();
    std::fs::write(&out, "old").unwrap();
    let done = program(folder.path(), &out);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let first = std::fs::read(&out).unwrap();
    assert!(first.starts_with(b"%PDF-"));
    assert!(program(folder.path(), &out).status.success());
    assert!(first == std::fs::read(&out).unwrap(), "two runs differ");

    std::fs::write(folder.path().join("data.json"), "{").unwrap();
    let failed = program(folder.path(), &out);
    assert_eq!(failed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("not valid JSON"));
    assert!(first == std::fs::read(&out).unwrap(), "a failure touched the output");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);

    let nowhere = program(folder.path(), Path::new("/proc/no/report.pdf"));
    assert_eq!(nowhere.status.code(), Some(2));
}
