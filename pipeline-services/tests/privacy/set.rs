//! The whole set of strings with personal data, and the list of their forms.

use std::{collections::BTreeSet, fmt::Write};

use fastrand::Rng;

use crate::{
    account,
    case::{Case, Country, Form, Kind},
    email, name, national_id, phone, profile, tax_id, url,
};

/// The set is the same on every machine and day.
const SEED: u64 = 1581;

/// The fewest strings of a kind that has forms of no country, and of each country of the other
/// kinds.
pub(crate) const LEAST_OF_KIND: usize = 240;
/// See [`LEAST_OF_KIND`].
pub(crate) const LEAST_OF_COUNTRY: usize = 72;

/// Every form, ordered by kind and country.
pub(crate) fn forms() -> Vec<Form> {
    email::forms()
        .chain(phone::forms())
        .chain(national_id::forms())
        .chain(tax_id::forms())
        .chain(account::forms())
        .chain(profile::forms())
        .chain(name::forms())
        .chain(url::forms())
        .collect()
}

/// Every string with personal data: all forms of a group about equally often, no string twice.
pub(crate) fn cases() -> Vec<Case> {
    let forms = forms();
    let mut seen = BTreeSet::new();
    let mut cases = Vec::new();
    for form in &forms {
        let siblings = forms.iter().filter(|other| (other.kind, other.country) == (form.kind, form.country));
        let least = if form.kind.is_national() { LEAST_OF_COUNTRY } else { LEAST_OF_KIND };
        let wanted = least.div_ceil(siblings.count());
        let mut rng = Rng::with_seed(seed(form));
        let drawn = std::iter::repeat_with(|| Case::new(form, &mut rng));
        cases.extend(drawn.filter(|case| seen.insert(case.text.clone())).take(wanted));
    }
    cases
}

/// A seed for each form, so that a new form changes the strings of no other.
fn seed(form: &Form) -> u64 {
    let title = format!("{}/{}/{}", form.kind.name(), form.country.name(), form.name);
    title.bytes().fold(SEED, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// The list of forms with an example each, in Markdown.
pub(crate) fn listing() -> String {
    let cases = cases();
    let mut out = String::from(
        "# Written forms of personal data\n\nThe generator writes this list; `forms_are_listed` compares it. \
         `⏎` is a line break. All persons,\nmailboxes and numbers are invented.\n",
    );
    for kind in Kind::ALL {
        for country in Country::ALL {
            let group = cases.iter().filter(|case| (case.kind, case.country) == (kind, country));
            out.push_str(&section(kind, country, group));
        }
    }
    out
}

/// The forms of one group; nothing where it has none.
fn section<'a>(kind: Kind, country: Country, cases: impl Iterator<Item = &'a Case>) -> String {
    let heading = match country {
        Country::Any if kind.is_national() => format!("{}, other countries", kind.name()),
        Country::Any => kind.name().to_owned(),
        _ => format!("{} {}", kind.name(), country.name()),
    };
    let mut out = String::new();
    let mut last = "";
    for case in cases {
        if last.is_empty() {
            let _ = write!(out, "\n## {heading}\n\n| form | example |\n| --- | --- |\n");
        }
        if case.form != last {
            let example = if kind == Kind::Url { &case.text } else { &case.piece };
            let _ = writeln!(out, "| {} | `{}` |", case.form, example.replace('\n', "⏎"));
        }
        last = case.form;
    }
    out
}
