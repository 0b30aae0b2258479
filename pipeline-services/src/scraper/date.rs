//! Days of publication as portals write them.
//!
//! Reads relative, written and numeric forms in the portal's own time zone. A day is given only
//! where the text names one and it can be one of publication; nothing is guessed.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Days, Duration, FixedOffset, Months, NaiveDate, NaiveDateTime, TimeZone};
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// A way of writing a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DateForm {
    /// "Hace 3 días", "Ayer", "Hoy": counted back from the moment of the answer in the portal's
    /// zone.
    Relative,
    /// "25 sept." or "3 de marzo de 2026"; without a year the latest such day that is not in the
    /// future.
    DayMonth,
    /// 2026-11-23, also with a time.
    Iso,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// A `strftime` pattern; what follows after the day is ignored.
    Pattern(String),
}

impl DateForm {
    /// Reads the name of a form.
    ///
    /// # Errors
    /// If it is neither a known name nor a pattern with a year, a month and a day.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "relative" => Self::Relative,
            "day-month" => Self::DayMonth,
            "iso" => Self::Iso,
            "epoch-s" => Self::EpochSeconds,
            "epoch-ms" => Self::EpochMillis,
            pattern if is_day_pattern(pattern) => Self::Pattern(pattern.to_owned()),
            other => {
                let known = "relative, day-month, iso, epoch-s, epoch-ms, or a pattern such as %d-%m-%Y";
                return Err(format!("`{other}` is not a date form; known are {known}"));
            }
        })
    }
}

/// A pattern is good when it writes a day and reads the same day back.
fn is_day_pattern(pattern: &str) -> bool {
    use std::fmt::Write as _;
    // Its parts differ, so that a pattern that exchanges them is noticed.
    let day = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap_or_default();
    let mut written = String::new();
    pattern.contains('%')
        // Written, since `to_string` panics at a specifier that does not exist.
        && write!(written, "{}", day.format(pattern)).is_ok()
        && NaiveDate::parse_from_str(&written, pattern) == Ok(day)
}

/// Reads a day with the first form that fits; `answered` is the moment of the portal's answer in
/// its zone.
///
/// None when no form fits or the day cannot be one of publication: before 2000 or after tomorrow.
/// "Hace más de 30 días" names no day and gives none.
pub(super) fn read(text: &str, forms: &[DateForm], answered: DateTime<FixedOffset>) -> Option<NaiveDate> {
    let folded = fold(text);
    let tomorrow = answered.date_naive().checked_add_days(Days::new(1))?;
    forms
        .iter()
        .filter_map(|form| match form {
            DateForm::Relative => relative(&folded, answered),
            DateForm::DayMonth => day_month(&folded, answered),
            DateForm::Iso => iso(text.trim(), *answered.offset()),
            DateForm::EpochSeconds => epoch(text, 1, *answered.offset()),
            DateForm::EpochMillis => epoch(text, 1_000, *answered.offset()),
            DateForm::Pattern(pattern) => {
                NaiveDate::parse_and_remainder(text.trim(), pattern).ok().map(|(day, _)| day)
            }
        })
        // A day that cannot be right leaves the text to the next form.
        .find(|day| day.year() >= 2000 && *day <= tomorrow)
}

/// Lower case, no accents, single blanks.
fn fold(text: &str) -> String {
    let plain: String = text.nfd().filter(|c| !unicode_normalization::char::is_combining_mark(*c)).collect();
    plain.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn relative(folded: &str, answered: DateTime<FixedOffset>) -> Option<NaiveDate> {
    static AGO: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"hace (\d{1,4}|una?) (segundo|minuto|hora|dia|semana|mes|ano)").expect("a valid pattern")
    });
    let today = answered.date_naive();
    if let Some(found) = AGO.captures(folded) {
        // "un" and "una" do not parse, and mean one.
        let count: u32 = found[1].parse().unwrap_or(1);
        return match &found[2] {
            // In time first: a few hours ago may have been yesterday.
            "segundo" => Some((answered - Duration::seconds(count.into())).date_naive()),
            "minuto" => Some((answered - Duration::minutes(count.into())).date_naive()),
            "hora" => Some((answered - Duration::hours(count.into())).date_naive()),
            "dia" => today.checked_sub_days(Days::new(count.into())),
            "semana" => today.checked_sub_days(Days::new(u64::from(count) * 7)),
            "mes" => today.checked_sub_months(Months::new(count)),
            // Four digits at most, so the product does not overflow.
            _ => today.checked_sub_months(Months::new(count * 12)),
        };
    }
    // Before "ayer", which is part of "anteayer".
    if says(folded, &["anteayer", "antes de ayer", "antier"]) {
        today.checked_sub_days(Days::new(2))
    } else if says(folded, &["ayer"]) {
        today.pred_opt()
    } else if folded.split(' ').any(|word| word == "hoy")
        || says(folded, &["hace un momento", "hace instantes"])
    {
        Some(today)
    } else {
        None
    }
}

fn says(folded: &str, words: &[&str]) -> bool {
    words.iter().any(|word| folded.contains(word))
}

