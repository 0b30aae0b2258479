//! Imported lines that are damaged in ways nobody thought of: taken or refused, never a panic, and
//! never much longer.

use chrono::{DateTime, Utc};

use super::{parse, prepare};

#[test]
fn imported_lines() {
    let now: DateTime<Utc> = "2026-11-23T12:00:00Z".parse().expect("a moment");
    let countries = ["CO".to_owned()];
    let line = r#"{"portal":"file","country":"CO","url":"https://p.example/1","id":17,"title":"Panadero","company":"ACME","location":"Bogotá","description":"Hornear pan todos los días","requirements":"3 años","salary_raw":"$ 1.300.000 a 2.000.000","posted_date":"2026-11-20","scraped_at":"2026-11-21T00:00:00Z","contract_type":"fijo"}"#;
    observatory_mutator::texts("imported lines", &[line, "{\"title\":\"\\u0000\\ud83d\"}"], |text| {
        let prepared = parse(text).and_then(|posting| prepare(posting, &countries, now));
        match prepared {
            Ok(prepared) => {
                let preview = prepared.preview().to_string();
                assert!(preview.len() <= 20 * text.len() + 5_000, "{} bytes", preview.len());
            }
            Err(refusal) => assert!(refusal.to_string().len() <= 4 * text.len() + 1_000, "{refusal}"),
        }
    });
}
