//! Numbers of identity papers and of taxpayers: behind their labels, or bare when their check
//! digits tell.

use std::{
    ops::{Range, RangeInclusive},
    sync::LazyLock,
};

use regex::Regex;

use super::{
    Found, Kind, Words, check, compiled,
    label::{Label, labels},
    number::{Number, skip, written_at},
    veto,
    view::View,
    words,
};

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    // The longer first: "du" begins "dui".
    let mut abbreviated = [
        "cc", "ce", "ti", "ci", "dni", "du", "le", "lc", "rg", "run", "rut", "nit", "ruc", "rfc", "cpf",
        "cnpj", "nss", "curp", "cuit", "cuil", "cdi", "ine", "ife", "imss", "ppt", "ptp", "pep", "cnh",
        "pis", "pasep", "nis", "ctps", "dpi", "cui", "dui", "nui", "nuip", "nup", "rif", "rtn", "rnc", "ssn",
    ];
    abbreviated.sort_by_key(|letters| usize::MAX - letters.len());
    let dotted = abbreviated
        .map(|letters| letters.chars().map(String::from).collect::<Vec<_>>().join(r"(?:\. ?)?") + r"\.?");
    let long = [
        r"c[eo]dulas?(?: de)?(?: ciudadania| identidad| extranjeria| identificacion| ciudadano)?",
        r"doc(?:umento|\.)?(?: nacional| unico)?(?: de)?(?: identidad| identificacion)?",
        r"identidade?",
        r"tarjeta de identidad",
        r"permiso (?:por|de) proteccion temporal",
        r"carn[e]t? de extranjeria",
        r"credencial (?:para votar|de elector)(?: con fotografia)?",
        r"clave de elector",
        r"(?:numero )?de (?:seguridad|seguro) social",
        r"seguro social",
        r"registro (?:federal|unico) (?:de )?contribuyentes?",
        r"registro unico tributario",
        r"rol unico (?:tributario|nacional)",
        r"numero de identificacion tributaria",
        r"clave unica (?:de registro de poblacion|de identificacion tributaria)",
        r"libreta (?:civica|de enrolamiento)",
        r"pas?sap?orte",
        r"passport",
        r"titulo (?:de eleitor|eleitoral)",
        r"licencia (?:de conducir|de conduccion|federal)",
        r"registro civil",
    ];
    compiled(&format!(r"\b(?:{}|{})", long.join("|"), dotted.join("|")))
});

/// Words between these labels and their numbers.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    words(
        "empresa mf fiscal personal profesional nacional identidad ocr folio elector cic rg cpf pasep dni \
        cuil cuit cc persona representante legal contratante juridica fisica ec",
    )
});

/// Finds numbers of persons and of taxpayers.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    for label in labels(view, &LABEL) {
        if let Some((range, kind)) = labelled(view, &label) {
            found.push((range, kind));
        }
    }
    lettered(view, found);
}

/// The number behind a label.
fn labelled(view: &View<'_>, label: &Label<'_>) -> Option<(Range<usize>, Kind)> {
    let at = label.value(&WORDS);
    let name = label.name.as_str();
    let fiscal = is_fiscal(name);
    let kind = if fiscal { Kind::TaxId } else { Kind::NationalId };
    // First: read as digits alone, such a number would end at its first letter.
    let lettered = match name {
        "rfc" | "curp" | "ine" | "ife" => key_at(view, at),
        "cnpj" => lettered_cnpj(view, at),
        _ if name.starts_with("pas") => passport(view, at),
        _ if name.starts_with("clave")
            || name.starts_with("credencial")
            || name.contains("contribuyente") =>
        {
            key_at(view, at)
        }
        "rif" | "ci" | "ce" | "dni" => with_prefix(view, at),
        _ if name.starts_with("cedula") || name.starts_with("carne") => with_prefix(view, at),
        _ => None,
    };
    if let Some(range) = lettered {
        return Some((range, kind));
    }
    let (least, most) = lengths(name)?;
    let number = written_at(view, at, most)?;
    let range = with_letter(view, &number);
    // A `K` stands for a check digit of ten and counts as one.
    let k = usize::from(view.byte(range.end - 1) == b'k');
    let count = number.digits.len() + k;
    let short_label =
        matches!(name, "le" | "lc" | "ci" | "ce" | "ti" | "du" | "rg" | "nis" | "cui" | "pep" | "le nro");
    let odd = veto::is_date(&number.digits, &number.lengths())
        || (short_label && ends_in_year(view, &number))
        || continues(view, range.end);
    (count >= least && !odd).then_some((range, kind))
}

fn is_fiscal(name: &str) -> bool {
    let fiscal = ["nit", "ruc", "rfc", "cnpj", "cuit", "cuil", "rut", "rif", "rtn", "rnc"].contains(&name);
    fiscal || name.contains("tribut") || name.contains("contribuyente")
}

