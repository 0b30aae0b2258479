use super::*;

const ES: Language = Language::Es;
const EN: Language = Language::En;

#[test]
fn every_language_has_every_word() {
    let spanish: Vec<_> = Words::of(ES).table().keys().collect();
    let english: Vec<_> = Words::of(EN).table().keys().collect();
    assert!(spanish.len() > 150);
    assert_eq!(spanish, english);
}

/// Templates ask for words by key; a misspelt key would be printed as it is.
#[test]
fn every_key_used_by_a_template_exists() {
    let table = Words::of(ES).table();
    let used = |text: &str, pattern: &str| -> Vec<String> {
        let pattern = regex::Regex::new(pattern).unwrap();
        pattern.captures_iter(text).map(|c| c[1].to_owned()).collect()
    };
    let typst = used(include_str!("../../../reports/report.typ"), r#"\b(?:w|say)\("([a-z_.]+)""#);
    let html = used(include_str!("../../../reports/explorer.html"), r"\{w:([a-z_.]+)\}");
    assert!(typst.len() > 40 && html.len() > 5, "{} {}", typst.len(), html.len());
    for key in typst.iter().chain(&html) {
        assert!(table.contains_key(key), "no word for {key}");
    }
}

#[test]
fn numbers_follow_the_language() {
    let check = |language, value: f64, places, expected: &str| {
        assert_eq!(Words::of(language).decimal(value, places), expected);
    };
    check(ES, 0.0, 1, "0,0");
    check(ES, 1234.56, 1, "1.234,6");
    check(EN, 1234.56, 1, "1,234.6");
    check(EN, 999_999.0, 0, "999,999");
    check(EN, -0.123, 3, "\u{2212}0.123");
    check(EN, -0.0001, 2, "0.00");
    check(EN, 0.25, 1, "0.3");
    check(ES, 2.5, 0, "3");
    assert_eq!(Words::of(ES).count(1_234_567), "1.234.567");
    assert_eq!(Words::of(ES).count(999), "999");
    assert_eq!(Words::of(ES).share(1, 8), "13\u{a0}%");
    assert_eq!(Words::of(ES).share(25, 200), "12,5\u{a0}%");
    assert_eq!(Words::of(EN).share(25, 200), "12.5%");
    assert_eq!(Words::of(EN).share(99, 99), "100%");
    assert_eq!(Words::of(ES).interval(657, 3_109), "19,7–22,6\u{a0}%");
    assert_eq!(Words::of(EN).interval(3, 28), "4–27%");
    assert_eq!(Words::of(EN).interval(0, 0), "—");
    assert_eq!(Words::of(EN).share(0, 0), "—");
}

#[test]
fn dates_and_durations_follow_the_language() {
    let day = NaiveDate::from_ymd_opt(2026, 3, 9).unwrap();
    let later = NaiveDate::from_ymd_opt(2026, 4, 1).unwrap();
    assert_eq!(Words::of(ES).date(day), "09/03/2026");
    assert_eq!(Words::of(EN).date(day), "2026-03-09");
    assert_eq!(Words::of(ES).range(DateRange { from: day, to: later }), "09/03/2026 a 01/04/2026");
    assert_eq!(Words::of(ES).range(DateRange { from: day, to: day }), "09/03/2026");
    let check = |milliseconds, expected: &str| assert_eq!(Words::of(EN).duration(milliseconds), expected);
    check(0, "0.0 s");
    check(59_940, "59.9 s");
    check(61_000, "1 min 1 s");
    check(7_260_000, "2 h 1 min");
}

#[test]
fn placeholders_are_filled_once() {
    let check = |template: &str, expected: &str| {
        let value = |name: &str| (name == "a").then(|| "{b}{a}".to_owned());
        assert_eq!(fill(template, value), expected);
    };
    check("x {a} y", "x {b}{a} y");
    check("{a}{a}", "{b}{a}{b}{a}");
    check("{unknown} {", "{unknown} {");
    check("", "");
}

#[test]
fn unknown_values_are_printed_as_they_are() {
    let words = Words::of(ES);
    assert_eq!(words.value("stage", "extract"), "Extracción");
    assert_eq!(words.value("stage", "new_stage"), "new stage");
    assert_eq!(words.country("CO", &[]), "Colombia");
    assert_eq!(words.country("ZZ", &[]), "ZZ");
    let named = CountryScope { code: "ZZ".into(), name: Some("Zeta".into()), postings: 1 };
    assert_eq!(words.country("ZZ", &[named]), "Zeta");
}

/// Spanish pages hold no English word of ours: the two tables share only names, units and what both
/// languages write alike.
#[test]
fn spanish_words_are_spanish() {
    let (spanish, english) = (Words::of(ES).table(), Words::of(EN).table());
    let same: Vec<&str> = spanish
        .iter()
        .filter(|(key, text)| {
            english.get(*key) == Some(*text) && text.chars().filter(|c| c.is_alphabetic()).count() > 3
        })
        .map(|(key, _)| key.as_str())
        .filter(|key| !key.starts_with("country."))
        .collect();
    assert_eq!(
        same,
        ["about.esco", "clusters.davies_bouldin", "filter.portals", "occupations.cuoc", "readme.file"]
    );
}

#[test]
fn notices_are_told_in_the_language_of_the_page() {
    let skipped = Notice::PartialRun {
        stage: "embed".into(),
        reason: Some("embed was skipped: there are no skills to embed".into()),
    };
    assert_eq!(
        Words::of(ES).notice(&skipped),
        "Ejecución parcial: la etapa «Vectores» no pudo completar todo su trabajo. Motivo: no hay habilidades que \
         convertir en vectores."
    );
    let invented = Words::of(EN).notice(&Notice::InventedPostings);
    assert!(
        invented.contains("invented for demonstration") && invented.contains("no labour market"),
        "{invented}"
    );
    let few = Words::of(ES).notice(&Notice::FewPostings { postings: 28 });
    assert!(few.contains("28 ofertas") && few.contains("menos de 100"), "{few}");
}

/// What is counted on the page of data quality has a name of its own; a new kind needs one here.
#[test]
fn kinds_of_removed_data_have_names() {
    for kind in crate::privacy::Kind::ALL.map(crate::privacy::Kind::name).into_iter().chain(["url"]) {
        assert!(Words::of(ES).table().contains_key(&format!("personal.{kind}")), "{kind}");
    }
    let intake = include_str!("../../intake.rs");
    let refused = regex::Regex::new(r#"(?:refuse|refuse_value|refusal)\("([a-z_]+)""#).unwrap();
    let fields: Vec<&str> =
        refused.captures_iter(intake).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(fields.len() > 8, "{fields:?}");
    for field in fields {
        assert!(Words::of(ES).table().contains_key(&format!("refused.{field}")), "{field}");
    }
}
