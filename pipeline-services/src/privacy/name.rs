//! Names of persons behind words that introduce them.
//!
//! Nothing is a name without an introduction: the lists decide how much of what follows belongs to
//! it, and the surer the introduction, the less they must know. Offices, firms and places stay.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    Found, Kind, Words, compiled,
    names::{Entry, ends_name, entry, is_office},
    number::skip,
    view::View,
    words,
};

/// Strength of an introduction as a hint that a person follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cue {
    /// A role before a colon, "atte.": offices and companies follow as well.
    Role,
    /// "Lic.", "Ing.", "Sr.": occupations follow as well.
    Title,
    /// "entrevista con", "soy": a person is likely.
    Person,
    /// "preguntar por", "mi nombre es", "Sra.": nothing else follows but an office's name.
    Sure,
}

static CUE: LazyLock<Regex> = LazyLock::new(|| {
    let role = [
        r"(?:analista|asesor[ae]?|lider|coordinador[ae]?|jef[ea]|gerente|psicolog[oa]|especialista|consultor[ae]?|ejecutiv[oa]|generalista|encargad[oa]|director[ae]?|supervisor[ae]?|auxiliar|asistente|manager|hr|linkedin|instagram|facebook|reclutador[ae]?|recrutador[ae]?|seleccionador[ae]?)(?: [a-z]{1,20}){0,5} ?:",
        r"(?:persona |datos |nombre )?(?:de )?contacto",
        r"contactos",
        r"conta[ct]tar(?:se)?(?: con| a)?",
        r"contac?to",
        r"responsable(?: del?(?: la| los)? [a-z]{1,20}){0,2}",
        r"responsavel",
        r"publicad[oa] por",
        r"at'?n",
        r"at+e?n?",
        r"atentamente",
        r"atenciosamente",
        r"cordialmente",
        r"(?:un )?(?:cordial )?saludos?(?: cordial(?:es)?)?!?",
        r"(?:muchas )?gracias[.!]?",
        r"(?:best |kind )?regards",
        r"(?:please )?contact(?: person)?",
        r"encargad[oa](?: del?(?: la| los)? [a-z]{1,20})?",
        r"(?:reclutamiento|contacto directo) ?:",
        r"(?:escribe|pasar|escribile|escribele|escribirle) (?:a|con)",
        r"a/?c",
        r"(?:a la|con|en) at(?:encion|encao|t?'?n)(?: de| a)?",
        r"(?:aos|ao) cuidados? (?:de|da|do)",
        r"dirigi(?:do|da|rse)(?: a)?",
        r"a nombre de",
        r"em nome de",
        r"(?:reclutador[ae]?|recrutador[ae]?|seleccionador[ae]?|recruiter|headhunter|selectora?|entrevistador[ae]?)",
        r"(?:talento humano|recursos humanos|rr\.? ?hh\.?|gestion humana|seleccion) ?:",
        r"informa(?:cion|r)? con",
        r"remitente",
        r"firma ?:",
        r"nombre(?: completo)?:",
        r"presentarse (?:con|ante)",
        r"(?:hoja de vida|hv|cv|curriculum|curriculo) (?:a|para)",
        r"(?:atencion|informes|contact) ?:",
        r"solicitar a",
        r"avisar a",
        r"anunciarse con",
    ];
    let title = [
        r"lic(?:d[oa])?\.?",
        r"inga?\.?",
        r"ingenier[oa]",
        r"licenciad[oa]",
        r"arq\.",
        r"psic(?:ol)?\.",
        r"psicolog[oa]",
        r"ps\.",
        r"prof\.",
        r"mtr[oa]\.",
        r"c\.?p\.?n?\.",
        r"dr\.?",
        r"dra\.?",
        r"doctora?",
        r"sr\.?",
        r"tec\.",
        r"abog\.",
        r"cr\.",
        r"cra\.",
        r"mg\.",
        r"mba\.",
        r"esp\.",
        r"qfb\.",
        r"cont\.",
        r"td?\.?s\.",
    ];
    let person = [
        r"(?:preguntar|pregunta|pregunte|preguntando|perguntar|procurar) (?:por|x)",
        r"procurar(?: a| o)?",
        r"(?:comunicar(?:se|te)?|comunicate|comuniquese|comunicarte) con",
        r"(?:hablar|habla|hable|falar|fale|tratar|entrevista|entrevistarse|cita|informes|escribir|escribile|escribele|contactate|contactarse|conversar) (?:con|com|a)",
        r"mi nombre es",
        r"me llamo",
        r"soy",
        r"meu nome e",
        r"sou (?:o|a)",
        r"les saluda",
        r"te saluda",
        r"sra\.?",
        r"srta\.?",
        r"sres?\.",
        r"senora?",
        r"senorita",
        r"dona",
        r"don",
        r"con el senor",
    ];
    compiled(&format!(
        r"\b(?:(?P<role>{})|(?P<title>{})|(?P<person>{}))(?:[^\p{{L}}\p{{N}}]|$)",
        role.join("|"),
        title.join("|"),
        person.join("|")
    ))
});

