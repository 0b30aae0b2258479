//! Dates and times in the formats that files use.
//!
//! A value that could be two dates is read as neither, unless another value of its column decides.

mod reading;

use std::fmt::Write as _;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::Value;

use super::cell::{is_empty, number_text};
use super::fold::fold;
use crate::commands::text::excerpt;
use reading::{Reading, epoch, is_milliseconds, is_seconds, is_year, month_of, reading, tail_of};

pub(super) use reading::{Moment, slashed};

/// Date format of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum DateFormat {
    /// Detect it from the values.
    #[default]
    Detect,
    /// Days since 30 December 1899, as spreadsheets count them.
    Excel,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// A `strftime` pattern.
    Pattern(String),
}

impl FromStr for DateFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "excel" => Ok(Self::Excel),
            "epoch" | "epoch-s" => Ok(Self::Seconds),
            "epoch-ms" => Ok(Self::Milliseconds),
            pattern if is_pattern(pattern) => Ok(Self::Pattern(pattern.to_owned())),
            letters if is_pattern(&spelt(letters)) => Ok(Self::Pattern(spelt(letters))),
            other => Err(format!(
                "invalid date format `{other}`: expected excel, epoch, epoch-ms or a pattern with day, month and year such as %d/%m/%Y"
            )),
        }
    }
}

/// Converts a format as spreadsheets write it, `dd/mm/yyyy` or `dd/mm/aaaa`, to a pattern.
fn spelt(letters: &str) -> String {
    let mut pattern = letters.to_lowercase().replace('a', "y");
    // The longer first, because each contains the next.
    for (long, short) in [("yyyy", "%Y"), ("yy", "%y"), ("dd", "%d"), ("mmm", "%b"), ("mm", "%m")] {
        pattern = pattern.replacen(long, short, 1);
    }
    pattern
}

/// True if a pattern can format a day and parse the same day back.
fn is_pattern(pattern: &str) -> bool {
    // 23 cannot be a month, so a pattern that confuses the two does not lead back.
    let day = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap_or_default().and_time(NaiveTime::MIN).and_utc();
    let mut written = String::new();
    pattern.contains('%')
        && write!(written, "{}", day.format(pattern)).is_ok()
        && by_pattern(&written, pattern).is_some_and(|found| found.day == day.date_naive())
}

/// Order of day and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    DayFirst,
    MonthFirst,
}

/// Date parser of one column.
#[derive(Debug, Clone)]
pub(super) struct Dates {
    format: DateFormat,
    order: Option<Order>,
    /// Conclusion from the values, for the user.
    pub(super) note: Option<String>,
}

impl Dates {
    /// Examines a column of values with their lines.
    ///
    /// # Errors
    /// If its dates are ambiguous; names the flag that decides.
    pub(super) fn survey<'v>(
        field: &str,
        values: impl Iterator<Item = (u64, &'v Value)>,
        format: &DateFormat,
    ) -> Result<Self, String> {
        let mut dates = Self { format: format.clone(), order: None, note: None };
        let mut values = values.filter(|(_, value)| !is_empty(Some(value)));
        if *format != DateFormat::Detect {
            let Some((line, first)) = values.next() else { return Ok(dates) };
            // A format that fits nothing is a mistake in the flag; one that fits most values is
            // not.
            if dates.read(first).is_err() && values.all(|(_, value)| dates.read(value).is_err()) {
                let text = shown(first);
                return Err(format!(
                    "{field}: neither `{text}` (line {line}) nor any other value matches --date-format"
                ));
            }
            return Ok(dates);
        }
        let mut seen = Survey::default();
        values.for_each(|(line, value)| seen.look(line, value));
        let (order, note) = seen.conclude().map_err(|problem| format!("{field}: {problem}"))?;
        (dates.order, dates.note) = (order, note.map(|note| format!("{field}: {note}")));
        Ok(dates)
    }

    /// Parses a value; the error says what would be needed.
    pub(super) fn read(&self, value: &Value) -> Result<Moment, &'static str> {
        let plain = "is not a date";
        if self.format != DateFormat::Detect {
            let found = by_format(value, &self.format);
            // ISO dates are accepted alongside the format, unless the format itself starts with the
            // year and so claims them.
            let year_first =
                matches!(&self.format, DateFormat::Pattern(pattern) if pattern.starts_with("%Y"));
            return match (found, reading(value)) {
                (Some(moment), _) => Ok(moment),
                (None, Reading::Certain(moment)) if !year_first => Ok(moment),
                _ => Err("does not match --date-format"),
            };
        }
        match (reading(value), self.order) {
            (Reading::Certain(moment), _) => Ok(moment),
            (Reading::Pair { first, second, year, time, zone }, order) => {
                let month_first = order == Some(Order::MonthFirst);
                let (day, month) = if month_first { (second, first) } else { (first, second) };
                let day = NaiveDate::from_ymd_opt(year, month, day).ok_or(plain)?;
                Ok(Moment { day, time, zone })
            }
            (Reading::Needs(what), _) => Err(what),
            (Reading::Unreadable, _) => Err(plain),
        }
    }
}

fn shown(value: &Value) -> String {
    excerpt(value.as_str().unwrap_or(&value.to_string()))
}

