//! What portals, their files and their robots.txt may hold by accident or malice: read or refused,
//! never a panic, and nothing out of proportion to what was there.

use chrono::{DateTime, Datelike, FixedOffset};

use super::{Base, Page, Place, Portal, Reading, fixtures, page};
use crate::scraper::{
    Robots,
    date::{self, DateForm},
    json_ld,
    portal::built_in,
    template::Template,
};

/// Nothing that is made of an input may be much longer.
#[track_caller]
fn bounded(made: usize, input: &str) {
    assert!(made <= 60 * input.len() + 20_000, "{made} bytes of {}", input.len());
}

#[test]
fn robots_files() {
    let corpus = [
        "User-agent: *\nDisallow: /no\nAllow: /no/yes$\nDisallow: /*?x=\nCrawl-delay: 2.5\n\nUser-agent: LaborMarketObservatory\nDisallow:\n",
        "\u{feff}user-agent:a\r\nUSER-AGENT : LaborMarketObservatory # us\rDisallow: /%7Euser/%C3%B1\nSitemap: https://p.example/s.xml",
    ];
    observatory_mutator::texts("robots.txt", &corpus, |text| {
        let robots = Robots::parse(text.as_bytes(), "LaborMarketObservatory");
        bounded(format!("{robots:?}").len(), text);
        for path in ["/", "/no/yes", "/ñ?x=1", text] {
            robots.allows(path);
        }
        assert!(robots.allows("/robots.txt"));
    });
}

#[test]
fn portal_files() {
    let files: Vec<&str> = built_in().iter().map(|(_, text)| *text).collect();
    observatory_mutator::texts("portal files", &files, |text| match Portal::parse(text) {
        Ok(portal) => {
            for (code, country) in &portal.countries {
                let base = Base::new(&portal.name, code, &country.base, None).expect("a checked base");
                let place = Place { portal: &portal, code, segment: "co", country, base: &base };
                let _ = place.listing_request("a b", 2, true);
                let _ = place.read_listing(&page(base.text(), fixtures::COMPUTRABAJO[0]));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            bounded(problems.iter().map(|problem| problem.to_string().len()).sum(), text);
        }
    });
}

/// Reads a listing and the details of its cards, out of the same text.
fn read(reading: &Reading, text: &str) {
    let Ok(listing) = reading.listing(text) else { return };
    bounded(format!("{:?}", listing.cards).len(), text);
    for card in listing.cards.into_iter().take(3).filter(|card| card.contains_key("url")) {
        if let Ok(Some(detail)) = reading.detail(&card, text) {
            bounded(format!("{detail:?}").len(), text);
            let page: Page = page(&card["url"], text);
            let _ = reading.place().posting(card, detail, Some(&page));
        }
    }
}

#[test]
fn pages_of_computrabajo() {
    let reading = Reading::new("computrabajo", "CO");
    observatory_mutator::texts("computrabajo", &fixtures::COMPUTRABAJO, |text| read(&reading, text));
}

#[test]
fn pages_of_elempleo() {
    let reading = Reading::new("elempleo", "CO");
    observatory_mutator::texts("elempleo", &fixtures::ELEMPLEO, |text| read(&reading, text));
}

#[test]
fn answers_of_bumeran() {
    let reading = Reading::new("bumeran", "AR");
    observatory_mutator::texts("bumeran", &fixtures::BUMERAN, |text| read(&reading, text));
}

#[test]
fn structured_data() {
    let corpus = [
        r#"<!-- {"@graph":[{"@type":["JobPosting"],"title":"a\u00f1o","baseSalary":{"value":1.5e3,},},]} -->"#,
        "//<![CDATA[\n[{\"@type\":\"JobPosting\",\"description\":\"a\nb\tc\"}]\n//]]>",
    ];
    observatory_mutator::texts("JSON-LD", &corpus, |text| {
        if let Some(value) = json_ld::parse(text) {
            // A control character takes six bytes where it took one.
            assert!(value.to_string().len() <= 8 * text.len() + 100);
        }
    });
}

#[test]
fn days() {
    let answered: DateTime<FixedOffset> = "2026-11-20T20:00:00-05:00".parse().expect("a moment");
    let names = ["relative", "day-month", "iso", "epoch-s", "epoch-ms", "%d-%m-%Y", "%Y/%m/%d"];
    let forms: Vec<DateForm> = names.iter().map(|name| DateForm::parse(name).expect("a form")).collect();
    let corpus = [
        "Hace más de 30 días",
        "hace 3 horas",
        "ayer",
        "20 de noviembre",
        "2026-11-19T08:00:00-05:00",
        "1763600000",
        "1763600000000",
        "19-11-2026",
        "2026/11/19 10:00",
    ];
    observatory_mutator::texts("days", &corpus, |text| {
        for form in &forms {
            if let Some(day) = date::read(text, std::slice::from_ref(form), answered) {
                assert!((2000..=2026).contains(&day.year()), "{day}");
            }
        }
    });
    observatory_mutator::texts("forms of days", &names, |text| drop(DateForm::parse(text)));
}

#[test]
fn templates() {
    let corpus = [
        "{base}/trabajo-de-{query:slug}?p={page}",
        r#"{"q":"{query:json}","n":{page},"x":"{country:url:c=}"}"#,
    ];
    observatory_mutator::texts("templates", &corpus, |text| {
        let Ok(template) = Template::parse(text) else { return };
        let value = "a ñ\"/";
        if let Ok(made) = template.render(|_| Some(value)) {
            bounded(made.len(), text);
        }
        let _ = template.render(|_| None);
    });
}