static SURE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"^(?:p[er]+gunt\w* (?:por|x)|mi nombre es|me llamo|meu nome e|sra|srta|senor|don)")
});

/// Words between an introduction and the name.
static LINKS: LazyLock<Words> = LazyLock::new(|| {
    words(
        "a al el la los las con de o com e es lic licda licdo ing dr dra sr sra srta senor senora senorita \
        don dona psic arq prof cp mtro mtra ps licenciada licenciado ingeniero ingeniera doctor doctora \
        nombre contacto en no una",
    )
});

/// Small words inside names.
const PARTICLES: &[&str] = &["de", "del", "la", "las", "los", "dos", "das", "da", "do", "san", "von", "van"];

/// Words before a title that make a street, a place or a house of what it begins.
static PLACES: LazyLock<Words> = LazyLock::new(|| {
    words(
        "av avda avenida calle pasaje pje blvd boulevard bulevar ruta autopista autovia jr jiron carrera rua \
        praca hospital clinica sanatorio escuela colegio instituto universidad fundacion farmacia farmacias \
        laboratorio laboratorios gobernador gdor intendente ciudad municipio localidad partido barrio \
        colonia col plaza parque estacion aeropuerto consultorio ntra nuestra nuestro iglesia parroquia capilla virgen",
    )
});

/// Returns whether the words before a title speak of a place: "Hospital Dr. Gutiérrez".
fn is_place(view: &View<'_>, at: usize) -> bool {
    view.words_before(at, 30)
        .iter()
        .take(2)
        .any(|word| PLACES.contains(word.text) && !view.text()[word.end..at].contains([',', '\n', ':']))
}

/// Finds names.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    let mut done = 0;
    for introduction in CUE.captures_iter(view.text()) {
        let groups = [("role", Cue::Role), ("title", Cue::Title), ("person", Cue::Person)];
        let cue = groups.into_iter().find_map(|(name, cue)| Some((introduction.name(name)?, cue)));
        // A word inside of a name that was just found introduces no other.
        let Some((words, mut cue)) = cue.filter(|(words, _)| words.start() >= done) else { continue };
        if cue != Cue::Role && is_place(view, words.start()) {
            continue;
        }
        if SURE.is_match(words.as_str()) {
            cue = Cue::Sure;
        }
        let Some((at, cue)) = start(view, words.end(), cue) else { continue };
        let mut next = name_at(view, at, cue);
        while let Some(range) = next {
            done = range.end;
            // The words introduced the first one; a second must be known by the lists.
            next = joined(view, range.end).and_then(|at| name_at(view, at, Cue::Role));
            found.push((range, Kind::Name));
        }
    }
}

