//! Removal of personal data from text.
//!
//! E-mail addresses, telephone numbers of Colombia, Mexico and Argentina, personal profile links and
//! labelled identity numbers give way to marks such as `[email]`. Salaries, years, dates, standards and
//! reference numbers stay.

mod phone;

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use regex::{Captures, Regex};
use serde::Serialize;

/// What was removed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// E-mail address, also written with "arroba" and "punto".
    Email,
    /// Telephone number.
    Phone,
    /// DNI, cédula, CURP, passport and the like.
    NationalId,
    /// CUIT, RFC, NIT, RUC.
    TaxId,
    /// Link or handle of a person on a messenger or network.
    Profile,
}

impl Kind {
    /// Name in answers and counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::NationalId => "national_id",
            Self::TaxId => "tax_id",
            Self::Profile => "profile",
        }
    }

    /// What stands in the text instead.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Email => "[email]",
            Self::Phone => "[phone]",
            Self::NationalId => "[national_id]",
            Self::TaxId => "[tax_id]",
            Self::Profile => "[profile]",
        }
    }
}

/// Text without personal data, and how many of each kind were removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scrubbed {
    /// The text.
    pub text: String,
    /// Counts of the kinds that occurred.
    pub removed: BTreeMap<Kind, u32>,
}

/// A mark is shorter than what it replaces, which can bring a number near a cue; more rounds settle that.
const ROUNDS: usize = 8;

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"[\p{L}\p{N}._%+\-]+ ?@ ?[\p{L}\p{N}\-]+(?:\.[\p{L}\p{N}\-]+)*\.\p{L}{2,}"));
static SPELT_EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)\b[\p{L}\p{N}._\-]+ ?(?:\[at\]|\(at\)|\(arroba\)|\[arroba\]| arroba ) ?[\p{L}\p{N}\-]+(?: ?(?:\.|\[dot\]|\(dot\)|\(punto\)| punto | dot ) ?[\p{L}]{2,10})+\b",
    )
});
static PROFILE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"(?i)\b(?:https?://)?(?:[a-z]{2,3}\.)?(?:wa\.me|wa\.link|(?:api|chat)\.whatsapp\.com|t\.me|telegram\.me|linkedin\.com/in|instagram\.com|facebook\.com|fb\.com|calendly\.com)/[^\s<>"')\]]*[^\s<>"')\].,;:!?]"#,
    )
});
static HANDLE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"(?i)\b(instagram|ig|telegram|twitter|tiktok|facebook)( ?:? ?)(@[\p{L}\p{N}._]{3,30})")
});
static NATIONAL_ID: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)\b((?:d\.?n\.?i\.?|c\.?c\.?|c[ée]dula(?: de (?:ciudadan[ií]a|identidad))?|pasaporte|passport|curp|n\.?s\.?s\.?|documento(?: de identidad)?)(?: ?(?:n[°ºo]\.?|nro\.?|num(?:ero)?\.?|número|#))? ?:? ?)(\d(?:[ .]?\d){5,11}|[A-Z]{4}\d{6}[A-Z]{6}[A-Z0-9]\d|[A-Z]{1,3}\d{6,9})\b",
    )
});
static CURP: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"\b[A-Z][AEIOUX][A-Z]{2}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d\b"));
static TAX_ID: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)\b((?:c\.?u\.?i\.?[tl]\.?|r\.?f\.?c\.?|n\.?i\.?t\.?|r\.?u\.?c\.?)(?: ?(?:n[°ºo]\.?|nro\.?|#))? ?:? ?)([A-ZÑ&]{3,4} ?-?\d{6} ?-?[A-Z0-9]{3}|\d(?:[ .\-]?\d){8,11})\b",
    )
});
static CUIT: LazyLock<Regex> = LazyLock::new(|| compiled(r"\b(?:20|23|24|25|26|27|30|33|34)-?\d{8}-?\d\b"));

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// Replaces personal data by marks. Scrubbing twice changes nothing.
pub fn scrub(text: &str) -> Scrubbed {
    let mut scrubbed = Scrubbed { text: text.to_owned(), removed: BTreeMap::new() };
    for _ in 0..ROUNDS {
        let before = scrubbed.text.clone();
        pass(&mut scrubbed);
        if scrubbed.text == before {
            break;
        }
    }
    scrubbed
}

