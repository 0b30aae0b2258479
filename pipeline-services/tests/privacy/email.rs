//! Written forms of e-mail addresses.

use fastrand::Rng;

use crate::{
    case::{Country, Form, Kind},
    people::{common_host, mail_host, mailbox, reserved_host},
};

const FRAMES: &[&str] = &[
    "Enviar hoja de vida a {} indicando el cargo en el asunto.",
    "Interesados remitir CV al correo {} antes del viernes.",
    "Postulaciones: {} (indicar pretensión salarial).",
    "Manda tu CV actualizado a {} y espera nuestra llamada.",
    "Enviar CV: {}\nZona de trabajo: norte de la ciudad.",
    "Recibimos currículum en {}; turno rotativo.",
    "Enviar currículo para {} até sexta-feira.",
    "Únete a nuestro equipo y escribe: {}, jornada completa.",
];

/// A form's name, which hosts it goes with, and how it joins mailbox and host.
type Row = (&'static str, fn(&mut Rng) -> &'static str, fn(&str, &str) -> String);

/// Forms without any joining sign go with hosts that everybody knows to be mail hosts.
const ROWS: &[Row] = &[
    ("plain", reserved_host, |user, host| format!("‹{user}›@‹{host}›")),
    ("capitals", common_host, |user, host| format!("‹{user}›@‹{host}›").to_uppercase()),
    ("mailto", reserved_host, |user, host| format!("mailto:‹{user}›@‹{host}›")),
    ("angle brackets", common_host, |user, host| format!("<‹{user}›@‹{host}›>")),
    ("blanks around @", common_host, |user, host| format!("‹{user}› @ ‹{host}›")),
    ("blanks around @ and dots", common_host, |user, host| {
        format!("‹{user}› @ ‹{}›", host.replace('.', " . "))
    }),
    ("blank behind @", common_host, |user, host| format!("‹{user}›@ ‹{host}›")),
    ("line break behind @", common_host, |user, host| format!("‹{user}›@\n‹{host}›")),
    ("line break before @", common_host, |user, host| format!("‹{user}›\n@‹{host}›")),
    ("full-width @", common_host, |user, host| format!("‹{user}›＠‹{host}›")),
    ("small @", common_host, |user, host| format!("‹{user}›﹫‹{host}›")),
    ("decimal entity", common_host, |user, host| format!("‹{user}›&#64;‹{host}›")),
    ("hexadecimal entity", common_host, |user, host| format!("‹{user}›&#x40;‹{host}›")),
    ("named entity", common_host, |user, host| format!("‹{user}›&commat;‹{host}›")),
    ("percent sign", common_host, |user, host| format!("‹{user}›%40‹{host}›")),
    ("(@)", common_host, |user, host| format!("‹{user}› (@) ‹{host}›")),
    ("[arroba] [punto]", common_host, |user, host| {
        format!("‹{}›[arroba]‹{}›", user.replace('.', "[punto]"), host.replace('.', "[punto]"))
    }),
    ("(arroba)", common_host, |user, host| format!("‹{user}›(arroba)‹{host}›")),
    ("( arroba )", common_host, |user, host| format!("‹{user}› ( arroba ) ‹{host}›")),
    ("arroba", common_host, |user, host| format!("‹{user}› arroba ‹{host}›")),
    ("ARROBA PUNTO", common_host, |user, host| {
        format!("‹{user}› ARROBA ‹{}›", host.replace('.', " PUNTO ")).to_uppercase()
    }),
    ("arroba punto", common_host, |user, host| {
        format!("‹{}› arroba ‹{}›", user.replace('.', " punto "), host.replace('.', " punto "))
    }),
    ("aroba", common_host, |user, host| format!("‹{user}› aroba ‹{host}›")),
    ("at dot", common_host, |user, host| format!("‹{user}› at ‹{}›", host.replace('.', " dot "))),
    ("(at)", common_host, |user, host| format!("‹{user}›(at)‹{host}›")),
    ("[at] [dot]", common_host, |user, host| format!("‹{user}› [at] ‹{}›", host.replace('.', " [dot] "))),
    ("{at}", common_host, |user, host| format!("‹{user}›{{at}}‹{host}›")),
    ("_at_", common_host, |user, host| format!("‹{user}›_at_‹{host}›")),
    ("(a)", mail_host, |user, host| format!("‹{user}› (a) ‹{host}›").to_uppercase()),
    ("other sign, ๑", mail_host, |user, host| format!("‹{user}›๑‹{host}›").to_uppercase()),
    ("other sign, #", mail_host, |user, host| format!("‹{user}›#‹{host}›")),
    ("hyphen", mail_host, |user, host| format!("‹{user}›-‹{host}›").to_uppercase()),
    ("blank", mail_host, |user, host| format!("‹{user}› ‹{host}›")),
    ("glued", mail_host, |user, host| format!("‹{user}›‹{host}›").to_uppercase()),
    ("dot in words", mail_host, |user, host| format!("‹{user}›@‹{}›", host.replace('.', " punto "))),
    ("comma for dot", mail_host, |user, host| format!("‹{user}›@‹{}›", host.replace('.', ","))),
    ("full stop behind @", mail_host, |user, host| format!("‹{user}›@.‹{host}›")),
    ("letters apart", common_host, |user, host| format!("‹{}› @ ‹{}›", apart(user), apart(host))),
];

/// Puts a blank behind every character but the last.
fn apart(text: &str) -> String {
    text.chars().map(String::from).collect::<Vec<_>>().join(" ")
}

/// The forms of e-mail addresses.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    ROWS.iter().map(|&(name, host, join)| Form {
        kind: Kind::Email,
        country: Country::Any,
        name,
        frames: FRAMES,
        write: Box::new(move |rng| join(&mailbox(rng), host(rng))),
    })
}
