//! Written forms of telephone numbers.
//!
//! Numbers follow the numbering plan of each country (ITU-T E.164 national plans) and hold 555
//! where a person's number is unlikely to.

use fastrand::Rng;

use crate::{
    case::{Country, Form, Kind},
    layout::{self, Row, digits},
    people::pick,
};

/// For forms that bring their own cue word.
const FRAMES: &[&str] = &[
    "Informes {} de lunes a viernes.",
    "Interesados comunicarse al {} en horario de oficina.",
    "Mayor información: {} (preguntar en recepción).",
    "Vacante urgente, zona norte. {} Enviar hoja de vida.",
    "Agenda tu entrevista, {} hoy mismo.",
    "Salario a convenir. {}\nContratación inmediata.",
];

/// For bare numbers.
const CUED: &[&str] = &[
    "Interesados comunicarse al {} en horario de oficina.",
    "Llamar al {} de lunes a viernes.",
    "Para agendar entrevista marcar {} hoy mismo.",
    "Contáctanos: {} (preguntar en recepción).",
    "Informes al teléfono {} por las mañanas.",
];

const BRAZILIAN_FRAMES: &[&str] = &[
    "Interessados: {} em horário comercial.",
    "Vaga urgente na zona sul. {} Enviar currículo.",
    "Agende sua entrevista, {} ainda hoje.",
];

const BRAZILIAN_CUED: &[&str] = &[
    "Interessados ligar para {} em horário comercial.",
    "Entrar em contato pelo telefone {} de segunda a sexta.",
    "Ligue {} e agende sua entrevista.",
];

/// A number of some area or operator.
fn area(rng: &mut Rng, areas: &[&str], rest: &str) -> String {
    pick(rng, areas).to_owned() + &digits(rng, rest)
}

fn co_mobile(rng: &mut Rng) -> String {
    area(rng, &["300", "304", "310", "315", "318", "321", "350"], "555____")
}

fn co_mobiles(rng: &mut Rng) -> String {
    co_mobile(rng) + &co_mobile(rng)
}

fn seven(rng: &mut Rng) -> String {
    digits(rng, "555____")
}

fn co_fixed(rng: &mut Rng) -> String {
    area(rng, &["601", "602", "604", "605"], "555____")
}

const COLOMBIA: &[Row] = &[
    ("mobile, plain", co_mobile, "‹*›"),
    ("mobile, blanks", co_mobile, "‹___ ___ ____›"),
    ("mobile, pairs", co_mobile, "‹___ ___ __ __›"),
    ("mobile, hyphens", co_mobile, "Celular ‹___-___-____›"),
    ("mobile, slashes", co_mobile, "Cel.: ‹___/___/____›"),
    ("mobile, dots", co_mobile, "Cel ‹___.___.__.__›"),
    ("+57, hyphen and dots", co_mobile, "‹+57-___.___.__.__›"),
    ("+57 in brackets", co_mobile, "‹(+57) ___ ___ ____›"),
    ("+57 glued", co_mobile, "WhatsApp ‹+57*›"),
    ("0057", co_mobile, "‹0057*›"),
    ("57 without plus", co_mobile, "wsp ‹57 ___ _______›"),
    ("digits apart", co_mobile, "‹_ _ _ _ _ _ _ _ _ _›"),
    ("digits in words", co_mobile, "‹~ ~ ~ ~ ~ ~ ~ ~ ~ ~›"),
    ("emoji digits", co_mobile, "Whats ‹□□□□□□□□□□›"),
    ("full-width digits", co_mobile, "Cel. ‹＿＿＿ ＿＿＿ ＿＿＿＿›"),
    ("wapp", co_mobile, "wapp ‹___ _______›"),
    ("line break inside", co_mobile, "Teléfono ‹___ ___\n____›"),
    ("two mobiles, slash", co_mobiles, "Cel. ‹___ ___ ____› / ‹___ ___ ____›"),
    ("two mobiles, y", co_mobiles, "‹__________› y ‹__________›"),
    ("fixed of seven, pairs", seven, "Fijo ‹___ __ __›"),
    ("fixed with area, brackets", co_fixed, "PBX: ‹(___) ___ ____›"),
    ("fixed with extension", co_fixed, "Tel. ‹___ ___ ____› ext. 12"),
    ("toll-free", seven, "Línea gratuita ‹01 8000 ___ ____›"),
];

