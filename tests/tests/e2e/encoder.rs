//! The encoder that a machine without a model hub gets: its tokens and its vectors.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::site::Site;

/// What `tokens/make.py` wrote.
#[derive(Deserialize)]
struct Expected {
    count: usize,
    group: usize,
    words: Vec<String>,
    separators: Vec<String>,
    ranges: Vec<(u32, u32)>,
    sha256: Vec<String>,
}

/// The generator of `tokens/make.py`.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).unwrap()
    }

    fn text(&mut self, from: &Expected) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.below(12) {
            if self.below(3) == 0 {
                let (low, high) = from.ranges[self.below(from.ranges.len())];
                let offset = self.below((high - low + 1) as usize);
                text.push(char::from_u32(low + u32::try_from(offset).unwrap()).unwrap());
            } else {
                text.push_str(&from.words[self.below(from.words.len())]);
            }
            text.push_str(&from.separators[self.below(from.separators.len())]);
        }
        text
    }
}

#[test]
fn the_packaged_encoder_reads_and_embeds_as_its_references_do() {
    let site = Site::new();
    let imported = site.run(&["models", "import", "--packaged", "--json"]).ended(0).json();
    let folder = site.data().join("models/intfloat/multilingual-e5-small");
    assert_eq!(imported["name"], "intfloat/multilingual-e5-small", "{imported}");
    tokens_are_those_of_the_reference(&folder);
    site.run(&["up", "--wait-seconds", "120"]).ended(0);
    vectors_are_those_of(&site, include_str!("tokens/vectors.json"));
}

#[test]
fn the_trained_encoder_embeds_as_its_reference_does() {
    let site = Site::new();
    // It fills an empty store.
    site.run(&["up", "--wait-seconds", "120"]).ended(0);
    let stored = site.run(&["models", "list", "--stored", "--json"]).ended(0).json();
    assert_eq!(stored[0]["name"], "observatory/e5-small-skills", "{stored}");
    vectors_are_those_of(&site, include_str!("tokens/trained.json"));
    a_search_finds_what_is_near_and_nothing_else(&site);
    texts_are_linked_by_what_they_mean(&site);
}

/// No word of these texts stands in a label of the taxonomy.
fn texts_are_linked_by_what_they_mean(site: &Site) {
    let rows = [
        ("x:1", "skill", "conducir vehículos"),
        ("x:2", "skill", "elaborar quesos"),
        ("x:3", "skill", "negociar con proveedores"),
        ("x:4", "occupation", "cocinero/cocinera"),
        ("x:5", "skill", "programar ordenadores"),
    ];
    let table = |rows: &[(&str, &str, &str)]| {
        let mut table = "uri,kind,class,language,label,preferred\n".to_owned();
        rows.iter().for_each(|(uri, kind, label)| table += &format!("{uri},{kind},,es,{label},1\n"));
        site.file("own.csv", table)
    };
    let import = |version: &str, path: &str, extra: &[&str]| {
        let arguments = ["taxonomy", "import", "csv", path, "--version", version, "--json"];
        site.run(&[&arguments, extra].concat()).ended(0).json()[0]["vectors"].clone()
    };
    let link = |kind: &str, text: &str, taxonomy: &str| {
        let said = site.run(&["link", kind, "--text", text, "--taxonomy", taxonomy]).ended(0);
        let uri = said.lines()[0]["concepts"][0]["uri"].as_str().map(str::to_owned);
        (uri, said.stderr.contains("vectors"))
    };
    let path = table(&rows);
    assert_eq!(import("1", &path, &["--no-vectors"]), serde_json::Value::Null);
    assert_eq!(link("skill", "driver's licence for a lorry", "own@1"), (None, false));
    let embed = || site.run(&["taxonomy", "embed", "own@1", "--json"]).ended(0).json()["embedded"].clone();
    assert_eq!((embed(), embed()), (rows.len().into(), 0.into()));
    for (kind, text, expected) in [
        ("skill", "driver's licence for a lorry", "x:1"),
        ("skill", "cheese making", "x:2"),
        ("skill", "SOFTWARE DEVELOPMENT", "x:5"),
        ("occupation", "chef", "x:4"),
    ] {
        assert_eq!(link(kind, text, "own@1"), (Some(expected.to_owned()), true), "{text}");
    }
    // A further version shares the vectors of the labels that it keeps, and nothing of what it
    // lacks.
    assert_eq!(import("2", &table(&rows[2..]), &[]), "observatory/e5-small-skills");
    assert_eq!(link("skill", "hard bargaining", "own@2"), (Some("x:3".to_owned()), true));
    let listed = site.run(&["taxonomy", "list", "--json"]).ended(0).json();
    assert!(listed.as_array().unwrap().iter().all(|one| one["vectors"].is_string()), "{listed}");
}

