//! Pages of our own in the three shapes, and what becomes of them.

use super::{ListingPage, PageError, Reading};
use crate::scraper::document::Fields;

pub(super) const COMPUTRABAJO: [&str; 2] = [
    include_str!("../fixtures/computrabajo_listing.html"),
    include_str!("../fixtures/computrabajo_detail.html"),
];
pub(super) const ELEMPLEO: [&str; 2] =
    [include_str!("../fixtures/elempleo_listing.html"), include_str!("../fixtures/elempleo_detail.html")];
pub(super) const BUMERAN: [&str; 2] =
    [include_str!("../fixtures/bumeran_listing.json"), include_str!("../fixtures/bumeran_detail.json")];

/// The listing with its cards as maps, for the snapshot.
fn cards(listing: &ListingPage) -> serde_json::Value {
    serde_json::json!({
        "cards": listing.cards,
        "homeless": listing.homeless,
        "total": listing.total,
        "next": listing.next.as_ref().map(url::Url::as_str),
    })
}

#[test]
fn pages_become_postings() {
    for (name, country, [listing, detail]) in
        [("computrabajo", "CO", COMPUTRABAJO), ("elempleo", "CO", ELEMPLEO), ("bumeran", "AR", BUMERAN)]
    {
        let reading = Reading::new(name, country);
        let listing = reading.listing(listing).unwrap();
        insta::assert_json_snapshot!(format!("{name}_cards"), cards(&listing));
        let card = listing.cards[0].clone();
        let detail = reading.detail(&card, detail).unwrap().expect("an open ad");
        insta::assert_json_snapshot!(format!("{name}_posting"), reading.posting(card, detail));
    }
}

/// What a page is taken for: the number of its ads, or why it could not be read.
fn listing(name: &str, text: &str) -> Result<usize, String> {
    let country = if name == "bumeran" { "AR" } else { "CO" };
    let listing = Reading::new(name, country).listing(text);
    listing.map(|listing| listing.cards.len()).map_err(|error| error.to_string())
}

#[test]
fn pages_without_ads_are_told_apart() {
    let check = |name: &str, text: &str, expected: Result<usize, &str>| match (listing(name, text), expected)
    {
        (Ok(found), expected) => assert_eq!(Ok(found), expected, "{name}: {text}"),
        (Err(found), expected) => assert!(found.contains(expected.unwrap_err()), "{name}: {found}"),
    };
    check("computrabajo", "<div class='tc mbB pt30 pb30'>No se han encontrado ofertas</div>", Ok(0));
    check("computrabajo", "<p>Bienvenido</p>", Err("layout change: `article.box_offer` finds no ad"));
    check("computrabajo", "", Err("layout change"));
    check("computrabajo", "<p>Lo sentimos, algo ha fallado</p>", Err("an error page"));
    check("computrabajo", "<form><input type='password'></form>", Err("refuses us: a login form"));
    check("computrabajo", "<div class='g-recaptcha'></div>", Err("refuses us: a captcha"));
    check("elempleo", "<strong class='js-total-results'>0</strong>", Ok(0));
    check("elempleo", "<strong class='js-total-results'>31</strong>", Err("layout change"));
    check("bumeran", r#"{"content":[],"total":0}"#, Ok(0));
    check("bumeran", r#"{"message":"x"}"#, Err("there is no list at /content, /avisos"));
    check("bumeran", "<html><div class='h-captcha'>", Err("refuses us: a captcha"));
    check("bumeran", "<html>shell", Err("the answer is not JSON"));
    check("bumeran", &"[".repeat(10_000), Err("the answer is not JSON"));
}

#[test]
fn details_may_be_closed_or_changed() {
    let card = |url: &str| Fields::from([("url", url.to_owned()), ("external_id", "1117000001".to_owned())]);
    let bumeran = Reading::new("bumeran", "AR");
    let card = card("https://www.bumeran.com.ar/empleos/x-1117000001.html");
    for state in ["vencido", "offline"] {
        let closed = BUMERAN[1].replace("activo", state);
        assert_eq!(bumeran.detail(&card, &closed), Ok(None), "{state}");
    }
    let nowhere = bumeran.detail(&card, r#"{"other":1}"#).unwrap_err();
    assert_eq!(nowhere, PageError::Layout("there is nothing at /aviso".to_owned()));
    let renamed = BUMERAN[1].replace("descripcion", "texto");
    assert_eq!(
        bumeran.detail(&card, &renamed),
        Err(PageError::Layout("no rule finds the description".to_owned()))
    );
}

/// A card whose classes were renamed loses its fields, never gets those of another.
#[test]
fn a_renamed_class_loses_the_field_only() {
    let check = |from: &str, to: &str, field: &'static str| {
        let reading = Reading::new("computrabajo", "CO");
        let whole = reading.listing(COMPUTRABAJO[0]).unwrap();
        let changed = reading.listing(&COMPUTRABAJO[0].replace(from, to)).unwrap();
        for (before, mut after) in whole.cards.into_iter().zip(changed.cards) {
            assert_eq!(after.remove(field), None, "{field}");
            let mut rest = before;
            rest.remove(field);
            assert_eq!(rest, after, "{field}");
        }
    };
    check("class=\"mr10\"", "class=\"mx10\"", "location");
    check("i_salary", "i_pay", "salary_raw");
    check("fs13 fc_aux mt15", "fs12", "posted_date");
}

#[test]
fn hostile_pages_do_no_harm() {
    let deep = format!("{}<article class=box_offer>{}", "<div>".repeat(5_000), "<b>".repeat(5_000));
    assert_eq!(listing("computrabajo", &deep), Ok(0));
    let braces = COMPUTRABAJO[0].replace("Panadero de   masa madre", "{{x}} <b>mal<i>cerrado");
    assert_eq!(listing("computrabajo", &braces), Ok(3));
    let long = COMPUTRABAJO[0].replace("Ayer", &"x ".repeat(200_000));
    assert_eq!(listing("computrabajo", &long), Ok(3));
}