/// Fewest and most digits of a number behind a label: the published lengths with room to either
/// side; not tuned.
fn lengths(name: &str) -> Option<(usize, usize)> {
    Some(match name {
        "rfc" | "curp" => return None,
        "ti" | "nuip" => (8, 11),
        "ine" | "ife" | "clave de elector" => (9, 18),
        "cc" | "ce" | "cui" | "ci" => (6, 13),
        "nit" | "cuit" | "cuil" | "ruc" | "cdi" | "nis" | "pis" | "pasep" | "rnc" => (7, 13),
        "cpf" | "cnh" | "nss" | "imss" => (8, 11),
        "cnpj" => (12, 14),
        "rut" | "run" => (7, 10),
        "dni" | "du" | "le" | "lc" | "ppt" | "ptp" | "pep" => (6, 9),
        "rg" => (7, 10),
        "dpi" | "rtn" => (12, 14),
        "dui" | "nui" | "ssn" => (8, 10),
        _ if name.starts_with("cred") => (9, 18),
        _ if name.contains("social") || name.contains("titulo") => (10, 12),
        _ if name.contains("contribuyente") || name.contains("tribut") => (7, 14),
        _ => (6, 13),
    })
}

/// A number with the letter or the `K` behind it: `12345678-K`, `12345678Z`.
fn with_letter(view: &View<'_>, number: &Number) -> Range<usize> {
    let end = number.range.end;
    let sign = skip(view, skip(view, skip(view, end, b" ", 1), b"-", 1), b" ", 1);
    for at in [end, sign] {
        let is_letter =
            matches!(view.byte(at), b'k' | b'x') || (at == end && view.byte(at).is_ascii_lowercase());
        if is_letter && !view.byte(at + 1).is_ascii_alphanumeric() && number.digits.len() >= 7 {
            return number.range.start..at + 1;
        }
    }
    number.range.clone()
}

/// Returns whether letters or digits go on behind a number, so that it is part of a code.
fn continues(view: &View<'_>, end: usize) -> bool {
    let next = view.byte(end);
    next == b'%' || next == b'_' || (next.is_ascii_lowercase() && view.byte(end + 1).is_ascii_digit())
}

/// `4597/2019` is a resolution.
fn ends_in_year(view: &View<'_>, number: &Number) -> bool {
    let count = number.groups.len();
    count > 1
        && number.gap(view, count - 1).contains('/')
        && view.text()[number.groups[count - 1].clone()]
            .parse()
            .is_ok_and(|year| (1900..2100).contains(&year))
}

static KEY: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"^(?:[a-z][a-z][a-z]{2}[ -]?\d{6}[ -]?[hmx][a-z]{5}[ -]?[a-z0-9]\d|[a-z]{6}[ -]?\d{8}[ -]?[hm][ -]?\d{3}|[a-zñ&]{3,4}[ -]{0,3}\d{6}[ -]{0,3}[a-z0-9]{3})",
    )
});

/// A CURP, a voter's key or an RFC behind its label.
fn key_at(view: &View<'_>, at: usize) -> Option<Range<usize>> {
    let length = KEY.find(view.ahead(at, 32))?.len();
    (!view.byte(at + length).is_ascii_alphanumeric()).then_some(at..at + length)
}

/// A CNPJ with letters, as numbered since July 2026.
fn lettered_cnpj(view: &View<'_>, at: usize) -> Option<Range<usize>> {
    static CNPJ: LazyLock<Regex> =
        LazyLock::new(|| compiled(r"^[a-z0-9]{2}\.?[a-z0-9]{3}\.?[a-z0-9]{3} ?/? ?[a-z0-9]{4} ?-? ?\d{2}"));
    let found = CNPJ.find(view.ahead(at, 32))?;
    let digits = found.as_str().bytes().filter(u8::is_ascii_digit).count();
    (digits >= 4 && !view.byte(at + found.len()).is_ascii_alphanumeric()).then_some(at..at + found.len())
}

fn passport(view: &View<'_>, at: usize) -> Option<Range<usize>> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| compiled(r"^[a-z]{1,3}[ -]?\d{5,9}"));
    let length = NUMBER.find(view.ahead(at, 16))?.len();
    (!view.byte(at + length).is_ascii_alphanumeric()).then_some(at..at + length)
}

/// `V-12.345.678`, `J-12345678-9`, `M12345678`.
fn with_prefix(view: &View<'_>, at: usize) -> Option<Range<usize>> {
    let letter = b"vejpgmf".contains(&view.byte(at)) && view.is_upper(at);
    let number = written_at(view, skip(view, at + 1, b" -.", 2), 9)?;
    (letter && number.digits.len() >= 6).then_some(at..number.range.end)
}

