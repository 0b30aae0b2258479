//! Dates as people, spreadsheets and programs write them.
//!
//! Tables of values and what becomes of them.

use serde_json::json;

use super::*;

fn column(values: &[Value], format: &str) -> Result<Vec<Option<String>>, String> {
    let format = if format.is_empty() { DateFormat::Detect } else { format.parse()? };
    let lines = (2..).zip(values);
    let dates = Dates::survey("posted_date", lines, &format)?;
    Ok(values.iter().map(|value| dates.read(value).ok().map(|moment| moment.day.to_string())).collect())
}

#[test]
fn certain_days_are_read() {
    let check = |value: Value, expected: Option<&str>| {
        let found = column(&[json!("2025-01-01"), value.clone()], "").expect("a column");
        assert_eq!(found[1].as_deref(), expected, "{value}");
    };
    check(json!("2025-11-03"), Some("2025-11-03"));
    check(json!("2025-11-03 00:00:00"), Some("2025-11-03"));
    check(json!("2025-11-03T10:00:00Z"), Some("2025-11-03"));
    check(json!("2025-11-03T10:00:00.000-05:00"), Some("2025-11-03"));
    check(json!("2025-11-03 10:00:00.123456789"), Some("2025-11-03"));
    check(json!("2025-11-03 10:00:00+00:00"), Some("2025-11-03"));
    check(json!("2025-11-03T10:00-0500"), Some("2025-11-03"));
    check(json!("2025-11-03 10:00:00 UTC"), Some("2025-11-03"));
    check(json!("2025/11/03"), Some("2025-11-03"));
    check(json!("20251103"), Some("2025-11-03"));
    check(json!(20_251_103), Some("2025-11-03"));
    check(json!("3 de noviembre de 2025"), Some("2025-11-03"));
    check(json!("03-nov-2025"), Some("2025-11-03"));
    check(json!("Lunes, 3 de Noviembre del 2025"), Some("2025-11-03"));
    check(json!("Nov 3, 2025"), Some("2025-11-03"));
    check(json!("3 set. 2025"), Some("2025-09-03"));
    check(json!("Mon, 03 Nov 2025 10:00:00 GMT"), Some("2025-11-03"));
    check(json!("11/11/2025"), Some("2025-11-11"));
    check(json!(1_762_128_000_000_i64), Some("2025-11-03"));
    check(json!(1_762_128_000), Some("2025-11-03"));
    check(json!("ayer"), None);
    check(json!("hace 3 días"), None);
    check(json!("2025-02-30"), None);
    check(json!("31/31/2025"), None);
    check(json!("2025-11"), None);
    check(json!("0203-11-05"), None);
    check(json!("3 de noviembre"), None);
    check(json!("2025-11-03 pronto"), None);
    check(json!("1762128000000"), None);
    check(json!("45964"), None);
    check(json!(45_964), None);
    check(json!("03/11/25"), None);
    check(json!("03-nov-25"), None);
    check(json!(true), None);
}

#[test]
fn one_value_decides_for_the_column() {
    let check = |values: &[&str], expected: &[&str]| {
        let values: Vec<Value> = values.iter().map(|value| json!(value)).collect();
        let found: Vec<String> = column(&values, "").expect("a column").into_iter().flatten().collect();
        assert_eq!(found, expected, "{values:?}");
    };
    check(&["03/11/2025", "25/11/2025"], &["2025-11-03", "2025-11-25"]);
    check(&["03/11/2025", "11/25/2025"], &["2025-03-11", "2025-11-25"]);
    check(&["3-11-2025 14:30", "25-11-2025 2:30 p. m."], &["2025-11-03", "2025-11-25"]);
    check(&["03.11.2025", "25.11.2025"], &["2025-11-03", "2025-11-25"]);
    check(&["", "03/11/2025", "NaT", "25/11/2025"], &["2025-11-03", "2025-11-25"]);
    check(&["11/11/2025"], &["2025-11-11"]);
}

#[test]
fn doubtful_columns_are_refused_with_the_flag() {
    let check = |values: &[&str], expected: &str| {
        let values: Vec<Value> = values.iter().map(|value| json!(value)).collect();
        let message = column(&values, "").expect_err(expected);
        assert!(message.starts_with("posted_date: ") && message.contains(expected), "{message}");
    };
    check(&["03/11/2025", "11/11/2025"], "`03/11/2025` (line 2) could be day/month or month/day");
    check(&["2025-11-03", "03/11/2025"], "pass --date-format %d/%m/%Y or %m/%d/%Y");
    check(
        &["25/11/2025", "11/25/2025"],
        "`25/11/2025` (line 2) starts with the day and `11/25/2025` (line 3) with the month",
    );
    check(&["03/11/25"], "`03/11/25` (line 2) has a two-digit year; pass --date-format");
    check(&["03-nov-25"], "has a two-digit year; pass --date-format, such as %d/%m/%y or %d-%b-%y");
    check(&["45964"], "pass --date-format excel");
    check(&["1762128000000"], "pass --date-format epoch-ms");
    check(&["1762128000"], "pass --date-format epoch");
}

