//! Pages made to be slow take time in proportion to their length.

use chrono::DateTime;

use super::Reading;
use crate::{
    growth::{check, check_markup},
    scraper::{
        Robots, blocked,
        date::{self, DateForm},
        document::Fields,
        json_ld,
        template::slug,
    },
};

/// A page of a portal around a text.
type Frame = fn(&str) -> String;

/// The text as the whole page and as structured data, which mean something to every portal; inside
/// of a card or a description and as an attribute, in the markup of Computrabajo.
const FRAMES: [Frame; 5] = [
    str::to_owned,
    |text| format!("<script type=\"application/ld+json\">{text}"),
    |text| format!("<article class=\"box_offer\"><h2><a href=\"/o/1\">t</a></h2><p>{text}"),
    |text| format!("<div div-link=\"oferta\"><p class=\"mbB\">{text}"),
    |text| format!("<article class=\"box_offer\" {text}"),
];

fn card() -> Fields {
    Fields::from([("url", "https://co.computrabajo.com/o/1".to_owned()), ("title", "t".to_owned())])
}

fn pages(name: &'static str, country: &'static str, frames: &[Frame]) {
    let reading = Reading::new(name, country);
    for frame in frames {
        check_markup(name, &|text| {
            let page = frame(text);
            drop(reading.listing(&page));
            if reading.portal.detail.is_some() {
                drop(reading.detail(&card(), &page));
            }
        });
    }
}

#[test]
fn pages_of_computrabajo_take_linear_time() {
    pages("computrabajo", "CO", &FRAMES);
}

#[test]
fn pages_of_elempleo_take_linear_time() {
    pages("elempleo", "CO", &FRAMES[..2]);
}

#[test]
fn pages_of_bumeran_take_linear_time() {
    pages("bumeran", "AR", &FRAMES[..2]);
}

#[test]
fn structured_data_takes_linear_time() {
    check("json_ld::parse", &|text| drop(json_ld::parse(text)));
}

#[test]
fn robots_and_dates_take_linear_time() {
    let answered = DateTime::parse_from_rfc3339("2026-11-23T10:00:00-05:00").unwrap();
    let forms =
        ["relative", "day-month", "iso", "epoch-s", "%d-%m-%Y"].map(|name| DateForm::parse(name).unwrap());
    check("robots, dates and marks", &|text| {
        let file = format!("User-agent: *\n{text}\nDisallow: /{text}");
        let robots = Robots::parse(file.as_bytes(), "LaborMarketObservatory");
        robots.allows("/ofertas/1?aaaaaaaaaaaaaaaaaaaa");
        Robots::parse(b"User-agent: *\nDisallow: /*a*b*c$\n", "x").allows(&format!("/{text}"));
        date::read(text, &forms, answered);
        blocked::refusal(200, false, text);
        slug(text);
    });
}
