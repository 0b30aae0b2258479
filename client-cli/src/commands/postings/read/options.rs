//! The flags of `postings import`, as the readers see them.
//!
//! Values are parsed here, so that a wrong flag is refused before any file is opened.

use std::path::PathBuf;

use super::columns::Columns;
use super::dates::DateFormat;
use super::delimited;
use super::input::FileFormat;
use crate::files::encoding::Charset;

/// Files to import, and how to read them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImportOptions {
    /// Files to import: delimited text, JSON, JSON Lines, schema.org JobPosting, spreadsheets or
    /// Parquet; also as .gz or as the only file of a .zip; `-` reads standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Format of the files [default: detected].
    #[arg(long)]
    pub(crate) format: Option<FileFormat>,
    /// Column mapping, comma-separated FIELD=COLUMN pairs such as title=Titulo [default: detected
    /// from the column names].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "MAP")]
    pub(crate) map: Columns,
    /// Portal of rows without one.
    #[arg(long, value_name = "P")]
    pub(crate) portal: Option<String>,
    /// Country of rows without one, such as CO or Colombia.
    #[arg(long, value_name = "CC")]
    pub(crate) country: Option<String>,
    /// Delimiter of delimited text, such as `;` or tab [default: detected].
    #[arg(long, value_name = "C", value_parser = delimited::parse_delimiter)]
    pub(crate) delimiter: Option<char>,
    /// Text encoding, such as utf-8, windows-1252, utf-16le, macintosh or cp850 [default:
    /// detected].
    #[arg(long, value_name = "E")]
    pub(crate) encoding: Option<Charset>,
    /// Date format: a pattern such as %d/%m/%Y, excel, epoch or epoch-ms [default: detected, if the
    /// values are unambiguous].
    #[arg(long, value_name = "F", default_value = "", hide_default_value = true, value_parser = date_format)]
    pub(crate) date_format: DateFormat,
    /// Date or time of collection of rows without one, such as 2025-11-03 [default: unknown].
    #[arg(long, value_name = "DATE", value_parser = collected)]
    pub(crate) collected: Option<String>,
    /// Sheet of a spreadsheet to import [default: the one with advertisements].
    #[arg(long, value_name = "NAME")]
    pub(crate) sheet: Option<String>,
    /// Do not store anything; show how the columns are understood and the first three
    /// advertisements as they would be stored.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Parses a day, or a time with its zone. A day becomes noon UTC, which is on the same day in
/// almost all time zones.
fn collected(text: &str) -> Result<String, String> {
    let time = match (text.parse::<chrono::NaiveDate>(), chrono::DateTime::parse_from_rfc3339(text)) {
        (Ok(day), _) => day.and_hms_opt(12, 0, 0).map(|noon| noon.and_utc()),
        (_, Ok(time)) => Some(time.to_utc()),
        _ => None,
    };
    let time =
        time.ok_or_else(|| format!("invalid date `{text}`: expected 2025-11-03 or 2025-11-03T10:30:00Z"))?;
    // A day of grace for clocks and time zones.
    if time > chrono::Utc::now() + chrono::Duration::days(1) {
        return Err(format!(
            "`{text}` is in the future; expected the date on which the advertisements were collected"
        ));
    }
    Ok(time.to_rfc3339())
}

/// Parses a date format; an empty one means detection.
fn date_format(text: &str) -> Result<DateFormat, String> {
    if text.is_empty() { Ok(DateFormat::Detect) } else { text.parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_collection_is_a_day_or_a_time() {
        let check = |text: &str, expected: Result<&str, &str>| match (collected(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("2025-11-03", Ok("2025-11-03T12:00:00+00:00"));
        check("2025-11-03T23:30:00-05:00", Ok("2025-11-04T04:30:00+00:00"));
        check("03/11/2025", Err("invalid date `03/11/2025`: expected 2025-11-03"));
        check("2025-02-30", Err("invalid date"));
        check("ayer", Err("invalid date"));
        check("2999-01-01", Err("is in the future"));
    }
}