fn a_search_finds_what_is_near_and_nothing_else(site: &Site) {
    site.run(&["postings", "import", &site.ads(120)]).ended(0);
    site.run(&["run", "start", "--stages", "extract,enhance,embed", "--watch"]).ended(0);
    for (asked, expected) in [("excel", "Excel"), ("invoicing", "Facturación"), ("facturar", "Facturación")]
    {
        let hits = site.run(&["skills", "search", asked, "--json"]).ended(0).json();
        let found = hits.as_array().unwrap().iter().map(|hit| hit["skill"].as_str().unwrap());
        assert!(
            found.clone().take(3).any(|skill| skill == expected),
            "{asked}: {:?}",
            found.collect::<Vec<_>>()
        );
    }
    for asked in ["qwertyuiop", "zxcv asdf", "!!!"] {
        let said = site.run(&["skills", "search", asked]).ended(1);
        assert!(said.stdout.is_empty() && said.stderr.contains("no skill is similar"), "{}", said.stderr);
        let all = site.run(&["skills", "search", asked, "--all", "--json"]).ended(0).json();
        assert_eq!(all.as_array().unwrap().len(), 10);
    }
}

fn tokens_are_those_of_the_reference(folder: &Path) {
    let expected: Expected = serde_json::from_str(include_str!("tokens/expected.json")).unwrap();
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let mut numbers = Numbers(42);
    for (group, sum) in expected.sha256.iter().enumerate() {
        let texts: Vec<String> = (0..expected.group).map(|_| numbers.text(&expected)).collect();
        let mut digest = Sha256::new();
        for text in &texts {
            let ids = tokenizer.encode(text.as_str(), true).unwrap().get_ids().to_vec();
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            digest.update(format!("{}\n", ids.join(" ")));
        }
        assert_eq!(&hex::encode(digest.finalize())[..16], sum, "group {group}: {texts:?}");
    }
    assert_eq!(expected.sha256.len() * expected.group, expected.count);
}

/// What a reference computes of a query, four digits a component: the package's own engine, whose
/// products have 8 bits, or the training's network before its weights are rounded to 8 bits.
#[derive(Deserialize)]
struct Vectors {
    texts: Vec<String>,
    vectors: Vec<Vec<f64>>,
}

fn vectors_are_those_of(site: &Site, reference: &str) {
    let expected: Vectors = serde_json::from_str(reference).unwrap();
    let mut arguments = vec!["infer", "embed", "--prompt", "query"];
    arguments.extend(expected.texts.iter().map(String::as_str));
    let lines = site.run(&arguments).ended(0).lines();
    assert_eq!(lines.len(), expected.texts.len());
    for (line, expected) in lines.iter().zip(&expected.vectors) {
        let vector: Vec<f64> =
            line["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine =
            product(&vector, expected) / (product(&vector, &vector) * product(expected, expected)).sqrt();
        assert!(cosine > 0.999, "{cosine}: {}", line["text"]);
    }
}
