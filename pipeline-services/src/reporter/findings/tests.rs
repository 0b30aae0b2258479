use super::*;
use crate::reporter::document::{CategoryRow, CountryCount, Language};
use crate::reporter::sample;

/// A document of 1,000 postings in which every sentence has its reason.
fn document() -> ReportDocument {
    let mut document = sample::full();
    let template = document.skills[0].clone();
    let skill = |label: &str, kind: &str, category: &str, count: u64, countries: [u64; 2]| SkillRow {
        label: label.to_owned(),
        kind: kind.to_owned(),
        category: category.to_owned(),
        job_count: count,
        implicit_count: 0,
        countries: ["AR", "CO"]
            .iter()
            .zip(countries)
            .map(|(code, count)| CountryCount { country: (*code).to_owned(), job_count: count })
            .collect(),
        ..template.clone()
    };
    document.scope.postings = 1_000;
    document.scope.countries.truncate(2);
    for (country, (code, postings)) in document.scope.countries.iter_mut().zip([("AR", 700), ("CO", 300)]) {
        (country.code, country.postings) = (code.to_owned(), postings);
    }
    document.skills = vec![
        skill("Trabajo en equipo", "soft", "soft", 320, [224, 96]),
        skill("Inglés", "hard", "language", 300, [210, 90]),
        skill("Excel", "hard", "tool", 250, [105, 145]),
        skill("SAP", "hard", "tool", 120, [84, 36]),
        skill("Contabilidad", "hard", "knowledge", 90, [63, 27]),
        skill("Python", "hard", "technology", 40, [28, 12]),
    ];
    let rare = (1..=5).map(|i| skill(&format!("Oficio {i}"), "hard", "knowledge", 5, [0, 0]));
    document.skills.extend(rare);
    document.categories = vec![CategoryRow { category: "soft".to_owned(), skills: 9, job_count: 550 }];
    document.totals.skills = 400;
    document.totals.postings_with_skills = 980;
    document.totals.postings_with_digital = 410;
    document.totals.explicit_mentions = 5_000;
    document.totals.implicit_mentions = 250;
    document.totals.mentions_with_uri = 2_100;
    if let Some(taxonomy) = &mut document.methods.taxonomy {
        taxonomy.name = "esco".to_owned();
    }
    document
}

fn spanish(document: &ReportDocument) -> Vec<String> {
    findings(document, Words::of(Language::Es)).iter().map(|text| text.replace('\u{a0}', " ")).collect()
}

/// Whether a change of the document takes the sentence with `words` away, and no other one.
#[track_caller]
fn takes_away(words: &str, change: impl Fn(&mut ReportDocument)) {
    let before = spanish(&document());
    assert_eq!(before.iter().filter(|text| text.contains(words)).count(), 1, "{words}: {before:#?}");
    let mut changed = document();
    change(&mut changed);
    let after = spanish(&changed);
    assert!(after.iter().all(|text| !text.contains(words)), "{words}: {after:#?}");
    assert_eq!(after.len(), before.len() - 1, "{after:#?}");
}

#[test]
fn the_sentences_say_what_the_figures_say() {
    let expected = [
        "980 de las 1.000 ofertas (98,0 %) nombran alguna habilidad; en total se distinguen 400.",
        "Las habilidades técnicas que más ofertas nombran son Excel (25,0 %), SAP (12,0 %) y Contabilidad (9,0 %); \
         n = 1.000.",
        "550 de las 1.000 ofertas (55,0 %) nombran alguna habilidad blanda; la más frecuente es Trabajo en equipo \
         (32,0 %).",
        "410 de las 1.000 ofertas (41,0 %) nombran alguna tecnología o programa informático.",
        "Entre las 11 habilidades más nombradas, la mayor diferencia entre los dos países con más ofertas es la de \
         Excel: 48,3 % en Colombia (intervalo 42,7–54,0 %; n = 300), frente a 15,0 % en Argentina (intervalo \
         12,5–17,8 %; n = 700). Los intervalos del 95 % no se tocan.",
        "Las diez habilidades más nombradas reúnen el 22,8 % de las 5.000 menciones; el resto se reparte entre las \
         demás de las 400.",
        "Otras 250 habilidades se deducen sin que la oferta las nombre (4,8 % de 5.250); no cuentan en ningún \
         porcentaje ni orden.",
        "2.100 de 5.250 menciones y deducciones (40,0 %) están enlazadas con un concepto de ESCO; las demás se \
         cuentan por su nombre.",
    ];
    assert_eq!(spanish(&document()), expected);
    let english = findings(&document(), Words::of(Language::En));
    assert_eq!(english.len(), expected.len());
    let technical = "The technical skills that most postings name are Excel (25.0%), SAP (12.0%) and Contabilidad (9.0%); n\u{a0}=\u{a0}1,000.";
    assert_eq!(english[1], technical);
    assert!(english.iter().all(|text| !text.contains('{')), "{english:?}");
}

