//! Interpretations of a single value as a date: one, two or none.
//!
//! Knows nothing about the other values of the column; `dates` decides by those.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::Value;

use super::super::cell::number_text;
use super::super::fold::fold;

/// Names of months in Spanish, Portuguese and English; a prefix of three letters is enough.
const MONTHS: [&[&str]; 12] = [
    &["enero", "janeiro", "january"],
    &["febrero", "fevereiro", "february"],
    &["marzo", "marco", "march"],
    &["abril", "april"],
    &["mayo", "maio", "may"],
    &["junio", "junho", "june"],
    &["julio", "julho", "july"],
    &["agosto", "august"],
    &["septiembre", "setiembre", "setembro", "september"],
    &["octubre", "outubro", "october"],
    &["noviembre", "novembro", "november"],
    &["diciembre", "dezembro", "december"],
];

/// A day, with its time if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) day: NaiveDate,
    pub(super) time: Option<NaiveTime>,
    pub(super) zone: Option<FixedOffset>,
}

impl Moment {
    fn day(day: NaiveDate) -> Self {
        Self { day, time: None, zone: None }
    }

    pub(super) fn naive(moment: NaiveDateTime) -> Self {
        Self { day: moment.date(), time: Some(moment.time()), zone: None }
    }

    /// True if it has a time zone.
    pub(crate) fn has_zone(&self) -> bool {
        self.zone.is_some()
    }

    /// Formats as RFC 3339, assuming UTC without a time zone.
    pub(crate) fn to_rfc3339(self) -> String {
        let naive = self.day.and_time(self.time.unwrap_or(NaiveTime::MIN));
        match self.zone.and_then(|zone| naive.and_local_timezone(zone).single()) {
            Some(moment) => moment.to_rfc3339(),
            None => naive.and_utc().to_rfc3339(),
        }
    }
}

/// Interpretation of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Certain(Moment),
    /// Two numbers of which either may be the day.
    Pair {
        first: u32,
        second: u32,
        year: i32,
        time: Option<NaiveTime>,
        zone: Option<FixedOffset>,
    },
    /// A date that needs a format; with advice.
    Needs(&'static str),
    Unreadable,
}

const TWO_DIGITS: &str = "has a two-digit year; pass --date-format, such as %d/%m/%y or %d-%b-%y";
const SERIAL: &str = "could be a spreadsheet date; pass --date-format excel";
const SECONDS: &str = "could be seconds since 1970; pass --date-format epoch";
const MILLISECONDS: &str = "could be milliseconds since 1970; pass --date-format epoch-ms";

/// Interprets a value without knowing the others of its column.
pub(super) fn reading(value: &Value) -> Reading {
    match value {
        Value::String(text) => text_reading(text.trim()),
        Value::Number(number) => match number.as_f64() {
            // JSON has no dates: pandas writes milliseconds, others seconds. The ranges do not
            // overlap for plausible years.
            Some(count) if is_milliseconds(count) => {
                epoch(count / 1e3).map_or(Reading::Unreadable, Reading::Certain)
            }
            Some(count) if is_seconds(count) => epoch(count).map_or(Reading::Unreadable, Reading::Certain),
            Some(count) if is_serial(count) => Reading::Needs(SERIAL),
            _ => text_reading(&number_text(number)),
        },
        _ => Reading::Unreadable,
    }
}

/// True for serial dates of spreadsheets from 2000 to 2099.
fn is_serial(count: f64) -> bool {
    (36_526.0..73_051.0).contains(&count)
}

/// True for Unix times from 2000 to 2099.
pub(super) fn is_seconds(count: f64) -> bool {
    (946_684_800.0..4_102_444_800.0).contains(&count)
}

pub(super) fn is_milliseconds(count: f64) -> bool {
    is_seconds(count / 1e3)
}

