//! Personal data inside an advertisement's own address or identifier.

use fastrand::Rng;

use crate::{
    case::{Country, Form, Kind},
    layout::digits,
    people::{common_host, handle, mailbox, slug},
};

/// A form's name, the addresses it stands in, and how to write the piece. Where nothing stands
/// around the piece, the whole may go.
type Row = (&'static str, &'static [&'static str], fn(&mut Rng) -> String);

fn mail(rng: &mut Rng, sign: &str) -> String {
    format!("‹{}›{sign}‹{}›", mailbox(rng), common_host(rng))
}

fn mobile(rng: &mut Rng) -> String {
    digits(rng, "31_555____")
}

const WHOLE: &[&str] = &["{}"];

const QUERIES: &[&str] = &[
    "https://empleos.test/oferta/48213?contacto={}&pagina=2",
    "https://bolsa.test/ver?id=7732019&correo={}&origen=boletin",
    "https://vacantes.test/aplicar/auxiliar-contable?to={}",
];

const PATHS: &[&str] = &["https://empleos.test/publicador/{}/oferta/48213", "https://bolsa.test/aviso/{}"];

const ROWS: &[Row] = &[
    ("mail in the query", QUERIES, |rng| mail(rng, "@")),
    ("mail in the query, %40", QUERIES, |rng| mail(rng, "%40")),
    ("mail in the query, %2540", QUERIES, |rng| mail(rng, "%2540")),
    ("mail in the query, dots encoded", QUERIES, |rng| mail(rng, "%40").replace('.', "%2E")),
    ("mail in capitals", QUERIES, |rng| mail(rng, "%40").to_uppercase()),
    ("mail in the path", PATHS, |rng| mail(rng, "@")),
    ("mail in the path, %40", PATHS, |rng| mail(rng, "%40")),
    ("mail in the fragment", &["https://empleos.test/oferta/48213#contacto={}"], |rng| mail(rng, "@")),
    ("mail in an inner address", &["https://empleos.test/ir?u=mailto%3A{}&n=1"], |rng| mail(rng, "%40")),
    ("mailto", WHOLE, |rng| format!("mailto:{}", mail(rng, "@"))),
    ("mailto, %40", WHOLE, |rng| format!("mailto:{}", mail(rng, "%40"))),
    ("mailto with subject", WHOLE, |rng| format!("mailto:{}?subject=Vacante", mail(rng, "@"))),
    ("tel", WHOLE, |rng| format!("tel:‹+57{}›", mobile(rng))),
    ("tel, hyphens", WHOLE, |rng| format!("tel:‹+57-{}›", digits(rng, "31_-555-____"))),
    ("sms", WHOLE, |rng| format!("sms:‹{}›", mobile(rng))),
    ("phone in the query", &["https://empleos.test/oferta/48213?telefono={}&pagina=2"], |rng| {
        format!("‹{}›", mobile(rng))
    }),
    ("phone in the query, %2B57", &["https://bolsa.test/ver?id=7732019&cel={}"], |rng| {
        format!("‹%2B57{}›", mobile(rng))
    }),
    ("phone in the query, blanks", &["https://bolsa.test/ver?id=7732019&phone={}&n=1"], |rng| {
        format!("‹{}›", digits(rng, "31_%20555%20____"))
    }),
    ("phone in the path", &["https://empleos.test/contacto/{}/oferta/48213"], |rng| {
        format!("tel-‹{}›", digits(rng, "31_-555-____"))
    }),
    ("phone in the path, +57", PATHS, |rng| format!("‹+57{}›", mobile(rng))),
    ("wa.me", WHOLE, |rng| format!("https://wa.me/‹57{}›", mobile(rng))),
    ("wa.me with text", WHOLE, |rng| format!("https://wa.me/‹57{}›?text=Vacante%20auxiliar", mobile(rng))),
    ("WhatsApp API", WHOLE, |rng| format!("https://api.whatsapp.com/send?phone=‹57{}›", mobile(rng))),
    ("WhatsApp scheme", WHOLE, |rng| format!("whatsapp://send?phone=‹57{}›", mobile(rng))),
    ("LinkedIn profile", WHOLE, |rng| format!("https://www.linkedin.com/in/‹{}›/", slug(rng))),
    ("Instagram profile", WHOLE, |rng| format!("https://www.instagram.com/‹{}›/", handle(rng))),
    ("Telegram profile", WHOLE, |rng| format!("https://t.me/‹{}›", handle(rng))),
    ("id: mail", WHOLE, |rng| mail(rng, "@")),
    ("id: mail and number", WHOLE, |rng| format!("{}-{}", mail(rng, "@"), digits(rng, "2026__"))),
    ("id: number and mail", WHOLE, |rng| format!("{}:{}", digits(rng, "48___"), mail(rng, "@"))),
    ("id: mail, %40", WHOLE, |rng| mail(rng, "%40")),
    ("id: phone", WHOLE, |rng| format!("cel-‹{}›", mobile(rng))),
    ("id: phone, +57", WHOLE, |rng| format!("‹+57{}›-2", mobile(rng))),
];

/// The forms of addresses and identifiers.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    ROWS.iter().map(|&(name, frames, write)| Form {
        kind: Kind::Url,
        country: Country::Any,
        name,
        frames,
        write: Box::new(write),
    })
}