fn mx_number(rng: &mut Rng) -> String {
    area(rng, &["55", "55", "33", "81"], "_555____")
}

fn mx_inland(rng: &mut Rng) -> String {
    area(rng, &["222", "442", "664", "999"], "555____")
}

fn mx_numbers(rng: &mut Rng) -> String {
    mx_number(rng) + &mx_number(rng)
}

const MEXICO: &[Row] = &[
    ("plain", mx_number, "‹*›"),
    ("2-4-4, blanks", mx_number, "‹__ ____ ____›"),
    ("pairs", mx_number, "‹__ __ __ __ __›"),
    ("2-4-4, hyphens", mx_number, "Tel: ‹__-____-____›"),
    ("area in brackets", mx_number, "‹(__) ____ ____›"),
    ("area in brackets, hyphen", mx_number, "Tel. ‹(__) ____-____›"),
    ("3-3-4, dots", mx_inland, "Cel. ‹___.___.____›"),
    ("area of three in brackets", mx_inland, "Tel. ‹(___) ___-____›"),
    ("area of three, pairs", mx_inland, "‹___ ___ __ __›"),
    ("+52", mx_number, "‹+52 __ ____ ____›"),
    ("+52 1", mx_number, "WhatsApp ‹+52 1 __ ____ ____›"),
    ("+521 glued", mx_number, "whats ‹+521*›"),
    ("0052", mx_number, "‹0052 __ ____ ____›"),
    ("52 without plus", mx_number, "Wapp: ‹52__________›"),
    ("044", mx_number, "Celular: ‹044 __ ____ ____›"),
    ("01 and area", mx_number, "Teléfono ‹01 (__) ____ ____›"),
    ("toll-free", seven, "Lada sin costo ‹01 800 ___ __ __›"),
    ("toll-free, 800", seven, "Línea ‹800-___-____›"),
    ("slashes", mx_number, "Cel ‹__/____/____›"),
    ("digits apart", mx_number, "‹_ _ _ _ _ _ _ _ _ _›"),
    ("digits in words", mx_number, "‹~ ~ ~ ~ ~ ~ ~ ~ ~ ~›"),
    ("emoji digits", mx_number, "WhatsApp ‹□□□□□□□□□□›"),
    ("two numbers, y", mx_numbers, "‹__ ____ ____› y ‹__ ____ ____›"),
    ("two numbers, slash", mx_numbers, "Tels. ‹__________›/‹__________›"),
    ("with extension", mx_number, "Conmutador ‹__ ____ ____› Ext. 12"),
];

fn ar_mobile(rng: &mut Rng) -> String {
    digits(rng, "11_555____")
}

fn ar_inland(rng: &mut Rng) -> String {
    area(rng, &["341", "351", "261", "299"], "_55____")
}

fn eight(rng: &mut Rng) -> String {
    digits(rng, "4555____")
}

fn ar_both(rng: &mut Rng) -> String {
    eight(rng) + &ar_mobile(rng)
}

