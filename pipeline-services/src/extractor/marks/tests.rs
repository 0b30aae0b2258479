//! The tagger on advertisements it has not seen, and how marks and names become one.

use std::{io::Read, path::Path, sync::Arc};

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    domain::posting::{Document, Field},
    extractor::{Extractor, Patterns},
};

#[derive(Deserialize)]
struct Ad {
    id: String,
    description: String,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
struct Span {
    start: u32,
    end: u32,
}

/// Advertisements of a file in the repository.
fn ads(path: &str) -> Vec<Ad> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns whether nothing is ever learned from an advertisement (tests/data/README.md).
fn is_of_the_test_part(ad: &Ad) -> bool {
    Sha256::digest(&ad.id)[0] < 46
}

fn overlaps(left: Span, right: Span) -> bool {
    let shared = left.end.min(right.end).saturating_sub(left.start.max(right.start));
    2 * shared >= left.end.max(right.end) - left.start.min(right.start)
}

fn extractor() -> Extractor {
    let lexicon = Arc::new(Lexicon::built_in().unwrap());
    Extractor::new(lexicon, Arc::new(Patterns::built_in().unwrap()), None).unwrap()
}

/// Falls when words, features or the names of the lexicon change and the model is not trained
/// again.
#[test]
fn the_tagger_finds_what_readers_marked() {
    let extractor = extractor();
    let (mut marked, mut found, mut hit, mut right) = (0, 0, 0, 0);
    for ad in ads("../tests/data/written-ads.jsonl.gz").iter().filter(|ad| is_of_the_test_part(ad)) {
        let document = Document { description: ad.description.clone(), ..Document::default() };
        let mentions = extractor.extract(&document).mentions;
        let spans: Vec<Span> = mentions
            .iter()
            .filter(|mention| mention.field == Field::Description)
            .map(|mention| Span { start: mention.start, end: mention.end })
            .collect();
        (marked, found) = (marked + ad.spans.len(), found + spans.len());
        hit += ad.spans.iter().filter(|mark| spans.iter().any(|span| overlaps(**mark, *span))).count();
        right += spans.iter().filter(|span| ad.spans.iter().any(|mark| overlaps(*mark, **span))).count();
    }
    let (recall, precision) = (hit as f64 / marked as f64, right as f64 / found as f64);
    assert!(recall > 0.84 && precision > 0.84, "recall {recall:.3}, precision {precision:.3}");
}

#[test]
fn the_training_advertisements_are_sound() {
    let ads = ads("tagging/training/ads.jsonl.gz");
    assert!(ads.len() > 700);
    for ad in &ads {
        assert!(!is_of_the_test_part(ad), "{} would never be learned from", ad.id);
        let letters: Vec<char> = ad.description.chars().collect();
        for span in &ad.spans {
            let words = &letters[span.start as usize..span.end as usize];
            assert!(!words.is_empty() && !words[0].is_whitespace(), "{} at {}", ad.id, span.start);
        }
    }
}

#[test]
fn a_mark_keeps_its_words_and_takes_over_the_name_in_them() {
    let text = "Buscamos para nuestra planta una persona con experiencia en el puesto. Funciones: liquidación de sueldos y \
                jornales, atención al cliente interno. Requisitos: manejo de planilla Excel y trabajo en equipo.";
    let document = Document { description: text.to_owned(), ..Document::default() };
    let mentions = extractor().extract(&document).mentions;
    let names: Vec<&str> = mentions.iter().map(|mention| mention.label.as_str()).collect();
    assert!(names.contains(&"Excel") && names.contains(&"Trabajo en equipo"), "{names:?}");
    assert!(mentions.iter().all(|mention| mention.methods.contains(&Method::Tagger)), "{mentions:?}");
    let duties = mentions.iter().filter(|mention| mention.place == Some(crate::domain::skill::Place::Duty));
    assert!(duties.count() >= 2, "{mentions:?}");
}

#[test]
fn labels_are_written_as_names() {
    for (surface, expected) in [
        ("atención  al\ncliente", "Atención al cliente"),
        ("ATENCIÓN AL CLIENTE", "Atención al cliente"),
        ("SAP", "SAP"),
        ("manejo de SQL", "Manejo de SQL"),
    ] {
        assert_eq!(label(surface), expected);
    }
}
