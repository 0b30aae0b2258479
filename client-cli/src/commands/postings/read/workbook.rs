//! Spreadsheets: xlsx, xls, xlsb and ods.
//!
//! Hides the formats; promises one sheet, bounded memory and an error for a corrupt file.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{Cell, Data, DataRef, Reader, SheetVisible, Sheets, XlsxError, open_workbook_auto_from_rs};
use serde_json::Value;

use super::grid::{Grid, HEADING_WITHIN};
use super::problems::Problems;
use super::table::Table;
use super::{columns, dates, ods, values};
use crate::commands::text::excerpt;

/// Maximum cells of a sheet, counting empty ones before the last filled cell of each row, which
/// take memory too. Not tuned: far above any sheet of advertisements, and about what a laptop can
/// hold.
const CELLS: usize = 50_000_000;

/// Reads the requested sheet, or else the one with data.
///
/// # Errors
/// If the file is corrupt or locked, or it is not clear which sheet to read.
pub(super) fn table(bytes: Vec<u8>, asked: Option<&str>) -> Result<Table, String> {
    // calamine panics on some corrupt files.
    catch_unwind(AssertUnwindSafe(|| read(bytes, asked)))
        .unwrap_or_else(|_| Err("the spreadsheet is corrupt; save it again as .xlsx or .csv".to_owned()))
}

fn read(bytes: Vec<u8>, asked: Option<&str>) -> Result<Table, String> {
    // Before opening, because calamine expands repeated cells of .ods files.
    if ods::cells(&bytes) > CELLS {
        return Err(format!("a sheet spans more than {CELLS} cells; delete cells far below or to the right"));
    }
    let mut book = open_workbook_auto_from_rs(Cursor::new(bytes))
        .map_err(|_| "cannot read the spreadsheet: it is corrupt, truncated or password-protected; save it again as .xlsx or .csv".to_owned())?;
    let (name, grid, others) = choose(&mut book, asked)?;
    let mut problems = Problems::default();
    let rows = grid
        .into_iter()
        .map(|(row, cells)| (row, cells.iter().map(|cell| value(row, cell, &mut problems)).collect()));
    let rows = rows.collect();
    let shown = format!("a spreadsheet, sheet `{}`", excerpt(&name));
    let mut table = Grid { rows, padded: true, unit: "row" }.table(shown, Problems::default());
    // A formula error costs only its cell.
    table.notes.extend(
        problems
            .messages("")
            .iter()
            .map(|error| format!("row {}: {} ({} cells)", error.line, error.message, error.count)),
    );
    if !others.is_empty() {
        table.notes.push(format!("ignored other sheets: {}; choose one with --sheet", others.join(", ")));
    }
    Ok(table)
}

type Rows = Vec<(u64, Vec<Data>)>;
type Book = Sheets<Cursor<Vec<u8>>>;

/// Chooses the sheet to read; returns its name, its rows, and the names of others with data.
fn choose(book: &mut Book, asked: Option<&str>) -> Result<(String, Rows, Vec<String>), String> {
    let visible = sheet_names(book, asked);
    if let Some(name) = asked {
        let Some(found) = visible.iter().find(|sheet| sheet.as_str() == name) else {
            return Err(format!("no sheet `{name}`; found {}", visible.join(", ")));
        };
        let rows = rows_of(book, found)?;
        return Ok((found.clone(), rows, Vec::new()));
    }
    let mut filled = Vec::new();
    for name in visible {
        let rows = rows_of(book, &name)?;
        if !rows.is_empty() {
            filled.push((name, rows));
        }
    }
    let names: Vec<String> = filled.iter().map(|(name, _)| format!("`{}`", excerpt(name))).collect();
    let likely: Vec<usize> = (0..filled.len()).filter(|at| known_names(&filled[*at].1) >= 2).collect();
    let at = match (filled.len(), likely.as_slice()) {
        (0, _) => return Ok((String::new(), Vec::new(), Vec::new())),
        (1, _) => 0,
        (_, [one]) => *one,
        _ => {
            return Err(format!(
                "several sheets contain data: {}; choose one with --sheet",
                names.join(", ")
            ));
        }
    };
    let (name, rows) = filled.swap_remove(at);
    let others =
        names.into_iter().enumerate().filter(|(place, _)| *place != at).map(|(_, name)| name).collect();
    Ok((name, rows, others))
}

/// Names of the sheets that may be meant. Hidden sheets hold the lists of drop-down cells, so they
/// count only if asked for by name.
fn sheet_names(book: &Book, asked: Option<&str>) -> Vec<String> {
    let sheets = book.sheets_metadata().iter();
    let meant =
        sheets.filter(|sheet| sheet.visible == SheetVisible::Visible || asked == Some(sheet.name.as_str()));
    meant.map(|sheet| sheet.name.clone()).collect()
}

/// Known names of columns in the best of the rows that may be the header.
fn known_names(rows: &Rows) -> usize {
    rows.iter().take(HEADING_WITHIN).map(|(_, cells)| columns::known(&texts(cells))).max().unwrap_or(0)
}