#[test]
fn too_few_postings_are_not_interpreted() {
    for postings in [1, 28, 99] {
        let mut document = document();
        document.scope.postings = postings;
        let expected = format!(
            "Con {postings} ofertas, menos de 100, las cifras no se interpretan: las tablas solo enumeran lo que se encontró."
        );
        assert_eq!(spanish(&document), [expected]);
    }
    assert_eq!(spanish(&sample::empty()), [""; 0]);
}

#[test]
fn ties_have_no_first() {
    let technical = |counts: [u64; 4]| {
        let mut document = document();
        let labels = ["Excel", "SAP", "Contabilidad", "Python"];
        for (label, count) in labels.iter().zip(counts) {
            document
                .skills
                .iter_mut()
                .filter(|skill| skill.label == *label)
                .for_each(|skill| skill.job_count = count);
        }
        let found = spanish(&document).into_iter().find(|text| text.contains("técnica"));
        found.map(|text| text.split_once(" son ").map_or(text.clone(), |(_, skills)| skills.to_owned()))
    };
    let check = |counts, expected: Option<&str>| {
        assert_eq!(technical(counts).as_deref(), expected, "{counts:?}");
    };
    check([250, 120, 90, 90], Some("Excel (25,0 %) y SAP (12,0 %); n = 1.000."));
    check(
        [250, 90, 90, 90],
        Some("La habilidad técnica que más ofertas nombran es Excel (25,0 %); n = 1.000."),
    );
    check([90, 90, 90, 90], None);
    check([90, 90, 90, 40], Some("Contabilidad (9,0 %), Excel (9,0 %) y SAP (9,0 %); n = 1.000."));
    check([9, 8, 7, 6], None);
    check([250, 9, 8, 7], Some("La habilidad técnica que más ofertas nombran es Excel (25,0 %); n = 1.000."));

    let mut document = document();
    document.skills[1].kind = "soft".to_owned();
    document.skills[1].job_count = document.skills[0].job_count;
    let soft = spanish(&document).into_iter().find(|text| text.contains("blanda")).unwrap();
    assert_eq!(soft, "550 de las 1.000 ofertas (55,0 %) nombran alguna habilidad blanda.");
}

#[test]
fn sentences_without_their_figures_are_left_out() {
    takes_away("blanda", |d| d.categories.clear());
    takes_away("blanda", |d| d.categories[0].job_count = 9);
    takes_away("programa informático", |d| d.totals.postings_with_digital = 9);
    takes_away("se distinguen", |d| d.totals.postings_with_skills = 0);
    takes_away("Las diez", |d| d.totals.skills = 49);
    takes_away("Las diez", |d| d.skills.truncate(9));
    takes_away("se deducen", |d| d.totals.implicit_mentions = 0);
    takes_away("enlazadas", |d| d.methods.taxonomy = None);
    takes_away("enlazadas", |d| d.totals.mentions_with_uri = 0);
}

#[test]
fn countries_are_told_apart_only_where_they_are() {
    let excel = |d: &mut ReportDocument, counts: [u64; 2]| {
        d.skills[2].countries.iter_mut().zip(counts).for_each(|(country, count)| country.job_count = count);
    };
    takes_away("países", |d| d.scope.countries[1].postings = 99);
    takes_away("países", |d| d.scope.countries.truncate(1));
    // 15.0 % of 700 and 20.0 % of 300: 12.5–17.8 and 15.9–24.9 overlap.
    takes_away("países", |d| excel(d, [105, 60]));
    // Nine postings of one country: the skill may have another name there.
    takes_away("países", |d| excel(d, [350, 9]));
    // Apart, but by less than five points.
    takes_away("países", |d| {
        d.scope.countries[0].postings = 20_000;
        d.scope.countries[1].postings = 20_000;
        d.skills.iter_mut().for_each(|skill| skill.countries.iter_mut().for_each(|c| c.job_count = 100));
        excel(d, [3_000, 3_900]);
    });
    // Two skills differ by the same, so that neither differs most.
    takes_away("países", |d| {
        let countries = d.skills[2].countries.clone();
        d.skills[3].countries = countries;
    });
}

#[test]
fn lists_and_numbers_are_those_of_the_language() {
    let list = |language, items: &[&str]| {
        Words::of(language).list(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(list(Language::Es, &["Excel", "Inglés"]), "Excel e Inglés");
    assert_eq!(list(Language::Es, &["Excel", "Hidráulica"]), "Excel e Hidráulica");
    assert_eq!(list(Language::Es, &["Excel", "Hierro", "Ionómero"]), "Excel, Hierro y Ionómero");
    assert_eq!(list(Language::Es, &["SAP", "SQL"]), "SAP y SQL");
    assert_eq!(list(Language::En, &["Excel", "Inglés", "SQL"]), "Excel, Inglés and SQL");
    assert_eq!(list(Language::Es, &["Excel"]), "Excel");
    assert_eq!(list(Language::Es, &[]), "");
}