fn text_reading(text: &str) -> Reading {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.parse::<f64>().is_ok() {
        return digits(text);
    }
    // As RSS feeds write it.
    if let Ok(moment) = DateTime::parse_from_rfc2822(text) {
        return Reading::Certain(Moment {
            zone: Some(*moment.offset()),
            ..Moment::naive(moment.naive_local())
        });
    }
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '/' | '-' | '.'))).unwrap_or(text.len());
    let (date, tail) = text.split_at(split);
    let parts: Vec<&str> = date.split(['/', '-', '.']).collect();
    if let [first, second, third] = parts.as_slice() {
        return match tail_of(tail) {
            Some((time, zone)) => three(first, second, third, time, zone),
            None => Reading::Unreadable,
        };
    }
    written(text)
}

/// Interprets a number without separators.
fn digits(text: &str) -> Reading {
    let count: f64 = text.parse().unwrap_or_default();
    // Before the counts of seconds and milliseconds: 20251103 is none of them.
    if text.len() == 8
        && let Ok(day) = NaiveDate::parse_from_str(text, "%Y%m%d")
        && is_year(day.year())
    {
        return Reading::Certain(Moment::day(day));
    }
    if is_milliseconds(count) {
        Reading::Needs(MILLISECONDS)
    } else if is_seconds(count) {
        Reading::Needs(SECONDS)
    } else if is_serial(count) {
        Reading::Needs(SERIAL)
    } else if let [day, month, year] = text.split('.').collect::<Vec<_>>().as_slice() {
        three(day, month, year, None, None)
    } else {
        Reading::Unreadable
    }
}

/// The first two numbers of a date like 03/11/2025, whose order is not certain.
pub(crate) fn slashed(text: &str) -> Option<(u32, u32)> {
    match text_reading(text.trim()) {
        Reading::Pair { first, second, .. } => Some((first, second)),
        _ => None,
    }
}

/// True for the years of advertisements. Not tuned: job portals are younger than 1990, and years
/// after 2100 are typing errors.
pub(super) fn is_year(year: i32) -> bool {
    (1990..=2100).contains(&year)
}

fn three(
    first: &str,
    second: &str,
    third: &str,
    time: Option<NaiveTime>,
    zone: Option<FixedOffset>,
) -> Reading {
    let [Ok(a), Ok(b), Ok(c)] = [first, second, third].map(str::parse::<u32>) else {
        return Reading::Unreadable;
    };
    match (first.len(), second.len(), third.len()) {
        // Nobody writes year, day, month.
        (4, 1..=2, 1..=2) => {
            let day = NaiveDate::from_ymd_opt(a.cast_signed(), b, c).filter(|day| is_year(day.year()));
            day.map_or(Reading::Unreadable, |day| Reading::Certain(Moment { day, time, zone }))
        }
        (1..=2, 1..=2, 4) if is_year(c.cast_signed()) => {
            let valid = |day, month| NaiveDate::from_ymd_opt(c.cast_signed(), month, day).is_some();
            if !valid(a, b) && !valid(b, a) {
                return Reading::Unreadable;
            }
            Reading::Pair { first: a, second: b, year: c.cast_signed(), time, zone }
        }
        (1..=2, 1..=2, 2) if a.min(b) >= 1 && a.min(b) <= 12 && a.max(b) <= 31 => Reading::Needs(TWO_DIGITS),
        _ => Reading::Unreadable,
    }
}

pub(super) type Tail = (Option<NaiveTime>, Option<FixedOffset>);