const ARGENTINA: &[Row] = &[
    ("mobile, plain", ar_mobile, "‹*›"),
    ("mobile, blanks", ar_mobile, "‹__ ____ ____›"),
    ("mobile, hyphens", ar_mobile, "Cel: ‹__-____-____›"),
    ("11-15", ar_mobile, "WhatsApp ‹__-15-____-____›"),
    ("(011) 15", ar_mobile, "Cel. ‹(0__) 15-____-____›"),
    ("(0341) 15", ar_inland, "‹(0___) 15_ __-____›"),
    ("0341 with hyphen", ar_inland, "Tel. ‹0___-___-____›"),
    ("15 alone", eight, "wsp ‹15-____-____›"),
    ("+54 9", ar_mobile, "‹+54 9 __ ____-____›"),
    ("+549 glued", ar_mobile, "Wapp ‹+549*›"),
    ("+54 in brackets", ar_inland, "‹(+54) ___ ___ ____›"),
    ("0054", ar_mobile, "‹0054 9 __ ____ ____›"),
    ("54 9 without plus", ar_mobile, "whatsapp: ‹549__________›"),
    ("fixed of eight", eight, "Tel.: ‹____-____›"),
    ("fixed with interno", eight, "Teléfono ‹____-____› interno 12"),
    ("fixed with int.", eight, "Tel ‹(011) ____-____› int. 12"),
    ("dots", ar_mobile, "Cel ‹__.____.____›"),
    ("slashes", ar_inland, "Celular ‹___/___/____›"),
    ("digits apart", ar_mobile, "‹_ _ _ _ _ _ _ _ _ _›"),
    ("digits in words", ar_mobile, "‹~ ~ ~ ~ ~ ~ ~ ~ ~ ~›"),
    ("emoji digits", ar_mobile, "Whats ‹□□ □□□□ □□□□›"),
    ("two numbers, o", ar_both, "Tel. ‹____-____› o ‹__ ____-____›"),
    ("toll-free", seven, "Línea ‹0800-___-____›"),
];

fn cl_mobile(rng: &mut Rng) -> String {
    digits(rng, "9_555____")
}

fn cl_fixed(rng: &mut Rng) -> String {
    digits(rng, "2_555____")
}

fn cl_both(rng: &mut Rng) -> String {
    cl_mobile(rng) + &cl_fixed(rng)
}

const CHILE: &[Row] = &[
    ("mobile, plain", cl_mobile, "‹*›"),
    ("mobile, 1-4-4", cl_mobile, "‹_ ____ ____›"),
    ("mobile, 1-4-4, hyphens", cl_mobile, "Cel. ‹_-____-____›"),
    ("+56 9", cl_mobile, "‹+56 _ ____ ____›"),
    ("+569 glued", cl_mobile, "WhatsApp ‹+56*›"),
    ("+56 in brackets", cl_mobile, "‹(+56) _ ____ ____›"),
    ("(56-9)", cl_mobile, "Fono ‹(56-_) ____ ____›"),
    ("0056", cl_mobile, "‹0056 _ ____ ____›"),
    ("56 without plus", cl_mobile, "wsp ‹56_________›"),
    ("old prefix 09", cl_mobile, "Celular ‹0_-________›"),
    ("fixed with area", cl_fixed, "Fono: ‹(_) ____ ____›"),
    ("fixed with +56", cl_fixed, "Teléfono ‹+56 _ ____ ____›"),
    ("fixed with anexo", cl_fixed, "Tel. ‹_ ____ ____› anexo 12"),
    ("dots", cl_mobile, "Fono ‹_.____.____›"),
    ("slashes", cl_mobile, "Cel ‹_/____/____›"),
    ("digits apart", cl_mobile, "‹_ _ _ _ _ _ _ _ _›"),
    ("digits in words", cl_mobile, "‹~ ~ ~ ~ ~ ~ ~ ~ ~›"),
    ("emoji digits", cl_mobile, "WhatsApp ‹□□□□□□□□□›"),
    ("two numbers, slash", cl_both, "Fonos ‹_________› / ‹_ ____ ____›"),
    ("toll-free", seven, "Línea ‹600 ___ ____›"),
];

fn pe_mobile(rng: &mut Rng) -> String {
    digits(rng, "9__555___")
}

fn five(rng: &mut Rng) -> String {
    digits(rng, "55___")
}

fn pe_mobiles(rng: &mut Rng) -> String {
    pe_mobile(rng) + &pe_mobile(rng)
}