fn texts(cells: &[Data]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// Reads the rows of a sheet that contain data, with their numbers.
fn rows_of(book: &mut Book, name: &str) -> Result<Rows, String> {
    match book {
        // Cell by cell: as a range, one filled cell far away would make a huge rectangle.
        Sheets::Xlsx(book) => match book.worksheet_cells_reader(name) {
            Ok(mut cells) => gather(name, || cells.next_cell().map_err(|error| damaged(name, error))),
            // A sheet with only a chart.
            Err(XlsxError::NotAWorksheet(_)) => Ok(Rows::new()),
            Err(error) => Err(damaged(name, error)),
        },
        Sheets::Xlsb(book) => {
            let mut cells = book.worksheet_cells_reader(name).map_err(|error| damaged(name, error))?;
            gather(name, || cells.next_cell().map_err(|error| damaged(name, error)))
        }
        // As a range: .xls ends at 65,536 × 256 cells, and .ods was measured by `ods::cells`.
        book => {
            let range = book.worksheet_range(name).map_err(|error| damaged(name, error))?;
            let first = range.start().map_or(0, |(row, _)| u64::from(row)) + 1;
            let rows = (first..).zip(range.rows().map(<[Data]>::to_vec));
            Ok(rows.filter(|(_, cells)| cells.iter().any(|cell| *cell != Data::Empty)).collect())
        }
    }
}

fn damaged(name: &str, error: impl std::fmt::Display) -> String {
    format!("sheet `{name}` is corrupt: {error}")
}

/// Columns from `start` to the last cell of a row.
fn width(cells: &[(u32, Data)], start: u32) -> usize {
    cells.iter().map(|(column, _)| (column - start) as usize + 1).max().unwrap_or_default()
}

/// Builds rows from cells that are read one by one; gaps are filled only up to the last cell of a
/// row.
fn gather<'c>(
    name: &str,
    mut next: impl FnMut() -> Result<Option<Cell<DataRef<'c>>>, String>,
) -> Result<Rows, String> {
    let mut filled: BTreeMap<u32, Vec<(u32, Data)>> = BTreeMap::new();
    let mut start = u32::MAX;
    while let Some(cell) = next()? {
        let (row, column) = cell.get_position();
        let data = Data::from(cell.get_value().clone());
        if data != Data::Empty {
            start = start.min(column);
            filled.entry(row).or_default().push((column, data));
        }
    }
    if filled.values().map(|cells| width(cells, start)).sum::<usize>() > CELLS {
        return Err(format!("sheet `{name}` spans more than {CELLS} cells; delete cells far to the right"));
    }
    let rows = filled.into_iter().map(|(row, cells)| {
        let mut line = vec![Data::Empty; width(&cells, start)];
        for (column, data) in cells {
            line[(column - start) as usize] = data;
        }
        (u64::from(row) + 1, line)
    });
    Ok(rows.collect())
}

fn value(row: u64, cell: &Data, problems: &mut Problems) -> Value {
    match cell {
        Data::Empty => Value::Null,
        Data::Int(number) => (*number).into(),
        // From 10^15 on it stays a double, by which `values::id` notices lost digits.
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1.0e15 => (*number as i64).into(),
        Data::Float(number) => (*number).into(),
        Data::Bool(yes) => (*yes).into(),
        Data::DateTime(moment) => day(moment.to_ymd_hms_milli()),
        Data::String(text) if values::is_formula_error(text) => {
            problems.add(row, "formula error `{}`; the cell is omitted", text);
            Value::Null
        }
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => Value::String(text.clone()),
        Data::Error(error) => {
            problems.add(row, "formula error `{}`; the cell is omitted", &error.to_string());
            Value::Null
        }
    }
}

fn day((year, month, day, hour, minute, second, _): (u16, u8, u8, u8, u8, u8, u16)) -> Value {
    let date = format!("{year:04}-{month:02}-{day:02}");
    // Midnight is how spreadsheets store a day without a time.
    let time = if (hour, minute, second) == (0, 0, 0) {
        String::new()
    } else {
        format!(" {hour:02}:{minute:02}:{second:02}")
    };
    Value::String(format!("{date}{time}"))
}

/// Detects a column of which a spreadsheet program converted only a part to dates. It does that if
/// its locale has another order of day and month; then day and month of the converted ones are
/// swapped.
pub(super) fn half_converted<'v>(values: impl Iterator<Item = (u64, &'v Value)>) -> Option<String> {
    let (mut taken, mut left, mut all_low) = (0, None, true);
    for (row, value) in values {
        let Some(text) = value.as_str() else { continue };
        match dates::slashed(text) {
            Some((first, _)) if first > 12 => {
                left.get_or_insert_with(|| (row, excerpt(text)));
            }
            // The program would have converted this one, so it left the texts alone for another
            // reason.
            Some(_) => return None,
            None => {
                if let Some(day) = text.get(8..10).filter(|_| text.get(4..5) == Some("-")) {
                    taken += 1;
                    all_low &= day.parse::<u32>().is_ok_and(|day| day <= 12);
                }
            }
        }
    }
    // Swapped dates have days up to 12 only, because the program took them for months.
    let (row, text) = left.filter(|_| taken > 1 && all_low)?;
    Some(format!(
        "`{text}` (row {row}) is text and {taken} other values are dates, all on the first twelve days of a month: the \
         spreadsheet may have swapped day and month; save the column as text, or pass --date-format if the dates are right"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_half_taken_for_dates_are_noticed() {
        let check = |values: &[&str], expected: bool| {
            let values: Vec<Value> = values.iter().map(|value| json!(value)).collect();
            assert_eq!(half_converted((2..).zip(&values)).is_some(), expected, "{values:?}");
        };
        check(&["2025-11-03", "2025-05-11", "25/11/2025"], true);
        check(&["2025-11-03", "2025-05-21", "25/11/2025"], false);
        check(&["2025-11-03", "03/11/2025", "25/11/2025"], false);
        check(&["2025-11-03", "2025-05-11"], false);
        check(&["03/11/2025", "25/11/2025"], false);
    }
}