fn pass(scrubbed: &mut Scrubbed) {
    if scrubbed.text.contains('@') {
        replace(scrubbed, &EMAIL, Kind::Email, |_| true);
        keep_label(scrubbed, &HANDLE, Kind::Profile, 3);
    }
    replace(scrubbed, &SPELT_EMAIL, Kind::Email, |_| true);
    replace(scrubbed, &PROFILE, Kind::Profile, |_| true);
    if !scrubbed.text.bytes().any(|byte| byte.is_ascii_digit()) {
        return;
    }
    keep_label(scrubbed, &TAX_ID, Kind::TaxId, 2);
    keep_label(scrubbed, &NATIONAL_ID, Kind::NationalId, 2);
    replace(scrubbed, &CURP, Kind::NationalId, |_| true);
    replace(scrubbed, &CUIT, Kind::TaxId, |found| is_cuit(found.get(0).map_or("", |whole| whole.as_str())));
    let (text, count) = phone::replace(&scrubbed.text, Kind::Phone.mark());
    note(scrubbed, Kind::Phone, count, text);
}

fn replace(scrubbed: &mut Scrubbed, pattern: &Regex, kind: Kind, accept: impl Fn(&Captures<'_>) -> bool) {
    let mut count = 0;
    let text = pattern.replace_all(&scrubbed.text, |found: &Captures<'_>| {
        if !accept(found) {
            return found[0].to_owned();
        }
        count += 1;
        kind.mark().to_owned()
    });
    let text = owned(text);
    note(scrubbed, kind, count, text);
}

/// Replaces one group and keeps what stands before it ("DNI ").
fn keep_label(scrubbed: &mut Scrubbed, pattern: &Regex, kind: Kind, group: usize) {
    let mut count = 0;
    let text = pattern.replace_all(&scrubbed.text, |found: &Captures<'_>| {
        count += 1;
        let whole = &found[0];
        let label = &whole[..whole.len() - found[group].len()];
        format!("{label}{}", kind.mark())
    });
    let text = owned(text);
    note(scrubbed, kind, count, text);
}

fn owned(text: Cow<'_, str>) -> Option<String> {
    match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    }
}

fn note(scrubbed: &mut Scrubbed, kind: Kind, count: u32, text: Option<String>) {
    if let Some(text) = text.filter(|_| count > 0) {
        scrubbed.text = text;
        *scrubbed.removed.entry(kind).or_default() += count;
    }
}