fn day_month(folded: &str, answered: DateTime<FixedOffset>) -> Option<NaiveDate> {
    static WRITTEN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(\d{1,2})(?: de)? (ene|feb|mar|abr|may|jun|jul|ago|sep|set|oct|nov|dic)[a-z]*\.?(?:(?: de| del|,)? (\d{4}))?")
            .expect("a valid pattern")
    });
    let found = WRITTEN.captures(folded)?;
    let day: u32 = found[1].parse().ok()?;
    let names = ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"];
    // Peru and Uruguay write "setiembre".
    let name = if &found[2] == "set" { "sep" } else { &found[2] };
    let month = u32::try_from(names.iter().position(|candidate| *candidate == name)?).ok()? + 1;
    if let Some(year) = found.get(3) {
        return NaiveDate::from_ymd_opt(year.as_str().parse().ok()?, month, day);
    }
    let today = answered.date_naive();
    // Four years back, since it may be the 29th of February.
    (0..=4)
        .filter_map(|back| NaiveDate::from_ymd_opt(today.year() - back, month, day))
        .find(|day| *day <= today)
}

fn iso(text: &str, zone: FixedOffset) -> Option<NaiveDate> {
    // A moment with an offset may fall on another day in the portal's zone.
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.with_timezone(&zone).date_naive());
    }
    let naive = text.replacen(' ', "T", 1);
    if let Ok((moment, _)) = NaiveDateTime::parse_and_remainder(&naive, "%Y-%m-%dT%H:%M") {
        return Some(moment.date());
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

fn epoch(text: &str, per_second: i64, zone: FixedOffset) -> Option<NaiveDate> {
    let count: i64 = text.trim().parse().ok()?;
    Some(zone.timestamp_opt(count / per_second, 0).single()?.date_naive())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_left(text in "(hace|ayer|[0-9]{1,20}|[a-zñ /.:-]){0,6}") {
            let forms = ["relative", "day-month", "iso", "%d-%m-%Y", "epoch-s", "epoch-ms"]
                .map(|name| DateForm::parse(name).expect("a form"));
            let day = read(&text, &forms, at("2026-03-01T02:30:00-05:00"));
            prop_assert!(day.is_none_or(|day| day.year() >= 2000 && day.year() <= 2026));
        }

        #[test]
        fn days_ago_are_counted(days in 0_u64..3_000) {
            let day = read(&format!("Hace {days} días"), &[DateForm::Relative], at("2026-03-01T02:30:00-05:00"));
            prop_assert_eq!(day, at("2026-03-01T02:30:00-05:00").date_naive().checked_sub_days(Days::new(days)));
        }
    }

    fn at(moment: &str) -> DateTime<FixedOffset> {
        moment.parse().expect("a moment")
    }

    #[test]
    fn days_are_read() {
        let all = ["relative", "day-month", "iso", "%d-%m-%Y", "epoch-s"]
            .map(|name| DateForm::parse(name).expect("a form"));
        let check = |text: &str, expected: Option<&str>| {
            let day = read(text, &all, at("2026-03-01T02:30:00-05:00"));
            assert_eq!(day.map(|day| day.to_string()).as_deref(), expected, "{text}");
        };
        check("Hace  6  días", Some("2026-02-23"));
        check("Hace  2   horas", Some("2026-03-01"));
        check("Hace 3 horas", Some("2026-02-28"));
        check("Hace una hora", Some("2026-03-01"));
        check("Hace 15 horas (actualizada)", Some("2026-02-28"));
        check("Publicado hace 1 semana", Some("2026-02-22"));
        check("Hace 1 mes", Some("2026-02-01"));
        check("Hace 1 año", Some("2025-03-01"));
        check("Hace 5 minutos", Some("2026-03-01"));
        check("HOY", Some("2026-03-01"));
        check("Ayer", Some("2026-02-28"));
        check("Anteayer", Some("2026-02-27"));
        check("Hace más de 30 días", None);
        check("25 sept.", Some("2025-09-25"));
        check("3 de enero de 2026", Some("2026-01-03"));
        check("29 feb", Some("2024-02-29"));
        check("15-10-2025", Some("2025-10-15"));
        check("15-10-2025 12:41:12", Some("2025-10-15"));
        check("2026-02-10", Some("2026-02-10"));
        check("2026-02-10T23:30:00Z", Some("2026-02-10"));
        check("2026-02-11T03:30:00Z", Some("2026-02-10"));
        check("2026-02-10 23:30:00", Some("2026-02-10"));
        check("1764000000", Some("2025-11-24"));
        check("01-01-1970", None);
        check("01-01-2031", None);
        check("31-02-2026", None);
        check("mayoría de edad", None);
        check("", None);
    }

    #[test]
    fn the_portals_zone_decides_the_day() {
        let forms = [DateForm::Relative];
        let day = |moment| read("Hace 1 hora", &forms, at(moment)).map(|day| day.to_string());
        assert_eq!(day("2026-11-23T00:30:00-05:00").as_deref(), Some("2026-11-22"));
        assert_eq!(day("2026-11-23T02:30:00-03:00").as_deref(), Some("2026-11-23"));
    }

    #[test]
    fn forms_are_checked() {
        let check = |name: &str, good: bool| assert_eq!(DateForm::parse(name).is_ok(), good, "{name}");
        check("%d/%m/%Y", true);
        check("%d-%m", false);
        check("%q", false);
        check("relativ", false);
    }
}
