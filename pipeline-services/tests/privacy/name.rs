//! Written forms of persons' names behind cue words.

use fastrand::Rng;

use crate::{
    case::{Country, Form, Kind},
    layout::{self, Row},
    people::{brazilian, families, family, given, man, pick, woman},
};

/// What stands behind the name has capitals too, and must stay.
const FRAMES: &[&str] = &[
    "Turno completo, zona norte. {} en horario de oficina.",
    "Salario a convenir. {}, Gestión Humana.",
    "Contratación inmediata.\n{}\nZona norte de la ciudad.",
    "Bachiller con experiencia en caja. {} (Talento Humano).",
    "Auxiliar contable para Bogotá. {} - Gerente Comercial",
    "Ofrecemos prestaciones de ley. {}. Horario rotativo.",
];

const BRAZILIAN_FRAMES: &[&str] = &[
    "Salário a combinar. {} em horário comercial.",
    "Contratação imediata.\n{}\nZona sul da cidade.",
    "Ensino médio completo. {}, Gestão de Pessoas.",
];

fn name(rng: &mut Rng) -> String {
    format!("{} {}", given(rng), families(rng))
}

fn her_name(rng: &mut Rng) -> String {
    format!("{} {}", woman(rng), families(rng))
}

fn his_name(rng: &mut Rng) -> String {
    format!("{} {}", man(rng), families(rng))
}

fn capitals(rng: &mut Rng) -> String {
    name(rng).to_uppercase()
}

fn her_given_name(rng: &mut Rng) -> String {
    woman(rng).to_owned()
}

fn two_given_names(rng: &mut Rng) -> String {
    format!("{} María {}", woman(rng), family(rng))
}

fn family_name(rng: &mut Rng) -> String {
    family(rng).to_owned()
}

fn initial(rng: &mut Rng) -> String {
    format!("{} {}. {}", given(rng), rng.uppercase(), family(rng))
}

fn first_initial(rng: &mut Rng) -> String {
    format!("{}. {}", rng.uppercase(), family(rng))
}

fn particle(rng: &mut Rng) -> String {
    format!("{} {} {}", given(rng), family(rng), pick(rng, &["de la Hoz", "del Castillo", "de los Ríos"]))
}

fn hyphenated(rng: &mut Rng) -> String {
    format!("{} {}-{}", given(rng), family(rng), family(rng))
}

fn couple(rng: &mut Rng) -> String {
    format!("‹{}› o ‹{}›", name(rng), name(rng))
}

fn in_brazil(rng: &mut Rng) -> String {
    brazilian(rng).to_owned()
}

const ROWS: &[Row] = &[
    ("Contacto", name, "Contacto: ‹*›"),
    ("CONTACTO, capitals", capitals, "CONTACTO: ‹*›"),
    ("Contacto, two", couple, "Contacto: *"),
    ("Atte.", name, "Atte. ‹*›"),
    ("Atte, comma and line", name, "Atte,\n‹*›"),
    ("Atentamente, line", name, "Atentamente,\n‹*›"),
    ("Enviar CV a nombre de", name, "Enviar CV a nombre de ‹*›"),
    ("Comunicarse con la Lic.", her_name, "Comunicarse con la Lic. ‹*›"),
    ("Comunicarse con", name, "Comunicarse con ‹*›"),
    ("Preguntar por", name, "Preguntar por ‹*›"),
    ("Preguntar por, given name", her_given_name, "Preguntar por ‹*›"),
    ("Preguntar por la señora", her_given_name, "Preguntar por la señora ‹*›"),
    ("Reclutadora", her_name, "Reclutadora: ‹*›"),
    ("Reclutador, initial", initial, "Reclutador: ‹*›"),
    ("Sr.", his_name, "Presentarse con el Sr. ‹*›"),
    ("Sra., family name", family_name, "Presentarse con la Sra. ‹*›"),
    ("Srta.", her_name, "Srta. ‹*›"),
    ("Ing.", name, "Ing. ‹*›"),
    ("Ing., initial", first_initial, "Informes con el Ing. ‹*›"),
    ("Lic., particle", particle, "Lic. ‹*›"),
    ("Licda.", her_name, "Licda. ‹*›"),
    ("Dra.", her_name, "Dra. ‹*›"),
    ("Psic.", name, "Psic. ‹*›"),
    ("Doña", her_name, "Hablar con doña ‹*›"),
    ("At'n.", name, "At'n. ‹*›"),
    ("Attn.", hyphenated, "Attn.: ‹*›"),
    ("A la atención de", name, "A la atención de ‹*›"),
    ("Con atención a", name, "Con at'n a: ‹*›"),
    ("Responsable", two_given_names, "Responsable: ‹*›"),
    ("Persona de contacto", particle, "Persona de contacto: ‹*›"),
    ("Mi nombre es", name, "Mi nombre es ‹*›"),
    ("Soy", name, "Hola, soy ‹*›"),
    ("Publicado por", name, "Publicado por: ‹*›"),
    ("Entrevista con", name, "Entrevista con ‹*›"),
    ("Analista de selección", name, "Analista de selección: ‹*›"),
    ("Informes con", capitals, "INFORMES CON ‹*›"),
];

const BRAZILIAN: &[Row] = &[
    ("Falar com", in_brazil, "Falar com ‹*›"),
    ("A/C", in_brazil, "A/C ‹*›"),
    ("Aos cuidados de", in_brazil, "Aos cuidados de ‹*›"),
    ("Contato", in_brazil, "Contato: ‹*›"),
];

/// The forms of names.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    let brazilian = layout::forms(Kind::Name, Country::Any, BRAZILIAN, BRAZILIAN_FRAMES, BRAZILIAN_FRAMES);
    layout::forms(Kind::Name, Country::Any, ROWS, FRAMES, FRAMES).chain(brazilian)
}