/// Over signs, articles and titles to where the name begins; a title on the way makes a person
/// likelier.
fn start(view: &View<'_>, mut at: usize, mut cue: Cue) -> Option<(usize, Cue)> {
    for _ in 0..5 {
        at = skip(view, at, b" \n.,:;-*'\"", 5);
        let length = word_length(view, at);
        let word = &view.text()[at..at + length];
        // An initial is part of the name: "E. Urrutia".
        let initial = length == 1 && view.is_upper(at) && view.byte(at + 1) == b'.';
        if initial || !LINKS.contains(word) {
            return (length > 0).then_some((at, cue));
        }
        if matches!(
            word,
            "sr" | "sra"
                | "srta"
                | "senor"
                | "senora"
                | "senorita"
                | "don"
                | "dona"
                | "lic"
                | "licda"
                | "ing"
                | "dra"
                | "psic"
        ) {
            cue = cue.max(Cue::Title);
        }
        at += length;
    }
    None
}

fn word_length(view: &View<'_>, at: usize) -> usize {
    let ahead = view.ahead(at, 32);
    ahead.find(|letter: char| !letter.is_alphabetic()).unwrap_or(ahead.len())
}

/// Start of a second name: "… o Wilmer Arboleda".
fn joined(view: &View<'_>, end: usize) -> Option<usize> {
    [" o ", " y ", " e ", " u ", " / ", "/", ", ", " ou "]
        .into_iter()
        .find(|joint| view.ahead(end, 4).starts_with(joint))
        .map(|joint| end + joint.len())
}

/// One word of a name.
struct Part {
    range: Range<usize>,
    entry: Entry,
    upper: bool,
    initial: bool,
    particle: bool,
    is_city: bool,
}

/// Given names that are large cities and districts too.
const CITIES: &[&str] = &[
    "santiago",
    "rosario",
    "mercedes",
    "victoria",
    "salvador",
    "trinidad",
    "concepcion",
    "guadalupe",
    "dolores",
    "milagros",
];

impl Part {
    fn is_unknown(&self) -> bool {
        !self.particle && !self.initial && self.entry == Entry::default()
    }
}

/// Most words of a name: two given and two family names, and three particles. Not tuned.
const MOST_WORDS: usize = 7;

fn name_at(view: &View<'_>, at: usize, cue: Cue) -> Option<Range<usize>> {
    let mut parts = parts(view, at)?;
    // "S.A." is no initial.
    while parts
        .last()
        .is_some_and(|part| part.particle || (part.initial && !ends_in_full_stop(view, part.range.end)))
    {
        parts.pop();
    }
    let end = parts.last()?.range.end;
    (is_name(&parts, cue) && !is_company(view, end)).then_some(at..end)
}

fn ends_in_full_stop(view: &View<'_>, end: usize) -> bool {
    view.byte(end) == b'.' && !view.byte(end + 1).is_ascii_alphanumeric()
}

/// Returns true if a word is an initial or an abbreviated given name ("Ma. Eugenia").
fn is_initial(view: &View<'_>, at: usize, word: &str) -> bool {
    let end = at + word.len();
    let short = ["ma", "fco", "gpe", "mto"].contains(&word) && view.byte(end) == b'.';
    // "Ana y Luis", unlike "Ana Y. Ruiz".
    let joint = matches!(word, "o" | "y" | "e" | "a") && view.byte(end) != b'.';
    (word.len() == 1 || short) && view.is_upper(at) && !joint
}

