use super::*;
use crate::reporter::document::{Filter, Language, Publication, TaxonomyUse};
use crate::reporter::sample;

fn value(document: &ReportDocument, name: &str) -> String {
    let rows = about(document, Words::of(Language::Es));
    rows.into_iter().find(|(found, _)| found == name).unwrap().1
}

#[test]
fn filters_are_words_of_the_page() {
    let mut document = sample::full();
    document.scope.filters = vec![
        Filter::Portals { names: vec!["bumeran".into(), "elempleo".into()] },
        Filter::Countries { codes: vec!["CO".into(), "MX".into()] },
        Filter::Since { seconds: 604_800, from: "2026-11-23T10:00:00Z".parse().unwrap() },
        Filter::First { postings: 10 },
    ];
    let spanish = [
        "portal: bumeran, elempleo",
        "país: Colombia, México",
        "recogidas (o publicadas, si no se sabe cuándo se recogieron) desde el 23/11/2026 10:00 UTC, 7 días antes de la ejecución",
        "solo las 10 que se guardaron primero, que no son una muestra al azar",
    ];
    assert_eq!(filters(&document, Words::of(Language::Es)), spanish);
    document.scope.filters =
        vec![Filter::Since { seconds: 3_600, from: "2026-11-23T10:00:00Z".parse().unwrap() }];
    let english = filters(&document, Words::of(Language::En));
    assert_eq!(
        english,
        [
            "collected (or published, where the day of collection is not known) since 2026-11-23 10:00 UTC, 1 hour before the run"
        ]
    );
}

#[test]
fn what_nobody_stated_is_said_to_be_missing() {
    let mut document = sample::full();
    assert_eq!(value(&document, "Autor"), "no indicado");
    assert_eq!(value(&document, "Contacto"), "no indicado");
    assert_eq!(
        value(&document, "Licencia de las cifras"),
        "no indicada; pregunte al autor antes de reutilizarlas"
    );
    assert!(value(&document, "Cómo citar").starts_with("Autor no indicado (2026). Observatorio laboral"));
    document.publication = Publication {
        author: Some("Ministerio de Ejemplo".into()),
        contact: Some(" ".into()),
        licence: Some("CC BY 4.0".into()),
    };
    assert_eq!(value(&document, "Autor"), "Ministerio de Ejemplo");
    assert_eq!(value(&document, "Contacto"), "no indicado");
    assert_eq!(value(&document, "Licencia de las cifras"), "CC BY 4.0");
    let cited = "Ministerio de Ejemplo (2026). Observatorio laboral: demanda de habilidades. Informe del 02/11/2026, \
                 2.611 ofertas, ejecución 00000000-0000-7000-8000-00000000002a. Labor Market Observatory 0.1.0.";
    assert_eq!(value(&document, "Cómo citar"), cited);
    assert_eq!(value(&document, "Programa"), "Labor Market Observatory 0.1.0, con licencia Apache-2.0");
}

/// The wording that the Commission asks of studies and reports.
const WORDING: &str = "This publication uses the ESCO classification of the European Commission.";

#[test]
fn esco_is_acknowledged_where_it_is_used_and_only_there() {
    let mut document = sample::full();
    let taxonomy = |name: &str| {
        Some(TaxonomyUse { name: name.into(), version: "1.2.1".into(), languages: Vec::new(), concepts: 9 })
    };
    document.methods.taxonomy = taxonomy("esco");
    assert!(value(&document, "ESCO").contains(WORDING) && value(&document, "ESCO").contains("versión 1.2.1"));
    document.methods.taxonomy = None;
    assert!(value(&document, "ESCO").starts_with("no utilizada"), "{}", value(&document, "ESCO"));
    document.methods.taxonomy = taxonomy("oficios");
    assert!(value(&document, "ESCO").starts_with("no utilizada"));
    document.skills[0].uri = Some("http://data.europa.eu/esco/skill/1".into());
    assert!(value(&document, "ESCO").contains(WORDING) && value(&document, "ESCO").contains("oficios 1.2.1"));
    let english = about(&document, Words::of(Language::En));
    assert!(english.iter().any(|(_, value)| value.contains(WORDING)));
}

#[test]
fn limits_name_the_accuracy_and_only_what_the_report_has() {
    let mut document = sample::full();
    let text = |document: &ReportDocument| {
        limits(document, Words::of(Language::Es)).join("\n").replace('\u{a0}', " ")
    };
    let all = text(&document);
    for words in [
        "no son el mercado laboral",
        "120 anuncios reales marcados a mano (conjunto de desarrollo, medido el 01/12/2026)",
        "era correcto el 74 % de lo que encontró y encontró el 80 % de lo marcado (F1 0,770)",
        "el 86 % de las habilidades halladas llevaba el enlace correcto y el 5 % uno equivocado",
        "casi iguales no se detectan",
        "menos de 100 ofertas no se comparan",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
    document.clusters = None;
    document.methods.taxonomy = None;
    let fewer = text(&document);
    assert_eq!(fewer.lines().count(), all.lines().count() - 2);
    assert!(!fewer.contains("enlace correcto") && !fewer.contains("Los grupos de habilidades"));
}

#[test]
fn countries_and_clusters_say_what_was_left_out() {
    let mut document = sample::full();
    let words = Words::of(Language::Es);
    assert_eq!(country_note(&document, words), None);
    document.scope.countries[2].postings = 28;
    let left_out = "No se ponen al lado de los demás: Argentina (n = 28). Con menos de 100 ofertas, un porcentaje puede \
                    apartarse más de diez puntos del que darían muchas.";
    let note =
        |document: &ReportDocument| country_note(document, words).map(|note| note.replace('\u{a0}', " "));
    assert_eq!(note(&document).as_deref(), Some(left_out));
    document.scope.countries.iter_mut().for_each(|country| country.postings = 28);
    let none = note(&document).unwrap();
    assert!(
        none.starts_with("No se comparan países: Colombia (n = 28), México (n = 28) y Argentina (n = 28)."),
        "{none}"
    );
    document.scope.countries.truncate(1);
    let one = note(&document).unwrap();
    assert_eq!(one, "Todas las ofertas son de Colombia (n = 28): no hay países que comparar.");

    let note = cluster_note(&document, words).unwrap();
    assert!(
        note.contains("las 402 habilidades de todo lo guardado") && note.contains("solo las 261"),
        "{note}"
    );
    document.scope.filters.clear();
    document.clusters.iter_mut().for_each(|section| section.analysed = section.metrics.points);
    assert_eq!(cluster_note(&document, words), None);
}
