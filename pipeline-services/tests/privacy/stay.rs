//! Strings without personal data, which must stay byte for byte.

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::{check_digits, people::pick};

/// Where the strings come from: classes, each a heading and its templates, a line each. In a
/// template `_` is any digit, `¹` one from 1 to 9, `¤` a hexadecimal one and `⏎` a line break;
/// everything else stands for itself.
const TEXTS: [&str; 2] = [include_str!("stay/numbers.txt"), include_str!("stay/words.txt")];
/// The same for addresses and identifiers of advertisements.
const URLS: &str = include_str!("stay/urls.txt");

/// A string that must stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stay {
    /// The name of its class.
    pub(crate) class: &'static str,
    /// The string.
    pub(crate) text: String,
    /// Whether it is an advertisement's address or identifier and not a part of its text.
    pub(crate) is_url: bool,
}

/// The strings are the same on every machine and day.
const SEED: u64 = 25_326;

/// How many strings a class has, unless it has more templates.
pub(crate) const PER_CLASS: usize = 36;

/// Job titles to stand before a string that would come twice.
const TITLES: [&str; 12] = [
    "Auxiliar contable",
    "Conductor de camión",
    "Operario de producción",
    "Asesor comercial",
    "Analista de datos",
    "Desarrollador web",
    "Auxiliar de bodega",
    "Vendedor de mostrador",
    "Técnico electricista",
    "Supervisor de planta",
    "Cajero de supermercado",
    "Almacenista",
];

/// Every string that must stay: the templates of a class in turn, behind a job title when they come
/// again.
pub(crate) fn strings() -> Vec<Stay> {
    let mut rng = Rng::with_seed(SEED);
    let mut seen = BTreeSet::new();
    let mut strings = Vec::new();
    for (class, templates, is_url) in classes() {
        for index in 0..PER_CLASS.max(templates.len()) {
            let drawn = std::iter::repeat_with(|| {
                let text = write(templates[index % templates.len()], &mut rng);
                let title = pick(&mut rng, &TITLES);
                if index < templates.len() || is_url { text } else { format!("{title}. {text}") }
            });
            let text = drawn.take(1_000).find(|text| !has_valid_number(text) && seen.insert(text.clone()));
            let text = text.unwrap_or_else(|| panic!("too few templates in {class}"));
            strings.push(Stay { class, text, is_url });
        }
    }
    strings
}

/// The classes: name, templates, whether of addresses.
fn classes() -> impl Iterator<Item = (&'static str, Vec<&'static str>, bool)> {
    let files = TEXTS.into_iter().map(|file| (file, false)).chain([(URLS, true)]);
    files.flat_map(|(file, is_url)| {
        file.split("== ").skip(1).map(move |class| {
            let mut lines = class.lines().filter(|line| !line.is_empty());
            (lines.next().unwrap_or_default(), lines.collect(), is_url)
        })
    })
}

fn write(template: &str, rng: &mut Rng) -> String {
    template
        .chars()
        .map(|char| match char {
            '_' => rng.digit(10),
            '¹' => char::from(b'0' + rng.u8(1..10)),
            '¤' => rng.digit(16),
            '⏎' => '\n',
            other => other,
        })
        .collect()
}

/// Whether some number has, by chance, the check digits of a document that is recognised without a
/// cue word.
fn has_valid_number(text: &str) -> bool {
    let tokens = text.split(|char: char| !(char.is_ascii_digit() || "-./".contains(char)));
    tokens.map(|token| token.trim_matches(['-', '.', '/'])).any(|token| {
        let digits: String = token.chars().filter(char::is_ascii_digit).collect();
        is_valid(&digits)
            || (token.len() > 2 && token[..token.len() - 1].ends_with('-') && is_suffixed(&digits))
    })
}

/// Numbers whose check digits stand at their end: CPF, CUIT and RUC; CNPJ; cards; CLABE; CCI; CBU.
fn is_valid(digits: &str) -> bool {
    let last = |body: &str, check: u32| digits == format!("{body}{check}");
    match digits.len() {
        11 => {
            let body = &digits[..10];
            last(body, check_digits::ruc(body))
                || check_digits::cuit(body).is_some_and(|check| last(body, check))
                || digits.ends_with(&check_digits::cpf(&digits[..9]))
        }
        14 => digits.ends_with(&check_digits::cnpj(&digits[..12])),
        16 => last(&digits[..15], check_digits::luhn(&digits[..15])),
        18 => last(&digits[..17], check_digits::clabe(&digits[..17])),
        20 => {
            let (office, account) = (&digits[..6], &digits[6..18]);
            digits.ends_with(&format!("{}{}", check_digits::luhn(office), check_digits::luhn(account)))
        }
        22 => digits.ends_with(&check_digits::cbu_block(&digits[8..21]).to_string()),
        _ => false,
    }
}

/// Numbers with a hyphen before their last digit: RUT and NIT.
fn is_suffixed(digits: &str) -> bool {
    let (body, check) = digits.split_at(digits.len() - 1);
    match digits.len() {
        8 | 9 => check == check_digits::rut(body).to_string(),
        10 => check == check_digits::nit(body).to_string(),
        _ => false,
    }
}

#[test]
fn valid_numbers_are_noticed() {
    for valid in [
        "Ref. 11144477735",
        "11222333000181",
        "lote 032180000118359719.",
        "2850590940090418135201",
        "01136600010003254221",
        "v. 12.345.678-5",
        "900123456-8",
    ] {
        assert!(has_valid_number(valid), "{valid}");
    }
    for other in ["Ref. 11144477736", "ID 3001234567", "12.345.678-6", "1.500.000-2", "2019-2023", "-", ""] {
        assert!(!has_valid_number(other), "{other}");
    }
}