static LETTERED: LazyLock<Regex> = LazyLock::new(|| {
    let curp = r"[a-z][aeioux][a-z]{2}\d{6}[hmx][a-z]{2}[b-df-hj-np-tv-z]{3}[a-z0-9]\d";
    let elector = r"[b-df-hj-np-tv-z]{6}\d{8}[hm]\d{3}";
    let rfc = r"[a-zñ&]{3,4}[ -]?\d{6}[ -]?[a-z0-9]{2}[0-9a]";
    let cnpj = r"[a-z0-9]{2}\.[a-z0-9]{3}\.[a-z0-9]{3}/[a-z0-9]{4}-\d{2}";
    compiled(&format!("{curp}|{elector}|{rfc}|{cnpj}"))
});

/// Keys of letters and digits that need no label.
fn lettered(view: &View<'_>, found: &mut Found) {
    for key in LETTERED.find_iter(view.text()) {
        let range = key.range();
        if joined(view.byte_before(range.start)) || joined(view.byte(range.end)) {
            continue;
        }
        let compact: String = key.as_str().chars().filter(|letter| !" -./".contains(*letter)).collect();
        let kind = match compact.chars().count() {
            18 => Some(Kind::NationalId),
            14 => check::cnpj(&compact).then_some(Kind::TaxId),
            _ if veto::stands(view, range.start, 2) => None,
            length => is_rfc(view, &range, &compact, length).then_some(Kind::TaxId),
        };
        found.extend(kind.map(|kind| (range, kind)));
    }
}

fn joined(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_&/".contains(&byte)
}

/// An RFC without its label: in capitals, with a date, and for companies with the right last
/// character.
fn is_rfc(view: &View<'_>, range: &Range<usize>, compact: &str, length: usize) -> bool {
    let letters = length - 9;
    let first_digit = compact.find(|letter: char| letter.is_ascii_digit()).unwrap_or_default();
    let date = compact.get(first_digit..first_digit + 6).unwrap_or_default();
    let is_date = is_within(date.get(2..4), 1..=12) && is_within(date.get(4..6), 1..=31);
    view.is_upper(range.start) && is_date && (check::rfc(compact) || letters == 4)
}

fn is_within(text: Option<&str>, range: RangeInclusive<u32>) -> bool {
    text.and_then(|text| text.parse().ok()).is_some_and(|value| range.contains(&value))
}

/// Which paper a bare number is of, by its form and check digits.
pub(super) fn bare(view: &View<'_>, number: &Number) -> Option<(Range<usize>, Kind)> {
    let (digits, lengths) = (number.digits.as_str(), number.lengths());
    let range = number.range.clone();
    if view.byte(range.end) == b'-'
        && view.byte(range.end + 1) == b'k'
        && !view.byte(range.end + 2).is_ascii_alphanumeric()
    {
        let form = matches!(lengths.as_slice(), [1 | 2, 3, 3] | [7 | 8]);
        return (form && check::rut(digits, b'k')).then_some((range.start..range.end + 2, Kind::NationalId));
    }
    let gaps: Vec<&str> = (1..number.groups.len()).map(|index| number.gap(view, index)).collect();
    let kind = match (lengths.as_slice(), gaps.as_slice()) {
        ([11], _) | ([2, 8, 1], ["-", "-"]) if check::cuit(digits) || check::ruc(digits) => Some(Kind::TaxId),
        // After those that a prefix tells: a CPF has as many digits and none.
        ([11], _) | ([3, 3, 3, 2], [".", ".", "-"]) | ([9, 2], ["-"]) if check::cpf(digits) => {
            Some(Kind::NationalId)
        }
        ([14], _) | ([2, 3, 3, 4, 2], [".", ".", "/", "-"]) | ([8, 4, 2], ["/", "-"])
            if check::cnpj(digits) =>
        {
            Some(Kind::TaxId)
        }
        ([1 | 2, 3, 3, 1], [".", ".", "-"]) | ([7 | 8, 1], ["-"]) => suffixed(digits),
        ([3, 3, 3, 1], [".", ".", "-"]) | ([9, 1], ["-"]) => {
            // Companies have these first digits; the NIT of a person is the number of the cédula.
            let (body, check) = digits.split_at(9);
            (body.starts_with(['8', '9']) && check::nit(body, check.as_bytes()[0])).then_some(Kind::TaxId)
        }
        _ => None,
    };
    kind.map(|kind| (range, kind))
}

/// A RUT or RUN: those of companies begin at 50 million.
fn suffixed(digits: &str) -> Option<Kind> {
    let (body, check) = digits.split_at(digits.len() - 1);
    let company = body.parse().is_ok_and(|number: u32| number >= 50_000_000);
    check::rut(body, check.as_bytes()[0]).then_some(if company { Kind::TaxId } else { Kind::NationalId })
}
