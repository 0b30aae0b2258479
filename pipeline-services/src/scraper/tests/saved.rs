//! Real pages, where the shared test data is at hand.

use std::{env, fs, path::PathBuf};

use super::{PageError, Reading};
use crate::scraper::document::Fields;

/// A saved page; says so and gives none where the data is absent.
fn saved(name: &str) -> Option<String> {
    let Some(folder) = env::var_os("OBSERVATORY_TESTDATA").map(PathBuf::from) else {
        println!("skipped: OBSERVATORY_TESTDATA is not set");
        return None;
    };
    let path = folder.join("portal-pages").join(name);
    Some(fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn get<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    fields.get(name).map(String::as_str)
}

fn filled(cards: &[Fields], name: &str) -> usize {
    cards.iter().filter(|card| card.contains_key(name)).count()
}

/// No template braces, no words of buttons.
fn assert_no_leak(cards: &[Fields]) {
    for text in cards.iter().flat_map(|card| card.values()) {
        for leak in ["{{", "Postulado", "Vista", "Postular", "Ocultar"] {
            assert!(!text.contains(leak), "{leak} in {text}");
        }
    }
}

#[test]
fn computrabajo_listing_of_argentina() {
    let Some(text) = saved("computrabajo/listing_ar_python_2025.html") else { return };
    let reading = Reading::new("computrabajo", "AR");
    let listing = reading.listing(&text).unwrap();
    let cards = &listing.cards;
    assert_eq!((cards.len(), listing.homeless, listing.total.is_some()), (20, 0, true));
    assert_eq!(listing.next.unwrap().as_str(), "https://ar.computrabajo.com/trabajo-de-python?p=2");
    for field in ["external_id", "title", "url", "location", "posted_date"] {
        assert_eq!(filled(cards, field), 20, "{field}");
    }
    assert!(filled(cards, "company") >= 15 && filled(cards, "remote_type") >= 5);
    assert!(
        cards
            .iter()
            .all(|card| card["external_id"].len() == 32 && card["url"].ends_with(&card["external_id"]))
    );
    let first = &cards[0];
    assert_eq!(get(first, "title"), Some("Senior Python Developer"));
    assert_eq!(get(first, "location"), Some("Monserrat, Capital Federal"));
    assert_eq!(get(first, "company"), Some("Kaizen Recursos Humanos"));
    assert_eq!(get(first, "remote_type"), Some("Remoto"));
    assert_eq!(get(first, "posted_date"), Some("2026-11-20"));
    assert_no_leak(cards);
    // The pane of the first ad stands next to the listing.
    let detail = reading.detail(first, &text).unwrap().unwrap();
    assert!(detail["description"].trim().starts_with("En KaizenRH buscamos"));
    assert!(detail["description"].trim().ends_with("de 09 a 18 hs."));
    assert!(detail["requirements"].contains("5 años de experiencia"));
    assert_eq!(get(&detail, "contract_type"), Some("Contrato por tiempo indeterminado"));
    assert_eq!(get(&detail, "remote_type"), Some("Remoto"));
    assert_no_leak(&[detail]);
}

#[test]
fn computrabajo_of_colombia() {
    let Some(text) = saved("computrabajo/listing_co_trimmed_2026.html") else { return };
    let reading = Reading::new("computrabajo", "CO");
    let listing = reading.listing(&text).unwrap();
    let [first, second] = listing.cards.as_slice() else { panic!("two cards, not {}", listing.cards.len()) };
    assert_eq!(listing.next, None);
    assert_eq!(get(first, "external_id"), Some("067CFDC9FD215E0B61373E686DCF3405"));
    assert_eq!(get(first, "company"), Some("GLOBALEM S.A.S"));
    assert_eq!(get(first, "location"), Some("Bogotá, D.C., Bogotá, D.C."));
    assert_eq!(get(first, "salary_raw"), None);
    assert_eq!(get(second, "company"), Some("Proservis"));
    assert_eq!(get(second, "salary_raw"), Some("$ 8.529.999,00 (Mensual)"));
    assert_no_leak(&listing.cards);

    let Some(text) = saved("computrabajo/detail_co_trimmed_2026.html") else { return };
    let detail = reading.detail(first, &text).unwrap().unwrap();
    assert_eq!(get(&detail, "salary_raw"), Some("$ 3.600.000,00 (Mensual) + Comisiones"));
    assert_eq!(get(&detail, "contract_type"), Some("Contrato civil por prestación de servicios"));
    assert_eq!(get(&detail, "remote_type"), Some("Remoto"));
    assert!(detail["description"].starts_with("Multinacional") && detail["description"].contains("<br>"));
    assert!(!detail["description"].contains("Palabras clave"));
    assert_eq!(detail["requirements"].matches("<li").count(), 3);
    assert!(reading.posting(first.clone(), detail).title.starts_with("Director de Proyectos"));
}

#[test]
fn elempleo() {
    let Some(text) = saved("elempleo/listing_co_trimmed_2026.html") else { return };
    let reading = Reading::new("elempleo", "CO");
    let listing = reading.listing(&text).unwrap();
    let [first, second] = listing.cards.as_slice() else { panic!("two cards, not {}", listing.cards.len()) };
    assert_eq!(get(first, "external_id"), Some("1886730317"));
    assert_eq!(get(first, "company"), Some("ENTELGY COLOMBIA S.A.S"));
    assert_eq!(get(first, "location"), Some("Bogotá"));
    assert_eq!(get(first, "salary_raw"), Some("Salario confidencial"));
    assert_eq!(get(first, "contract_type"), Some("Indefinido"));
    assert_eq!(get(first, "posted_date"), Some("2026-10-20"));
    assert_eq!(get(second, "title"), Some("Director(a) de interventoría - proyectos ti"));
    assert_eq!(get(second, "contract_type"), Some("Prestacion de Servicios"));
    assert_eq!(get(second, "posted_date"), Some("2026-11-14"));
    assert_eq!(
        get(second, "url"),
        Some(
            "https://www.elempleo.com/co/ofertas-trabajo/directora-de-interventoria-proyectos-ti-1886741235"
        )
    );
    let Some(text) = saved("elempleo/detail_co_trimmed_2026.html") else { return };
    let detail = reading.detail(first, &text).unwrap().unwrap();
    assert!(
        detail["description"].contains("En la CUN buscamos")
            && detail["description"].contains("¡postúlate ya!")
    );
    assert!(!detail["description"].contains("Descripción del cargo"));
}

#[test]
fn the_interface_of_bumeran() {
    let Some(text) = saved("bumeran-api/searchHomeV2_response_first11.json") else { return };
    let reading = Reading::new("bumeran", "AR");
    let cards = reading.listing(&text).unwrap().cards;
    assert_eq!(cards.len(), 11);
    for field in ["external_id", "title", "url", "location", "posted_date", "remote_type"] {
        assert_eq!(filled(&cards, field), 11, "{field}");
    }
    assert_eq!(filled(&cards, "company"), 8);
    assert_eq!(get(&cards[0], "posted_date"), Some("2025-10-15"));
    assert!(cards[0]["url"].ends_with("-zona-ciudadela-ana-laura-neu-2165597.html"), "{}", cards[0]["url"]);
    for other in ["bumeran-api/filtersV2_response.json", "bumeran-api/total_response.json"] {
        let error = reading.listing(&saved(other).unwrap()).unwrap_err();
        assert!(matches!(error, PageError::Layout(_)), "{error}");
    }
}

#[test]
fn a_challenge_is_no_page() {
    let Some(text) = saved("blocked/cloudflare_challenge_indeed_mx.html") else { return };
    for status in [200, 403, 503] {
        assert_eq!(crate::scraper::blocked::refusal(status, false, &text), Some("a challenge page"));
    }
    for name in [
        "computrabajo/listing_ar_python_2025.html",
        "elempleo/listing_co_trimmed_2026.html",
        "magneto/detail_co_jobposting_jsonld_2026.html",
    ] {
        assert_eq!(crate::scraper::blocked::refusal(200, false, &saved(name).unwrap()), None, "{name}");
    }
}

#[test]
fn another_portal_is_a_file() {
    let Some(text) = saved("magneto/detail_co_jobposting_jsonld_2026.html") else { return };
    let html = scraper::Html::parse_document(&text);
    let json_ld = crate::scraper::json_ld::JsonLd::of(&html);
    let find = |path: &str| {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        json_ld.find("JobPosting", &path).and_then(|value| value.as_str())
    };
    assert_eq!(find("datePosted"), Some("2026-07-23"));
    assert_eq!(find("hiringOrganization/name"), Some("Confidencial"));
    assert_eq!(find("jobLocation/address/addressLocality/0"), None);
    assert!(find("title").unwrap().starts_with("Ingeniero/a de inteligencia artificial"));
}