/// Findings about the values of a column.
#[derive(Default)]
struct Survey {
    day_first: Option<(u64, String)>,
    month_first: Option<(u64, String)>,
    doubtful: Option<(u64, String)>,
    /// The first value that needs a format.
    needs: Option<(u64, String, &'static str)>,
    /// The first number of seconds or milliseconds.
    counted: Option<(u64, String)>,
    certain: u64,
}

impl Survey {
    fn look(&mut self, line: u64, value: &Value) {
        if value.as_f64().is_some_and(|count| is_seconds(count) || is_milliseconds(count)) {
            self.counted.get_or_insert_with(|| (line, shown(value)));
        }
        match reading(value) {
            Reading::Certain(_) => self.certain += 1,
            Reading::Pair { first, second, .. } if first > 12 && second <= 12 => {
                self.day_first.get_or_insert_with(|| (line, shown(value)));
            }
            Reading::Pair { first, second, .. } if second > 12 && first <= 12 => {
                self.month_first.get_or_insert_with(|| (line, shown(value)));
            }
            // 11/11/2025 is the same day in either order.
            Reading::Pair { first, second, .. } if first == second => self.certain += 1,
            Reading::Pair { first, second, .. } if first <= 12 && second <= 12 => {
                self.doubtful.get_or_insert_with(|| (line, shown(value)));
            }
            Reading::Needs(what) => {
                self.needs.get_or_insert_with(|| (line, shown(value), what));
            }
            Reading::Pair { .. } | Reading::Unreadable => {}
        }
    }

    fn conclude(self) -> Result<(Option<Order>, Option<String>), String> {
        match (self.day_first, self.month_first, self.doubtful, self.needs) {
            (Some((line, day)), Some((other, month)), ..) => Err(format!(
                "`{day}` (line {line}) starts with the day and `{month}` (line {other}) with the month; use one format, or pass --date-format"
            )),
            (Some((line, text)), None, ..) => {
                Ok((Some(Order::DayFirst), Some(format!("day/month/year, as `{text}` in line {line} shows"))))
            }
            (None, Some((line, text)), ..) => Ok((
                Some(Order::MonthFirst),
                Some(format!("month/day/year, as `{text}` in line {line} shows")),
            )),
            (None, None, Some((line, text)), _) => Err(format!(
                "`{text}` (line {line}) could be day/month or month/day, and no other value decides it; pass --date-format %d/%m/%Y or %m/%d/%Y"
            )),
            // Next to dates that are certain, a single value of this kind costs only itself.
            (None, None, None, Some((line, text, what))) if self.certain == 0 => {
                Err(format!("`{text}` (line {line}) {what}"))
            }
            _ => Ok((
                None,
                self.counted.map(|(line, text)| {
                    format!("numbers are read as time since 1970, as `{text}` in line {line}")
                }),
            )),
        }
    }
}

fn by_format(value: &Value, format: &DateFormat) -> Option<Moment> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number_text(number),
        _ => return None,
    };
    // Spanish spreadsheets write a decimal comma.
    let count = text.replace(',', ".").parse::<f64>().ok();
    match format {
        DateFormat::Detect => None,
        // Up to the year 2173; larger numbers are something else.
        DateFormat::Excel => count.filter(|days| (1.0..100_000.0).contains(days)).and_then(excel),
        DateFormat::Seconds => count.and_then(epoch),
        DateFormat::Milliseconds => count.and_then(|count| epoch(count / 1e3)),
        DateFormat::Pattern(pattern) => by_pattern(&text, pattern),
    }
}

fn by_pattern(text: &str, pattern: &str) -> Option<Moment> {
    let english: String;
    let text = if ["%b", "%B", "%h"].iter().any(|month| pattern.contains(month)) {
        english = in_english(text);
        &english
    } else {
        text
    };
    // The most specific first: a pattern without zone or time fails in these two.
    if let Ok(moment) = DateTime::parse_from_str(text, pattern) {
        return Some(Moment { zone: Some(*moment.offset()), ..Moment::naive(moment.naive_local()) });
    }
    if let Ok(moment) = NaiveDateTime::parse_from_str(text, pattern) {
        return Some(Moment::naive(moment));
    }
    // The value may have a time that the pattern leaves out.
    let (day, tail) = NaiveDate::parse_and_remainder(text, pattern).ok()?;
    let (time, zone) = tail_of(tail).filter(|_| tail.is_empty() || tail.starts_with(['T', ' ', ',']))?;
    // chrono's %Y also matches two digits, which would be a year of the first century.
    Some(Moment { day, time, zone }).filter(|moment| is_year(moment.day.year()))
}

/// Translates names of months to English, the only language of chrono's patterns.
fn in_english(text: &str) -> String {
    const ENGLISH: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut english = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_alphabetic()) {
        let letters = word.trim_end_matches(|c: char| !c.is_alphabetic());
        let month = month_of(&fold(letters)).and_then(|month| ENGLISH.get(month as usize - 1));
        english += month.unwrap_or(&letters);
        english += &word[letters.len()..];
    }
    english
}

/// Converts a serial date of a spreadsheet.
pub(super) fn excel(days: f64) -> Option<Moment> {
    // Excel counts a 29 February 1900 that never was; this base gives its dates from March 1900 on.
    let base = NaiveDate::from_ymd_opt(1899, 12, 30)?;
    let day = base.checked_add_days(Days::new(days as u64))?;
    let time =
        NaiveTime::from_num_seconds_from_midnight_opt((days.fract() * 86_400.0).round() as u32 % 86_400, 0)?;
    Some(Moment::naive(day.and_time(time)))
}

#[cfg(test)]
mod tests;