/// Parses what follows a day: a time, and its zone.
pub(super) fn tail_of(tail: &str) -> Option<Tail> {
    let tail = tail.trim_start_matches(['T', 't', ',', ' ']).trim();
    if tail.is_empty() {
        return Some((None, None));
    }
    let split = tail.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.'))).unwrap_or(tail.len());
    let (clock, rest) = tail.split_at(split);
    // Spanish writes `p. m.`, often with a blank that does not break.
    let half: String =
        rest.to_lowercase().chars().filter(|c| !matches!(c, '.' | ' ' | '\u{a0}' | '\u{202f}')).collect();
    let twelve = match half.as_str() {
        "am" => Some(false),
        "pm" => Some(true),
        _ => None,
    };
    let time =
        ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(clock, form).ok())?;
    if let Some(afternoon) = twelve {
        let hour = clock.split(':').next()?.parse::<u32>().ok().filter(|hour| (1..=12).contains(hour))?;
        let time = NaiveTime::parse_from_str(clock.split_once(':')?.1, "%M:%S%.f").ok().unwrap_or(time);
        // 12 a.m. is midnight, 12 p.m. noon.
        let hour = hour % 12 + if afternoon { 12 } else { 0 };
        return Some((chrono::Timelike::with_hour(&time, hour), None));
    }
    let zone = match half.as_str() {
        "" => None,
        "z" | "utc" | "gmt" => FixedOffset::east_opt(0),
        // chrono does not parse a zone alone, so it gets a date in front.
        _ => Some(
            DateTime::parse_from_str(&format!("2000-01-01 00:00 {}", rest.trim()), "%Y-%m-%d %H:%M %#z")
                .ok()?
                .offset()
                .to_owned(),
        ),
    };
    Some((Some(time), zone))
}

/// The number of a month from a folded prefix of its name.
pub(super) fn month_of(folded: &str) -> Option<u32> {
    // Shorter words, such as `de`, are the beginning of a month by chance.
    let folded = Some(folded).filter(|folded| folded.len() >= 3)?;
    let place = MONTHS.iter().position(|names| names.iter().any(|name| name.starts_with(folded)))?;
    u32::try_from(place + 1).ok()
}

/// Interprets a day with its month in letters: `3 de noviembre de 2025`, `Nov 3, 2025`.
fn written(text: &str) -> Reading {
    let (mut day, mut month, mut year) = (None, None, None);
    let mut short_year = false;
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let folded = fold(word);
        let slot = match (word.parse::<u32>(), month_of(&folded)) {
            (Ok(number), _) if word.len() == 4 => year.replace(number),
            // The second number of two digits is the year, whose century would be a guess.
            (Ok(_), _) if word.len() == 2 && day.is_some() && !short_year => {
                short_year = true;
                None
            }
            (Ok(number), _) if word.len() <= 2 => day.replace(number),
            (Ok(_), _) => return Reading::Unreadable,
            (Err(_), Some(number)) => month.replace(number),
            (Err(_), None) if is_filler(&folded) => None,
            (Err(_), None) => return Reading::Unreadable,
        };
        // A second day, month or year: several dates, or none.
        if slot.is_some() {
            return Reading::Unreadable;
        }
    }
    if short_year {
        return if year.is_none() && month.is_some() {
            Reading::Needs(TWO_DIGITS)
        } else {
            Reading::Unreadable
        };
    }
    let found = year.zip(month).zip(day).and_then(|((year, month), day)| {
        NaiveDate::from_ymd_opt(year.cast_signed(), month, day).filter(|day| is_year(day.year()))
    });
    found.map_or(Reading::Unreadable, |day| Reading::Certain(Moment::day(day)))
}

/// True for words around a date that carry no information.
fn is_filler(folded: &str) -> bool {
    const DAYS: [&str; 14] = [
        "lunes",
        "martes",
        "miercoles",
        "jueves",
        "viernes",
        "sabado",
        "domingo",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    matches!(folded, "de" | "del" | "of" | "the" | "el" | "publicado" | "publicada" | "posted")
        || (folded.len() >= 3 && DAYS.iter().any(|day| day.starts_with(folded)))
}

pub(super) fn epoch(seconds: f64) -> Option<Moment> {
    let moment = DateTime::from_timestamp_millis((seconds * 1e3) as i64)?;
    let zone = FixedOffset::east_opt(0);
    Some(Moment { zone, ..Moment::naive(moment.naive_utc()) }).filter(|moment| is_year(moment.day.year()))
}
