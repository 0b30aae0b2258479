//! Written forms of profiles and handles.

use fastrand::Rng;

use crate::{
    case::{Country, Form, Kind},
    layout::{self, Row, digits},
    people::{handle, pick, slug},
};

const FRAMES: &[&str] = &[
    "Conoce más en {} y postúlate hoy.",
    "Escríbenos por {} con tu CV.",
    "Quien recluta: {} (mensaje directo).",
    "Contacto único {}\nVacantes nuevas cada semana.",
    "Más detalles, {}, respuesta el mismo día.",
];

fn mobile(rng: &mut Rng) -> String {
    let mask = pick(rng, &["5731_555____", "52155_555____", "54911_555____", "569_555____", "519__555___"]);
    digits(rng, mask)
}

fn facebook_id(rng: &mut Rng) -> String {
    digits(rng, "1000__________")
}

/// The short code of a WhatsApp link or a group's invitation.
fn code(rng: &mut Rng) -> String {
    (0..14).map(|_| rng.alphanumeric()).collect()
}

fn skype_code(rng: &mut Rng) -> String {
    (0..12).map(|_| rng.digit(16)).collect()
}

const ROWS: &[Row] = &[
    ("LinkedIn link", slug, "https://www.linkedin.com/in/‹*›"),
    ("LinkedIn of a country", slug, "https://co.linkedin.com/in/‹*›/"),
    ("LinkedIn without scheme", slug, "linkedin.com/in/‹*›"),
    ("LinkedIn, /in/ alone", slug, "LinkedIn: /in/‹*›"),
    ("LinkedIn handle", handle, "LinkedIn @‹*›"),
    ("Instagram link", handle, "https://www.instagram.com/‹*›/"),
    ("Instagram without scheme", handle, "instagram.com/‹*›"),
    ("Instagram handle", handle, "Instagram: @‹*›"),
    ("IG handle", handle, "IG @‹*›"),
    ("Instagram, no sign", handle, "Instagram: ‹*›"),
    ("Facebook link", handle, "https://www.facebook.com/‹*›"),
    ("fb.com", handle, "fb.com/‹*›"),
    ("Facebook by number", facebook_id, "https://www.facebook.com/profile.php?id=‹*›"),
    ("Facebook, slash", handle, "Facebook /‹*›"),
    ("FB handle", handle, "FB: @‹*›"),
    ("Messenger", handle, "m.me/‹*›"),
    ("TikTok link", handle, "https://www.tiktok.com/@‹*›"),
    ("TikTok handle", handle, "TikTok: @‹*›"),
    ("X link", handle, "https://x.com/‹*›"),
    ("Twitter link", handle, "twitter.com/‹*›"),
    ("Twitter handle", handle, "Twitter @‹*›"),
    ("Threads link", handle, "https://www.threads.net/@‹*›"),
    ("Telegram link", handle, "https://t.me/‹*›"),
    ("Telegram without scheme", handle, "t.me/‹*›"),
    ("Telegram handle", handle, "Telegram: @‹*›"),
    ("Telegram, no sign", handle, "telegram ‹*›"),
    ("wa.me", mobile, "https://wa.me/‹*›"),
    ("wa.me with text", mobile, "wa.me/‹*›?text=Hola"),
    ("WhatsApp API", mobile, "https://api.whatsapp.com/send?phone=‹*›"),
    ("wa.link", code, "https://wa.link/‹*›"),
    ("WhatsApp group", code, "https://chat.whatsapp.com/‹*›"),
    ("Skype", handle, "Skype: ‹*›"),
    ("Skype, live", handle, "skype live:‹*›"),
    ("Skype, live code", skype_code, "Skype live:.cid.‹*›"),
    ("Calendly", slug, "https://calendly.com/‹*›/30min"),
    ("Linktree", handle, "linktr.ee/‹*›"),
    ("GitHub", handle, "https://github.com/‹*›"),
    ("YouTube", handle, "youtube.com/@‹*›"),
    ("síguenos", handle, "síguenos como @‹*›"),
    ("escríbele a", handle, "escríbele a @‹*›"),
    ("usuario", handle, "usuario @‹*›"),
];

/// The forms of profiles and handles.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    layout::forms(Kind::Profile, Country::Any, ROWS, FRAMES, FRAMES)
}
