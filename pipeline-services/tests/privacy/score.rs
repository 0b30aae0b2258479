//! How well a scrubber does on the set, and the table that says so.
//!
//! **Recall** of a kind and country: the share of its strings of which no secret shows afterwards,
//! nor half of one. **Precision**: right removals by all removals, `right / (right + wrong)`. A
//! string whose secrets are all gone is one right removal. Wrong are every string of the stay set
//! that is changed at all, and every string whose words around the personal data are not there any
//! more, even when the data is gone too.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    case::{Case, Country, Kind},
    stay::Stay,
};

/// A count and the total it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Share {
    /// How many of them.
    pub(crate) part: u32,
    /// How many there are.
    pub(crate) all: u32,
}

impl Share {
    fn count(&mut self, counts: bool) {
        self.part += u32::from(counts);
        self.all += 1;
    }

    /// From 0 to 1; 1 where there is nothing.
    pub(crate) fn ratio(self) -> f64 {
        if self.all == 0 { 1.0 } else { f64::from(self.part) / f64::from(self.all) }
    }
}

/// What became of the whole set.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    /// Strings whose secrets are gone.
    pub(crate) removed: BTreeMap<(Kind, Country), Share>,
    /// Strings whose surroundings are damaged.
    pub(crate) damaged: BTreeMap<Kind, Share>,
    /// Strings of the stay set that are changed, by class.
    pub(crate) changed: BTreeMap<&'static str, Share>,
    /// What went wrong, form by form and class by class: how often, with an example.
    pub(crate) faults: BTreeMap<String, (u32, String)>,
}

impl Scores {
    /// Applies a scrubber to every string; a flag says whether it gets an address or identifier.
    pub(crate) fn of(cases: &[Case], stays: &[Stay], scrub: impl Fn(&str, bool) -> String) -> Self {
        let mut scores = Self::default();
        for case in cases {
            let output = scrub(&case.text, case.kind == Kind::Url);
            let (removed, kept) = (!case.leaks(&output), case.keeps_surroundings(&output));
            scores.removed.entry((case.kind, case.country)).or_default().count(removed);
            scores.damaged.entry(case.kind).or_default().count(!kept);
            let form = format!("{} {}, {}", case.kind.name(), case.country.name(), case.form);
            if !removed {
                scores.fault(format!("left: {form}"), &case.text, &output);
            }
            if !kept {
                scores.fault(format!("damaged: {form}"), &case.text, &output);
            }
        }
        for stay in stays {
            let output = scrub(&stay.text, stay.is_url);
            scores.changed.entry(stay.class).or_default().count(output != stay.text);
            if output != stay.text {
                scores.fault(format!("changed: {}", stay.class), &stay.text, &output);
            }
        }
        scores
    }

    fn fault(&mut self, what: String, text: &str, output: &str) {
        self.faults.entry(what).or_insert_with(|| (0, format!("{text:?} became {output:?}"))).0 += 1;
    }

    /// The recall of a kind over all its countries.
    pub(crate) fn recall(&self, kind: Kind) -> f64 {
        self.removed_of(kind).ratio()
    }

    fn removed_of(&self, kind: Kind) -> Share {
        let of_kind = self.removed.iter().filter(|((other, _), _)| *other == kind).map(|(_, share)| share);
        of_kind.fold(Share::default(), |sum, share| Share {
            part: sum.part + share.part,
            all: sum.all + share.all,
        })
    }

    /// Right removals by all removals, as the module says.
    pub(crate) fn precision(&self) -> f64 {
        let right: u32 = self.removed.values().map(|share| share.part).sum();
        let wrong: u32 = self.damaged.values().chain(self.changed.values()).map(|share| share.part).sum();
        Share { part: right, all: right + wrong }.ratio()
    }
}

/// Recall by kind and country, damage by kind, changes by class, and precision.
pub(crate) fn table(scores: &Scores) -> String {
    let mut out = format!("{:<12}", "recall");
    for country in Country::ALL {
        let _ = write!(out, "{:>8}", country.name());
    }
    let _ = writeln!(out, "{:>8}{:>8}{:>9}", "all", "strings", "damaged");
    for kind in Kind::ALL {
        let _ = write!(out, "{:<12}", kind.name());
        for country in Country::ALL {
            let share = scores.removed.get(&(kind, country));
            let _ =
                write!(out, "{:>8}", share.map_or("-".to_owned(), |share| format!("{:.3}", share.ratio())));
        }
        let damaged = scores.damaged.get(&kind).copied().unwrap_or_default();
        let all = scores.removed_of(kind);
        let _ = writeln!(out, "{:>8.3}{:>8}{:>9}", all.ratio(), all.all, damaged.part);
    }
    let _ = writeln!(out, "\n{:<44}changed", "must stay");
    for (class, share) in &scores.changed {
        let _ = writeln!(out, "{class:<44}{:>3} of {}", share.part, share.all);
    }
    let _ = writeln!(out, "\nprecision {:.4}", scores.precision());
    out
}

/// The faults, the most frequent first, each with an example.
pub(crate) fn faults(scores: &Scores) -> String {
    let mut faults: Vec<_> = scores.faults.iter().collect();
    faults.sort_by_key(|(what, (count, _))| (std::cmp::Reverse(*count), what.as_str()));
    faults.iter().fold(String::new(), |mut out, (what, (count, example))| {
        let _ = writeln!(out, "{count:>4} {what}: {example}");
        out
    })
}
