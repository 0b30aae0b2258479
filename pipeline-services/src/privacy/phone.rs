//! Telephone numbers among the numbers of an advertisement.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use crate::text::fold::fold;

/// Digits in groups set apart by at most two separators; longer gaps part two numbers.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:\+ ?|\()?\d(?:[ .\-–()\u{a0}]{0,2}\d){6,25}")
        .expect("the pattern is a constant that a test compiles")
});

/// Words before a number that make it a telephone number.
const CUES: [&str; 24] = [
    "tel",
    "telefono",
    "telefonos",
    "telefonico",
    "cel",
    "celular",
    "celulares",
    "whatsapp",
    "whatsap",
    "watsapp",
    "wsp",
    "wpp",
    "wp",
    "movil",
    "llamar",
    "llamanos",
    "llama",
    "comunicarse",
    "comunicate",
    "contacto",
    "phone",
    "mobile",
    "call",
    "linea",
];
/// Words directly before a number that make it something else.
const OTHERS: [&str; 34] = [
    "iso",
    "nom",
    "ntc",
    "nit",
    "ruc",
    "ref",
    "referencia",
    "codigo",
    "cod",
    "id",
    "aviso",
    "vacante",
    "requisicion",
    "req",
    "job",
    "ley",
    "norma",
    "decreto",
    "resolucion",
    "expediente",
    "cuit",
    "cuil",
    "dni",
    "rfc",
    "usd",
    "cop",
    "mxn",
    "ars",
    "eur",
    "pesos",
    "salario",
    "sueldo",
    "oferta",
    "folio",
];
/// Words directly after a number that make it an amount.
const UNITS: [&str; 14] = [
    "pesos",
    "usd",
    "cop",
    "mxn",
    "ars",
    "eur",
    "euros",
    "dolares",
    "millones",
    "mensuales",
    "mensual",
    "brutos",
    "netos",
    "anuales",
];

/// The text with telephone numbers replaced and their count; `None` where there is none.
pub(super) fn replace(text: &str, mark: &str) -> (Option<String>, u32) {
    let (mut out, mut last, mut count) = (String::new(), 0, 0);
    for found in NUMBER.find_iter(text) {
        let range = trimmed(text, found.range());
        if is_phone(text, &range) {
            out.push_str(&text[last..range.start]);
            out.push_str(mark);
            last = range.end;
            count += 1;
        }
    }
    if count == 0 {
        return (None, 0);
    }
    out.push_str(&text[last..]);
    (Some(out), count)
}

/// An opening bracket that the number does not close stays outside.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let unclosed = text[range.clone()].starts_with('(') && !text[range.clone()].contains(')');
    range.start + usize::from(unclosed)..range.end
}

fn is_phone(text: &str, range: &Range<usize>) -> bool {
    let number = &text[range.clone()];
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    if attached(text, range) || is_amount(number) || is_date(number) || is_range(number) {
        return false;
    }
    let before = fold(tail(&text[..range.start], 40));
    let words: Vec<&str> = before
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    if words.last().is_some_and(|word| OTHERS.contains(word))
        || before.trim_end().ends_with(['$', '€', '/', '='])
    {
        return false;
    }
    let after = fold(head(&text[range.end..], 15));
    let next = after.split(|character: char| !character.is_alphanumeric()).find(|word| !word.is_empty());
    if next.is_some_and(|word| UNITS.contains(&word)) {
        return false;
    }
    if words.iter().any(|word| CUES.contains(word)) {
        return (7..=26).contains(&digits.len());
    }
    (number.starts_with('+') && (9..=15).contains(&digits.len())) || by_shape(number, &digits)
}

/// Numbers whose form alone tells: national and international numbers of Colombia, Mexico and Argentina.
fn by_shape(number: &str, digits: &str) -> bool {
    let mut groups = digit_groups(number);
    if groups.iter().all(|length| *length == 1) {
        // Portals space the digits out to hide them.
        groups = vec![digits.len()];
    }
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| digits.starts_with(prefix));
    match digits.len() {
        10 if groups.len() == 1 => {
            starts(&["3", "55", "56", "33", "81", "601", "602", "604", "605", "606", "607", "608", "11"])
        }
        10 => matches!(
            groups.as_slice(),
            [2, 4, 4]
                | [3, 3, 4]
                | [3, 7]
                | [2, 8]
                | [3, 4, 3]
                | [4, 6]
                | [4, 3, 3]
                | [3, 3, 2, 2]
                | [2, 2, 2, 2, 2]
        ),
        11 => starts(&["011", "02", "03", "0"]) && groups.len() > 1 || starts(&["011"]),
        12 => starts(&["57", "52", "54"]) && (groups.len() > 1 || starts(&["573", "5255", "5411"])),
        13 => starts(&["549", "521"]),
        _ => false,
    }
}

/// Part of a word, a path, a longer number or a price.
fn attached(text: &str, range: &Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let after = text[range.end..].chars().next();
    let glued = |character: char| {
        character.is_alphanumeric()
            || matches!(character, '$' | '€' | '/' | '=' | '.' | ',' | '_' | '-' | '[')
    };
    before.is_some_and(glued)
        || after.is_some_and(|character| character.is_alphanumeric() || matches!(character, '%' | '_'))
}

/// `2.500.000` and its like.
fn is_amount(number: &str) -> bool {
    let groups: Vec<&str> = number.split('.').collect();
    groups.len() > 1
        && (1..=3).contains(&groups[0].len())
        && groups[1..].iter().all(|group| group.len() == 3)
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_date(number: &str) -> bool {
    let groups: Vec<&str> = number.split(['-', '.', ' ']).filter(|group| !group.is_empty()).collect();
    let year = |group: &str| group.len() == 4 && (group.starts_with("19") || group.starts_with("20"));
    let day =
        |group: &str| group.len() <= 2 && group.parse().is_ok_and(|value: u32| (1..=31).contains(&value));
    match groups.as_slice() {
        [a, b, c] => (day(a) && day(b) && year(c)) || (year(a) && day(b) && day(c)),
        [a, b] => year(a) && year(b),
        _ => false,
    }
}

/// Two or more numbers of one size side by side: a range of amounts or a list.
fn is_range(number: &str) -> bool {
    let groups = digit_groups(number);
    groups.len() > 1
        && groups.windows(2).all(|pair| pair[0] == pair[1])
        && groups[0] >= 4
        && !(groups.len() == 2 && groups[0] == 4)
        || groups.len() > 1 && groups.iter().all(|length| *length == 10)
}

fn digit_groups(number: &str) -> Vec<usize> {
    number
        .split(|character: char| !character.is_ascii_digit())
        .map(str::len)
        .filter(|length| *length > 0)
        .collect()
}

fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

fn head(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
