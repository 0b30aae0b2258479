//! Removal of personal data from text.
//!
//! E-mail addresses, telephone numbers, numbers of identity papers, taxpayers and accounts,
//! profiles and handles, and names of persons behind words that introduce them are replaced by
//! marks such as `[email]`. Salaries, years, dates, standards, addresses and reference numbers
//! stay. `docs/ACCURACY.md` says how well.
//!
//! Every finder reads the text once, from a sign, a label or a digit to both sides and a bounded
//! way. What one has found the next ones do not read.

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

use view::{Of, View};

pub use url::scrub_url;

/// Kind of a removed piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

    /// The mark that replaces it in the text.
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// The text.
    pub text: String,
    /// Counts of the kinds that occurred.
    pub removed: BTreeMap<Kind, u32>,
}

/// Finds with their places in a [`View`].
type Found = Vec<(Range<usize>, Kind)>;

/// A finder of one kind of personal data, or of a few that look alike.
type Finder = fn(&View<'_>, &mut Found);

/// In this order, the surest first: an address may hold a number, a label says more than a form.
const FINDERS: [Finder; 6] =
    [profile::find, email::find, account::find, identity::find, phone::find, profile::handles];

/// A piece that is gone can let a number behind it begin, as in `a@b.co3150790793`; a second round
/// finds it, and the last one nothing. More are never needed but for texts made to need them.
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
    scrub_as(text, Of::Text)
}

/// The same for the name of a place: one named after a person keeps its name, as `Ingeniero Pablo
/// Nogués` does.
pub(crate) fn scrub_place(text: &str) -> Scrubbed {
    scrub_as(text, Of::Place)
}

fn scrub_as(text: &str, of: Of) -> Scrubbed {
    let mut scrubbed = Scrubbed { text: text.to_owned(), removed: BTreeMap::new() };
    for _ in 0..ROUNDS {
        let mut view = View::of(&scrubbed.text, of);
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
    // Last: behind "contacto" there may stand an address or a number instead of a name.
    let names: Finder = name::find;
    for finder in FINDERS.into_iter().chain(view.has_names().then_some(names)) {
        let mut found = Found::new();
        finder(view, &mut found);
        // An empty find would put a mark where nothing was removed.
        found.retain(|(range, _)| range.start < range.end);
        // Of two that begin together the longer keeps the place.
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
mod tests;
