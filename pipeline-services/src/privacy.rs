//! Removal of personal data from text.
//!
//! E-mail addresses, telephone numbers, numbers of identity papers, taxpayers and accounts, profiles and handles, and
//! names of persons behind words that introduce them give way to marks such as `[email]`. Salaries, years, dates,
//! standards, addresses and reference numbers stay. `docs/ACCURACY.md` says how well.
//!
//! Every finder reads the text once, from a sign, a label or a digit to both sides and a bounded way. What one has found
//! the next ones do not read.

mod account;
mod check;
mod email;
mod identity;
mod label;
mod name;
mod names;
mod number;
mod phone;
mod profile;
mod url;
mod veto;
mod view;

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use regex::Regex;
use serde::Serialize;

use view::View;

pub use url::scrub_url;

/// What was removed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// E-mail address, in whatever disguise.
    Email,
    /// Telephone number.
    Phone,
    /// DNI, cédula, CURP, RUN, CPF, passport and the like.
    NationalId,
    /// CUIT, RFC, NIT, RUC, RUT, CNPJ.
    TaxId,
    /// Link or handle of a person on a messenger or network.
    Profile,
    /// Bank account, card or payment key.
    Account,
    /// Name of a person behind a word that introduces it.
    Name,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Email, Self::Phone, Self::NationalId, Self::TaxId, Self::Profile, Self::Account, Self::Name];

    /// Name in answers and counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::NationalId => "national_id",
            Self::TaxId => "tax_id",
            Self::Profile => "profile",
            Self::Account => "account",
            Self::Name => "name",
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
            Self::Account => "[account]",
            Self::Name => "[name]",
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

/// What was found and where, in places of a [`View`].
type Found = Vec<(Range<usize>, Kind)>;

/// A finder of one kind of personal data, or of a few that look alike.
type Finder = fn(&View<'_>, &mut Found);

/// In this order, the surest first: an address may hold a number, a label says more than a form.
const FINDERS: [Finder; 6] =
    [profile::find, email::find, account::find, identity::find, phone::find, profile::handles];

/// A piece that is gone can let a number behind it begin, as in `a@b.co3150790793`; a second round finds it, and the
/// last one nothing. More are never needed but for texts made to need them.
const ROUNDS: usize = 4;

/// Folded words.
type Words = HashSet<&'static str>;

/// The words of a list with blanks between.
fn words(list: &'static str) -> Words {
    list.split_whitespace().collect()
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that a test compiles")
}

/// Replaces personal data by marks. Scrubbing twice changes nothing.
pub fn scrub(text: &str) -> Scrubbed {
    let mut scrubbed = Scrubbed { text: text.to_owned(), removed: BTreeMap::new() };
    for _ in 0..ROUNDS {
        let mut view = View::new(&scrubbed.text);
        let found = find_in(&mut view);
        if found.is_empty() {
            break;
        }
        let mut out = String::with_capacity(scrubbed.text.len());
        let mut last = 0;
        for (range, kind) in &found {
            let source = view.source_range(range);
            out.push_str(&scrubbed.text[last..source.start]);
            out.push_str(kind.mark());
            last = source.end;
            *scrubbed.removed.entry(*kind).or_default() += 1;
        }
        out.push_str(&scrubbed.text[last..]);
        scrubbed.text = out;
    }
    scrubbed
}

/// Everything personal in a text, in order and without overlaps.
fn find_in(view: &mut View<'_>) -> Found {
    let mut all = Found::new();
    let names: Finder = name::find;
    for finder in FINDERS.into_iter().chain(view.is_text().then_some(names)) {
        let mut found = Found::new();
        finder(view, &mut found);
        found.retain(|(range, _)| range.start < range.end);
        found.sort_by_key(|(range, _)| (range.start, usize::MAX - range.end));
        let mut end = 0;
        found.retain(|(range, _)| {
            let free = range.start >= end;
            end = end.max(if free { range.end } else { end });
            free
        });
        view.mask(&found);
        all.append(&mut found);
    }
    all.sort_by_key(|(range, _)| range.start);
    all
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