/// The words from a place on that can be a name; none if one of them is an office's.
fn parts(view: &View<'_>, mut at: usize) -> Option<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    while parts.len() < MOST_WORDS {
        let length = word_length(view, at);
        let word = &view.text()[at..at + length];
        if length == 0 {
            break;
        }
        let upper = view.is_upper(at);
        let particle = !parts.is_empty() && PARTICLES.contains(&word);
        if is_office(word) && upper && !particle {
            // Behind a given and a family name it begins what follows: "Ana Ruiz Recursos Humanos".
            let person =
                parts.len() > 1 && parts[0].entry.given && parts[1..].iter().any(|part| part.entry.family);
            return person.then_some(parts);
        }
        let entry = entry(word);
        let initial = is_initial(view, at, word);
        let lower_name = !upper
            && (entry.given || entry.family)
            && !entry.ambiguous
            && parts.iter().all(|part| !part.upper);
        let unknown = !particle && !initial && entry == Entry::default();
        if unknown && is_complete(&parts) && goes_on(view, at + length) {
            break;
        }
        if (ends_name(word) && !particle && !initial)
            || !(upper || particle || lower_name)
            || (length == 1 && !initial)
        {
            break;
        }
        let end = at + length;
        parts.push(Part { range: at..end, entry, upper, initial, particle, is_city: CITIES.contains(&word) });
        at = match (view.byte(end), view.byte(end + 1)) {
            (b'.', b' ') if initial => end + 2,
            (b' ', _) | (b'-', b'a'..=b'z') | (b'\'', _) => end + 1,
            _ => break,
        };
    }
    Some(parts)
}

/// Returns whether a name has what it needs, so that an unknown word behind it is likely the next
/// sentence's.
fn is_complete(parts: &[Part]) -> bool {
    let family = parts.iter().any(|part| (part.entry.family && !part.entry.given) || part.is_unknown());
    parts.len() > 1 && family && !parts[parts.len() - 1].particle
}

/// Returns whether a word follows, or a colon, and no other sign and no bracket.
fn goes_on(view: &View<'_>, end: usize) -> bool {
    view.byte(end) == b':'
        || view.byte(end) == b' ' && view.text()[end + 1..].starts_with(char::is_alphabetic)
}

/// Returns whether the words are a person's name, by the lists and by how sure the introduction is.
fn is_name(parts: &[Part], cue: Cue) -> bool {
    let words: Vec<&Part> = parts.iter().filter(|part| !part.particle).collect();
    let Some(first) = words.first() else { return false };
    let known = words.iter().filter(|part| part.entry.given || part.entry.family).count();
    let clear =
        words.iter().filter(|part| (part.entry.given || part.entry.family) && !part.entry.ambiguous).count();
    let upper = words.iter().all(|part| part.upper);
    if !upper {
        // In small letters only two clear names are one, or one behind "preguntar por".
        return clear == words.len() && first.entry.given && (words.len() > 1 || cue >= Cue::Person);
    }
    let family_first =
        first.entry.family && cue >= Cue::Title && (!first.entry.ambiguous || cue == Cue::Sure || known > 1);
    let initial_first = first.initial && words.len() > 1 && words[1].entry.family;
    match words.len() {
        1 => {
            (first.entry.given && (clear == 1 || cue >= Cue::Person))
                || (family_first && words.len() == known)
        }
        _ if first.entry.given => clear >= 1 || known >= 2 || !first.is_city,
        _ if initial_first || family_first => true,
        2..=3 if cue == Cue::Sure => true,
        // A rare given name, or the family's first.
        2..=4 => {
            clear >= 1 && words[1..].iter().all(|part| part.initial || part.entry.given || part.entry.family)
        }
        _ => false,
    }
}

/// "Juan Pérez y Asociados", "López S.A.": a firm.
fn is_company(view: &View<'_>, end: usize) -> bool {
    let behind = view.ahead(end, 24).trim_start_matches([' ', ',', '-']);
    [
        "s.a",
        "s. a",
        "sa ",
        "sas",
        "s.r.l",
        "srl",
        "ltda",
        "y asoc",
        "& ",
        "e hijos",
        "y cia",
        "y hnos",
        "y hermanos",
        "s.c",
        "e.i.r.l",
        "inc",
        "llc",
    ]
    .iter()
    .any(|form| behind.starts_with(form))
}