const PERU: &[Row] = &[
    ("mobile, plain", pe_mobile, "‹*›"),
    ("mobile, blanks", pe_mobile, "‹___ ___ ___›"),
    ("mobile, hyphens", pe_mobile, "Cel. ‹___-___-___›"),
    ("mobile, dots", pe_mobile, "Celular: ‹___.___.___›"),
    ("mobile, slashes", pe_mobile, "Cel: ‹___/___/___›"),
    ("+51", pe_mobile, "‹+51 ___ ___ ___›"),
    ("+51 glued", pe_mobile, "WhatsApp ‹+51*›"),
    ("+51 in brackets", pe_mobile, "‹(+51) ___-___-___›"),
    ("0051", pe_mobile, "‹0051 ___ ___ ___›"),
    ("51 without plus", pe_mobile, "wsp ‹51_________›"),
    ("RPC", pe_mobile, "RPC ‹_________›"),
    ("wapp", pe_mobile, "Wapp: ‹___ ______›"),
    ("fixed of Lima", seven, "Telf. ‹(01) ___-____›"),
    ("fixed, hyphen", seven, "Teléfono fijo: ‹01-_______›"),
    ("fixed with anexo", seven, "Central ‹___-____› anexo 12"),
    ("digits apart", pe_mobile, "‹_ _ _ _ _ _ _ _ _›"),
    ("digits in words", pe_mobile, "‹~ ~ ~ ~ ~ ~ ~ ~ ~›"),
    ("emoji digits", pe_mobile, "Whats ‹□□□ □□□ □□□›"),
    ("two mobiles, slash", pe_mobiles, "Cel. ‹___ ___ ___› / ‹___ ___ ___›"),
    ("two mobiles, y", pe_mobiles, "‹_________› y ‹_________›"),
    ("toll-free", five, "Línea gratuita ‹0800-_-____›"),
];

fn br_mobile(rng: &mut Rng) -> String {
    area(rng, &["11", "21", "31", "51", "85"], "9_555____")
}

fn br_fixed(rng: &mut Rng) -> String {
    area(rng, &["11", "21", "31", "51", "85"], "3555____")
}

fn br_both(rng: &mut Rng) -> String {
    br_mobile(rng) + &br_fixed(rng)
}

const BRAZIL: &[Row] = &[
    ("mobile, plain", br_mobile, "‹*›"),
    ("mobile, area in brackets", br_mobile, "‹(__) _____-____›"),
    ("mobile, area in brackets, 9 apart", br_mobile, "‹(__) _ ____-____›"),
    ("mobile, blanks", br_mobile, "Celular ‹__ _____ ____›"),
    ("mobile, dots", br_mobile, "Cel.: ‹__._____.____›"),
    ("mobile, area with 0", br_mobile, "Tel. ‹(0__) _____-____›"),
    ("mobile, operator", br_mobile, "Tel: ‹(0xx__) _____-____›"),
    ("+55", br_mobile, "‹+55 __ _____-____›"),
    ("+55, area in brackets", br_mobile, "‹+55 (__) _____-____›"),
    ("+55 glued", br_mobile, "WhatsApp ‹+55*›"),
    ("0055", br_mobile, "‹0055 __ _____ ____›"),
    ("55 without plus", br_mobile, "zap ‹55___________›"),
    ("whats", br_mobile, "whats: ‹__ _________›"),
    ("slashes", br_mobile, "Cel ‹__/_____/____›"),
    ("fixed, area in brackets", br_fixed, "Fone: ‹(__) ____-____›"),
    ("fixed with ramal", br_fixed, "Tel. ‹(__) ____-____› ramal 12"),
    ("two numbers, slash", br_both, "Tels. ‹(__) _____-____› / ‹(__) ____-____›"),
    ("digits apart", br_mobile, "‹_ _ _ _ _ _ _ _ _ _ _›"),
    ("digits in words", br_mobile, "‹^ ^ ^ ^ ^ ^ ^ ^ ^ ^ ^›"),
    ("emoji digits", br_mobile, "Whats ‹□□ □□□□□ □□□□›"),
    ("toll-free", seven, "Central ‹0800 ___ ____›"),
];

/// The forms of telephone numbers.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    [
        (Country::Co, COLOMBIA),
        (Country::Mx, MEXICO),
        (Country::Ar, ARGENTINA),
        (Country::Cl, CHILE),
        (Country::Pe, PERU),
        (Country::Br, BRAZIL),
    ]
    .into_iter()
    .flat_map(|(country, rows)| {
        let brazilian = country == Country::Br;
        let frames = if brazilian { BRAZILIAN_FRAMES } else { FRAMES };
        let cued = if brazilian { BRAZILIAN_CUED } else { CUED };
        layout::forms(Kind::Phone, country, rows, frames, cued)
    })
}
