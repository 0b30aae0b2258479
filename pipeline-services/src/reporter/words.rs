//! The report's own words and number formats, in the language of the document.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::document::{CountryScope, DateRange, Language, Notice, ReportDocument};

type Table = BTreeMap<String, String>;

/// The file is part of the program; a test reads it, so that it parses is not in question at run time.
static TABLES: LazyLock<BTreeMap<String, Table>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../reports/words.json")).unwrap_or_default());
static NO_WORDS: Table = Table::new();

/// The words of one language.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    language: Language,
    table: &'static Table,
}

impl Words {
    /// The words of `language`.
    pub fn of(language: Language) -> Self {
        Self { language, table: TABLES.get(language.tag()).unwrap_or(&NO_WORDS) }
    }

    /// The language of these words.
    pub fn language(&self) -> Language {
        self.language
    }

    /// All words by key, for templates.
    pub fn table(&self) -> &'static BTreeMap<String, String> {
        self.table
    }

    /// The text of `key`; the key itself if there is none, so that a gap shows.
    pub fn get<'k>(&self, key: &'k str) -> &'k str {
        self.table.get(key).map_or(key, String::as_str)
    }

    /// The text of `key` with each `{name}` replaced. Values are not searched for further names.
    pub fn fill(&self, key: &str, values: &[(&str, &str)]) -> String {
        fill(self.get(key), |name| values.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    /// The printed form of a value of a closed-ish set ("stage", "extract"): its word, or else the
    /// value itself with underscores as spaces.
    pub fn value(&self, set: &str, value: &str) -> String {
        let word = self.table.get(&format!("{set}.{value}"));
        word.cloned().unwrap_or_else(|| value.replace('_', " "))
    }

    /// A count with grouped thousands.
    pub fn count(&self, n: u64) -> String {
        group(&n.to_string(), self.get("number.thousands"))
    }

    /// A number with `places` decimals.
    pub fn decimal(&self, value: f64, places: usize) -> String {
        let text = format!("{:.places$}", value.abs());
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let negative = value < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b));
        let mut out = String::from(if negative { "\u{2212}" } else { "" });
        out.push_str(&group(whole, self.get("number.thousands")));
        if !fraction.is_empty() {
            out.push_str(self.get("number.decimal"));
            out.push_str(fraction);
        }
        out
    }

    /// `part` of `whole` as a percentage with one decimal; a dash if there is no whole.
    pub fn share(&self, part: u64, whole: u64) -> String {
        match percent(part, whole) {
            Some(value) => format!("{}{}", self.decimal(value, 1), self.get("number.percent")),
            None => self.get("none").to_owned(),
        }
    }

    /// A day in the order usual in the language.
    pub fn date(&self, date: NaiveDate) -> String {
        let (year, month, day) = (date.year(), date.month(), date.day());
        fill(self.get("date.pattern"), |name| match name {
            "d" => Some(format!("{day:02}")),
            "m" => Some(format!("{month:02}")),
            "y" => Some(format!("{year:04}")),
            _ => None,
        })
    }

    /// A day and minute, in UTC.
    pub fn moment(&self, at: DateTime<Utc>) -> String {
        format!("{} {} UTC", self.date(at.date_naive()), at.format("%H:%M"))
    }

    /// A range of days; one day if both ends are equal.
    pub fn range(&self, range: DateRange) -> String {
        if range.from == range.to {
            return self.date(range.from);
        }
        format!("{} {} {}", self.date(range.from), self.get("date.to"), self.date(range.to))
    }

    /// A duration in the largest two units worth reading.
    pub fn duration(&self, milliseconds: u64) -> String {
        let seconds = milliseconds / 1000;
        match seconds {
            0..60 => format!("{} s", self.decimal(milliseconds as f64 / 1000.0, 1)),
            60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
            _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }

    /// The name of a country: the document's, or the known one, or the code.
    pub fn country(&self, code: &str, scope: &[CountryScope]) -> String {
        let given = scope.iter().find(|c| c.code == code).and_then(|c| c.name.clone());
        given.unwrap_or_else(|| self.value("country", code))
    }

    /// The text of a notice.
    pub fn notice(&self, notice: &Notice) -> String {
        match notice {
            Notice::IllustrativeClusters { model } => {
                self.fill("notice.illustrative_clusters", &[("model", model)])
            }
            Notice::PartialRun { stage, reason } => {
                let stage = self.value("stage", stage);
                self.fill("notice.partial_run", &[("stage", &stage), ("reason", reason)]).trim().to_owned()
            }
            Notice::SimulatedPostings { source } => {
                self.fill("notice.simulated_postings", &[("source", source)])
            }
            Notice::NoTaxonomy => self.get("notice.no_taxonomy").to_owned(),
            Notice::Other { text } => text.clone(),
        }
    }

    /// The title of a document.
    pub fn title(&self, document: &ReportDocument) -> String {
        document.title.clone().unwrap_or_else(|| self.get("title").to_owned())
    }
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
mod tests {
    use super::*;

    const ES: Language = Language::Es;
    const EN: Language = Language::En;

    #[test]
    fn every_language_has_every_word() {
        let spanish: Vec<_> = Words::of(ES).table().keys().collect();
        let english: Vec<_> = Words::of(EN).table().keys().collect();
        assert!(spanish.len() > 150);
        assert_eq!(spanish, english);
    }

    /// Templates ask for words by key; a misspelt key would be printed as it is.
    #[test]
    fn every_key_used_by_a_template_exists() {
        let table = Words::of(ES).table();
        let used = |text: &str, pattern: &str| -> Vec<String> {
            let pattern = regex::Regex::new(pattern).unwrap();
            pattern.captures_iter(text).map(|c| c[1].to_owned()).collect()
        };
        let typst = used(include_str!("../../reports/report.typ"), r#"\b(?:w|say)\("([a-z_.]+)""#);
        let html = used(include_str!("../../reports/explorer.html"), r"\{w:([a-z_.]+)\}");
        assert!(typst.len() > 40 && html.len() > 5, "{} {}", typst.len(), html.len());
        for key in typst.iter().chain(&html) {
            assert!(table.contains_key(key), "no word for {key}");
        }
    }

    #[test]
    fn numbers_follow_the_language() {
        let check = |language, value: f64, places, expected: &str| {
            assert_eq!(Words::of(language).decimal(value, places), expected);
        };
        check(ES, 0.0, 1, "0,0");
        check(ES, 1234.56, 1, "1.234,6");
        check(EN, 1234.56, 1, "1,234.6");
        check(EN, 999_999.0, 0, "999,999");
        check(EN, -0.123, 3, "\u{2212}0.123");
        check(EN, -0.0001, 2, "0.00");
        assert_eq!(Words::of(ES).count(1_234_567), "1.234.567");
        assert_eq!(Words::of(ES).count(999), "999");
        assert_eq!(Words::of(ES).share(1, 8), "12,5\u{a0}%");
        assert_eq!(Words::of(EN).share(1, 8), "12.5%");
        assert_eq!(Words::of(EN).share(0, 0), "—");
    }

    #[test]
    fn dates_and_durations_follow_the_language() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 9).unwrap();
        let later = NaiveDate::from_ymd_opt(2026, 4, 1).unwrap();
        assert_eq!(Words::of(ES).date(day), "09/03/2026");
        assert_eq!(Words::of(EN).date(day), "2026-03-09");
        assert_eq!(Words::of(ES).range(DateRange { from: day, to: later }), "09/03/2026 a 01/04/2026");
        assert_eq!(Words::of(ES).range(DateRange { from: day, to: day }), "09/03/2026");
        let check = |milliseconds, expected: &str| assert_eq!(Words::of(EN).duration(milliseconds), expected);
        check(0, "0.0 s");
        check(59_940, "59.9 s");
        check(61_000, "1 min 1 s");
        check(7_260_000, "2 h 1 min");
    }

    #[test]
    fn placeholders_are_filled_once() {
        let check = |template: &str, expected: &str| {
            let value = |name: &str| (name == "a").then(|| "{b}{a}".to_owned());
            assert_eq!(fill(template, value), expected);
        };
        check("x {a} y", "x {b}{a} y");
        check("{a}{a}", "{b}{a}{b}{a}");
        check("{unknown} {", "{unknown} {");
        check("", "");
    }

    #[test]
    fn unknown_values_are_printed_as_they_are() {
        let words = Words::of(ES);
        assert_eq!(words.value("stage", "extract"), "Extracción");
        assert_eq!(words.value("stage", "new_stage"), "new stage");
        assert_eq!(words.country("CO", &[]), "Colombia");
        assert_eq!(words.country("ZZ", &[]), "ZZ");
        let named = CountryScope { code: "ZZ".into(), name: Some("Zeta".into()), postings: 1 };
        assert_eq!(words.country("ZZ", &[named]), "Zeta");
    }
}