#[test]
fn a_format_overrules() {
    let check = |format: &str, value: Value, expected: Option<&str>| {
        let found = column(std::slice::from_ref(&value), format).expect("a column");
        assert_eq!(found[0].as_deref(), expected, "{format} {value}");
    };
    check("%d/%m/%Y", json!("03/11/2025"), Some("2025-11-03"));
    check("%m/%d/%Y", json!("03/11/2025"), Some("2025-03-11"));
    check("%d/%m/%Y", json!("03/11/2025 10:00"), Some("2025-11-03"));
    check("%d/%m/%Y", json!("2025-11-03"), Some("2025-11-03"));
    check("%d/%m/%y", json!("03/11/25"), Some("2025-11-03"));
    check("%d/%m/%Y %H:%M", json!("03/11/2025 10:00"), Some("2025-11-03"));
    check("%Y-%d-%m", json!("2025-25-11"), Some("2025-11-25"));
    check("%Y-%m-%dT%H:%M:%S%z", json!("2025-11-03T10:00:00-0500"), Some("2025-11-03"));
    check("excel", json!("45964"), Some("2025-11-03"));
    check("excel", json!(45_964.5), Some("2025-11-03"));
    check("excel", json!("45964,5"), Some("2025-11-03"));
    check("epoch", json!("1762128000"), Some("2025-11-03"));
    check("epoch-ms", json!("1762128000000"), Some("2025-11-03"));
    check("%d-%b-%y", json!("03-ene-25"), Some("2025-01-03"));
    check("%d-%b-%y", json!("03-Dic.-25".replace(".-", "-")), Some("2025-12-03"));
    check("%d de %B de %Y", json!("3 de agosto de 2025"), Some("2025-08-03"));
    check("dd/mm/aaaa", json!("03/11/2025"), Some("2025-11-03"));
    check("mm/dd/yyyy", json!("03/11/2025"), Some("2025-03-11"));
}

#[test]
fn a_format_that_fits_nothing_is_refused() {
    let check = |format: &str, values: &[&str], bad: bool| {
        let values: Vec<Value> = values.iter().map(|value| json!(value)).collect();
        assert_eq!(column(&values, format).is_err(), bad, "{format} {values:?}");
    };
    check("%d/%m/%Y", &["11/25/2025"], true);
    check("%Y-%d-%m", &["2025-11-25"], true);
    check("epoch-ms", &["ayer", "hoy"], true);
    check("%d/%m/%Y", &["11/25/2025", "03/11/2025"], false);
    check("%d/%m/%Y", &["", "NaT"], false);
}

#[test]
fn numbers_that_count_from_1970_are_told() {
    let values = [json!(1_762_128_000_000_i64)];
    let dates = Dates::survey("posted_date", (1..).zip(&values), &DateFormat::Detect).expect("a column");
    assert_eq!(
        dates.note.as_deref(),
        Some("posted_date: numbers are read as time since 1970, as `1762128000000` in line 1")
    );
}

#[test]
fn formats_are_checked() {
    let check = |format: &str, good: bool| assert_eq!(format.parse::<DateFormat>().is_ok(), good, "{format}");
    check("%d/%m/%Y", true);
    check("%d-%b-%Y", true);
    check("%F %T", true);
    check("%d/%m", false);
    check("%q", false);
    check("dd/mm/yyyy", true);
    check("dd/mm", false);
    check("", false);
}

#[test]
fn times_keep_their_zone() {
    let check = |text: &str, expected: &str| {
        let Reading::Certain(moment) = reading(&json!(text)) else { panic!("{text}") };
        assert_eq!(moment.to_rfc3339(), expected);
    };
    check("2025-11-03T10:00:00-05:00", "2025-11-03T10:00:00-05:00");
    check("2025-11-03 10:00:00", "2025-11-03T10:00:00+00:00");
    check("2025-11-03", "2025-11-03T00:00:00+00:00");
    check("2025-11-03 2:30 p. m.", "2025-11-03T14:30:00+00:00");
    check("2025-11-03 12:05 AM", "2025-11-03T00:05:00+00:00");
}