/// The check digit of an Argentine CUIT: weighted sum modulo 11.
fn is_cuit(number: &str) -> bool {
    let digits: Vec<u32> = number.chars().filter_map(|character| character.to_digit(10)).collect();
    let [body @ .., check] = digits.as_slice() else { return false };
    let sum: u32 =
        body.iter().zip([5, 4, 3, 2, 7, 6, 5, 4, 3, 2]).map(|(digit, weight)| digit * weight).sum();
    let expected = match 11 - sum % 11 {
        11 => 0,
        10 => 9,
        other => other,
    };
    body.len() == 10 && expected == *check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn removes_personal_data() {
        for (text, expected) in [
            ("Enviar CV a rrhh.seleccion@example.com.ar.", "Enviar CV a [email]."),
            ("juan perez@example.co hoy", "juan [email] hoy"),
            ("contacto (arroba) example (punto) com", "[email]"),
            ("maria arroba example punto com", "[email]"),
            ("WhatsApp 315 079 0793", "WhatsApp [phone]"),
            ("al WhatsApp #3150790793 o", "al WhatsApp #[phone] o"),
            ("+57 (601) 745 1234", "[phone]"),
            ("+54 9 11 4555-6789", "[phone]"),
            ("+52 1 55 1234 5678", "[phone]"),
            ("Tel: 4555-6789", "Tel: [phone]"),
            ("15-4555-6789", "[phone]"),
            ("en CABA. 1 1 4 5 5 5 6 7 8 9", "en CABA. [phone]"),
            ("Whatsapp al + 5 4 9 1 1 4 5 5 5- 6 7 8 9", "Whatsapp al [phone]"),
            ("Llamar al 011 4555 6789 int. 12", "Llamar al [phone] int. 12"),
            ("55 1234 5678", "[phone]"),
            ("(55) 1234-5678", "[phone]"),
            ("3001234567 - 3107654321", "[phone] - [phone]"),
            ("https://wa.me/573001234567?text=hola.", "[profile]."),
            ("linkedin.com/in/juan-perez", "[profile]"),
            ("Telegram: @juanp_99", "Telegram: [profile]"),
            ("DNI 12.345.678", "DNI [national_id]"),
            ("C.C. 1.234.567.890", "C.C. [national_id]"),
            ("cédula de ciudadanía No. 79123456", "cédula de ciudadanía No. [national_id]"),
            ("CURP: HEGG560427MVZRRL04", "CURP: [national_id]"),
            ("RFC GODE561231GR8", "RFC [tax_id]"),
            ("CUIT 20-12345678-6", "CUIT [tax_id]"),
            ("NIT 900.123.456-7", "NIT [tax_id]"),
            ("20-12345678-6", "[tax_id]"),
        ] {
            assert_eq!(scrub(text).text, expected, "{text}");
        }
    }

    #[test]
    fn leaves_everything_else() {
        for text in [
            "Salario $2.500.000 a $3.000.000 COP",
            "salario 2500000 pesos, 2.500.000 mensuales",
            "entre 1500000 - 2000000",
            "Sueldo $ 2. 2 0 0. 0 0 0 (neto), de 8. 0 0 - 1 7. 0 0 hs",
            "ISO 27001:2013, ISO 9001-2015, NTC 5801",
            "C++17, 24/7, Office 365, Java 8-21, Windows 10",
            "2019-2024, 12/05/2024, 2024-05-12, 12-05-2024",
            "Ref. 1886557341, aviso 1117890123, ID 3001234567",
            "de 8:00 a 17:30, lunes a viernes 08 a 18 hs",
            "NOM-035-STPS-2018",
            "www.example.com/jobs/3001234567",
            "@empresa en redes; versión 1.2.3.4567",
            "10 a 15 personas, 1000 2000 3000",
            "CC 125 motos",
            "Av. Corrientes 1234, piso 5",
        ] {
            assert_eq!(scrub(text), Scrubbed { text: text.to_owned(), removed: BTreeMap::new() });
        }
    }

    #[test]
    fn counts_by_kind() {
        let found = scrub("a@b.co, c@d.com y 3150790793");
        assert_eq!(found.removed, BTreeMap::from([(Kind::Email, 2), (Kind::Phone, 1)]));
    }

    proptest! {
        #[test]
        fn scrubbing_twice_changes_nothing(
            parts in prop::collection::vec(
                prop_oneof![
                    "\\PC{0,6}".boxed(),
                    "[0-9]{1,12}".boxed(),
                    prop::sample::select(vec!["tel ", "DNI ", " - ", ".", " ", "@", "a@b.co", "+57 ", "wa.me/", "CUIT ", "(", "$", " arroba "])
                        .prop_map(str::to_owned).boxed(),
                ],
                0..14,
            ),
        ) {
            let once = scrub(&parts.concat());
            let twice = scrub(&once.text);
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert!(twice.removed.is_empty());
        }
    }
}
