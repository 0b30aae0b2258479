//! The report's own words and number formats, in the language of the document.
//!
//! All wording lies in `reports/words.json`; this module looks it up and formats counts, shares,
//! days and spans as the language does. A missing word shows as its key rather than as an error.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::comparison::{self, MIN_GROUP};
use super::document::{CountryScope, DateRange, Filter, Language, Notice, ReportDocument, Scope};

mod reasons;

type Table = BTreeMap<String, String>;

/// The file is part of the program; a test reads it, so that it parses is not in question at run
/// time.
static TABLES: LazyLock<BTreeMap<String, Table>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../reports/words.json")).unwrap_or_default());
static NO_WORDS: Table = Table::new();

/// The words of one language.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    language: Language,
    table: &'static Table,
}

impl Words {
    /// The words of `language`.
    pub(crate) fn of(language: Language) -> Self {
        Self { language, table: TABLES.get(language.tag()).unwrap_or(&NO_WORDS) }
    }

    /// All words by key, for templates.
    pub(crate) fn table(&self) -> &'static BTreeMap<String, String> {
        self.table
    }

    /// The text of `key`; the key itself if there is none, so that a gap shows.
    pub(crate) fn get<'k>(&self, key: &'k str) -> &'k str {
        self.table.get(key).map_or(key, String::as_str)
    }

    /// The sign for a value that is not there.
    pub(crate) fn none(&self) -> String {
        self.get("none").to_owned()
    }

    /// The text of `key` with each `{name}` replaced. Values are not searched for further names.
    pub(crate) fn fill(&self, key: &str, values: &[(&str, &str)]) -> String {
        fill(self.get(key), |name| values.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    /// The printed form of a value of a closed-ish set ("stage", "extract"): its word, or else the
    /// value itself with underscores as spaces.
    pub(crate) fn value(&self, set: &str, value: &str) -> String {
        let word = self.table.get(&format!("{set}.{value}"));
        word.cloned().unwrap_or_else(|| value.replace('_', " "))
    }

    /// A count with grouped thousands.
    pub(crate) fn count(&self, n: u64) -> String {
        group(&n.to_string(), self.get("number.thousands"))
    }

    /// A number with `places` decimals, halves away from zero.
    pub(crate) fn decimal(&self, value: f64, places: usize) -> String {
        let scale = 10_f64.powi(i32::try_from(places).unwrap_or(0));
        // Rounded first, since formatting alone rounds halves to even.
        let text = format!("{:.places$}", (value.abs() * scale).round() / scale);
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        // What rounds to zero has no sign.
        let negative = value < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b));
        let mut out = String::from(if negative { "\u{2212}" } else { "" });
        out.push_str(&group(whole, self.get("number.thousands")));
        if !fraction.is_empty() {
            out.push_str(self.get("number.decimal"));
            out.push_str(fraction);
        }
        out
    }

    /// `part` of `whole` as a percentage: with one decimal, or without one where the whole is so
    /// small that it would mean nothing; a dash if there is no whole.
    pub(crate) fn share(&self, part: u64, whole: u64) -> String {
        match percent(part, whole) {
            Some(value) => format!("{}{}", self.decimal(value, places(whole)), self.get("number.percent")),
            None => self.none(),
        }
    }

    /// The 95 % interval of a share ("27,1–33,0 %"); a dash if there is no whole.
    pub(crate) fn interval(&self, part: u64, whole: u64) -> String {
        match comparison::interval(part, whole) {
            Some((low, high)) => {
                let (low, high) = (self.decimal(low, places(whole)), self.decimal(high, places(whole)));
                format!("{low}–{high}{}", self.get("number.percent"))
            }
            None => self.none(),
        }
    }

    /// The number of cases under a share.
    pub(crate) fn n(&self, whole: u64) -> String {
        self.fill("n", &[("n", &self.count(whole))])
    }

    /// A heading with the number of cases that its column rests on.
    pub(crate) fn with_n(&self, key: &str, whole: u64) -> String {
        format!("{} ({})", self.get(key), self.n(whole))
    }

    /// Items as a sentence lists them: "a, b y c".
    pub(crate) fn list(&self, items: &[String]) -> String {
        match items {
            [] => String::new(),
            [only] => only.clone(),
            [first @ .., last] => {
                format!("{} {} {last}", first.join(", "), self.conjunction(last))
            }
        }
    }

    /// Spanish "y" is "e" before the sound of an i.
    fn conjunction(&self, next: &str) -> &'static str {
        let start: String = next.chars().take(3).collect::<String>().to_lowercase();
        // "hielo" and "iones" begin with the sound of a y.
        let sounds_i =
            (start.starts_with(['i', 'í']) && !start.starts_with("ia") && !start.starts_with("io"))
                || (start.starts_with("hi") && !start.starts_with("hie") && !start.starts_with("hia"));
        match self.language {
            Language::En => "and",
            Language::Es if sounds_i => "e",
            Language::Es => "y",
        }
    }

    /// A day in the order usual in the language.
    pub(crate) fn date(&self, date: NaiveDate) -> String {
        let (year, month, day) = (date.year(), date.month(), date.day());
        fill(self.get("date.pattern"), |name| match name {
            "d" => Some(format!("{day:02}")),
            "m" => Some(format!("{month:02}")),
            "y" => Some(format!("{year:04}")),
            _ => None,
        })
    }

    /// A day and minute, in UTC.
    pub(crate) fn moment(&self, at: DateTime<Utc>) -> String {
        format!("{} {} UTC", self.date(at.date_naive()), at.format("%H:%M"))
    }

    /// A range of days; one day if both ends are equal.
    pub(crate) fn range(&self, range: DateRange) -> String {
        if range.from == range.to {
            return self.date(range.from);
        }
        format!("{} {} {}", self.date(range.from), self.get("date.to"), self.date(range.to))
    }

    /// The same where the days may be unknown.
    pub(crate) fn days(&self, range: Option<DateRange>) -> String {
        range.map_or_else(|| self.get("unknown").to_owned(), |range| self.range(range))
    }

    /// A duration in the largest two units worth reading.
    pub(crate) fn duration(&self, milliseconds: u64) -> String {
        let seconds = milliseconds / 1000;
        match seconds {
            0..60 => format!("{} s", self.decimal(milliseconds as f64 / 1000.0, 1)),
            60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
            _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }

    /// The name of a country: the document's, or the known one, or the code.
    pub(crate) fn country(&self, code: &str, scope: &[CountryScope]) -> String {
        let given = scope.iter().find(|c| c.code == code).and_then(|c| c.name.clone());
        given.unwrap_or_else(|| self.value("country", code))
    }

    /// The countries of a scope with their postings.
    pub(crate) fn countries(&self, scope: &Scope) -> String {
        let mut names = Vec::new();
        for country in &scope.countries {
            let name = self.country(&country.code, &scope.countries);
            names.push(format!("{name} ({})", self.n(country.postings)));
        }
        if names.is_empty() { self.get("none").to_owned() } else { names.join(", ") }
    }

    /// A filter of the run, as a reader says it.
    pub(crate) fn filter(&self, filter: &Filter, scope: &[CountryScope]) -> String {
        match filter {
            Filter::Portals { names } => self.fill("filter.portals", &[("names", &names.join(", "))]),
            Filter::Countries { codes } => {
                let names: Vec<String> = codes.iter().map(|code| self.country(code, scope)).collect();
                self.fill("filter.countries", &[("names", &names.join(", "))])
            }
            Filter::Since { seconds, from } => {
                let values = [("from", &*self.moment(*from)), ("time", &*self.span(*seconds))];
                self.fill("filter.since", &values)
            }
            Filter::First { postings } => self.fill("filter.first", &[("n", &self.count(*postings))]),
        }
    }

    /// A length of time as a user gives it: in the largest unit that divides it.
    fn span(&self, seconds: u64) -> String {
        let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)];
        let (unit, length) =
            units.into_iter().find(|(_, length)| seconds.is_multiple_of(*length)).unwrap_or(("seconds", 1));
        let count = seconds / length;
        let key = format!("time.{unit}{}", if count == 1 { "_one" } else { "" });
        fill(self.get(&key), |name| (name == "n").then(|| self.count(count)))
    }

    /// The maker of a figure: the name of a model as it is, a rule set by its word.
    pub(crate) fn maker(&self, name: &str) -> String {
        self.table.get(&format!("maker.{name}")).map_or_else(|| name.to_owned(), Clone::clone)
    }

    /// The name of a taxonomy: well-known ones as their owners write them.
    pub(crate) fn taxonomy_name(&self, name: &str) -> String {
        match name.to_lowercase().as_str() {
            known @ ("esco" | "cuoc" | "onet") => known.to_uppercase(),
            _ => name.to_owned(),
        }
    }

    /// The text of a notice.
    pub(crate) fn notice(&self, notice: &Notice) -> String {
        match notice {
            Notice::IllustrativeClusters { model } => {
                self.fill("notice.illustrative_clusters", &[("model", model)])
            }
            Notice::PartialRun { stage, reason } => {
                let name = self.value("stage", stage);
                let reason = reason.as_ref().map_or_else(String::new, |raw| self.reason(stage, raw));
                // Without a reason the sentence would end in the blank before it.
                self.fill("notice.partial_run", &[("stage", &name), ("reason", &reason)]).trim().to_owned()
            }
            Notice::InventedPostings => self.get("notice.invented_postings").to_owned(),
            Notice::OtherAddress { source } => self.fill("notice.other_address", &[("source", source)]),
            Notice::FewPostings { postings } => {
                let values = [("n", &*self.count(*postings)), ("min", &*self.count(MIN_GROUP))];
                self.fill("notice.few_postings", &values)
            }
            Notice::NoTaxonomy => self.get("notice.no_taxonomy").to_owned(),
            Notice::Other { text } => text.clone(),
        }
    }

    /// The title of a document.
    pub(crate) fn title(&self, document: &ReportDocument) -> String {
        document.title.clone().unwrap_or_else(|| self.get("title").to_owned())
    }
}

/// Decimals that a share of this many cases bears.
pub(super) const fn places(whole: u64) -> usize {
    if whole < MIN_GROUP { 0 } else { 1 }
}

/// `part` of `whole` in percent; none if `whole` is zero.
pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

/// Replaces each `{name}` that `value` knows, in one pass; anything else stays as it is.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let known = after.find('}').and_then(|close| Some((close, value(&after[..close])?)));
        match known {
            Some((close, text)) => {
                out.push_str(&text);
                rest = &after[close + 1..];
            }
            None => {
                // Only the brace is passed over: a name may begin behind it.
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn group(digits: &str, separator: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push_str(separator);
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
