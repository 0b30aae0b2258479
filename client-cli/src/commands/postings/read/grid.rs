//! Rows of cells below a header, as in delimited text and spreadsheets.
//!
//! Finds the header below a title, and reports rows whose width does not match.

use serde_json::Value;

use super::cell::is_empty;
use super::columns;
use super::problems::Problems;
use super::table::{Row, Table};

/// Rows to search for the header. Not tuned: titles above it are rarely longer.
pub(super) const HEADING_WITHIN: usize = 10;

/// Rows of a grid from the first one on.
pub(super) struct Grid {
    /// Numbers of rows or lines, and their cells.
    pub(super) rows: Vec<(u64, Vec<Value>)>,
    /// True if missing cells at the end are empty, as in a spreadsheet; otherwise such a row is
    /// damaged.
    pub(super) padded: bool,
    /// Word for a row in messages.
    pub(super) unit: &'static str,
}

impl Grid {
    /// Separates the header and checks the width of each row; rows that do not match are problems.
    pub(super) fn table(self, form: String, mut problems: Problems) -> Table {
        let Some(at) = self.heading() else { return Table { form, problems, ..Table::default() } };
        let mut notes = Vec::new();
        let unit = self.unit;
        let first = self.rows.iter().position(|(_, cells)| !is_blank(cells)).unwrap_or_default();
        if at != first {
            notes.push(format!("the header is {unit} {}; {unit}s above it are ignored", self.rows[at].0));
        }
        let padded = self.padded;
        let mut rows = self.rows.into_iter().skip(at);
        let heading = rows.next().map(|(_, cells)| cells).unwrap_or_default();
        let width = heading.iter().rposition(|cell| !is_empty(Some(cell))).map_or(0, |last| last + 1);
        let mut table = Table { form, notes, ..Table::default() };
        let mut repeated = 0_u64;
        for (place, mut cells) in rows {
            let full = cells.iter().rposition(|cell| !is_empty(Some(cell))).map_or(0, |last| last + 1);
            if full == 0 {
                continue;
            }
            // Files joined by hand repeat the header in the middle.
            if cells.len() >= width && cells[..width] == heading[..width] {
                repeated += 1;
                continue;
            }
            if !padded && (full > heading.len() || cells.len() < width) {
                let fields =
                    if cells.len() == 1 { "1 field".to_owned() } else { format!("{} fields", cells.len()) };
                problems.add(place, &format!("has {fields}, but the header has {}", heading.len()), "");
                continue;
            }
            // A cell beyond the header gets a column that is named by its number, see `name`.
            cells.resize(heading.len().max(full), Value::Null);
            table.rows.push(Row { place, cells });
        }
        if repeated > 0 {
            table.notes.push(format!("the header is repeated {repeated} times; those {unit}s are ignored"));
        }
        table.columns = names(&heading, &table.rows);
        table.problems = problems;
        table
    }

    /// Finds the header: the first row, unless a later one has more known names.
    fn heading(&self) -> Option<usize> {
        let filled: Vec<usize> =
            (0..self.rows.len()).filter(|at| !is_blank(&self.rows[*at].1)).take(HEADING_WITHIN).collect();
        let first = *filled.first()?;
        if self.known_names(first) >= 2 {
            return Some(first);
        }
        // A row of data may contain two such words, so a later row needs three.
        let better = filled.iter().copied().find(|at| self.known_names(*at) >= 3);
        Some(better.unwrap_or(first))
    }

    /// Number of cells of a row that could be names of columns.
    fn known_names(&self, at: usize) -> usize {
        columns::known(&texts(&self.rows[at].1))
    }
}

fn is_blank(cells: &[Value]) -> bool {
    cells.iter().all(|cell| is_empty(Some(cell)))
}

fn texts(cells: &[Value]) -> Vec<String> {
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

/// Names of the columns; a column with values but no name gets its number.
fn names(heading: &[Value], rows: &[Row]) -> Vec<String> {
    let width = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default().max(heading.len());
    let mut names: Vec<String> = (0..width).map(|at| name(heading, at)).collect();
    // Spreadsheets may save empty columns at the end.
    let last = (0..width)
        .rev()
        .find(|at| !is_empty(heading.get(*at)) || rows.iter().any(|row| !is_empty(row.cells.get(*at))));
    names.truncate(last.map_or(0, |last| last + 1));
    names
}

fn name(heading: &[Value], at: usize) -> String {
    let name = match heading.get(at) {
        Some(Value::String(text)) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    if name.is_empty() { format!("column {}", at + 1) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, padded: bool) -> Table {
        let cell = |text: &str| Value::String(text.to_owned());
        let rows = (1..).zip(text.split('|').map(|row| row.split(',').map(cell).collect()));
        Grid { rows: rows.collect(), padded, unit: "line" }.table(String::new(), Problems::default())
    }

    #[test]
    fn the_heading_is_found() {
        let check = |text: &str, columns: &[&str], places: &[u64], notes: usize| {
            let table = read(text, false);
            let found: Vec<u64> = table.rows.iter().map(|row| row.place).collect();
            assert_eq!(
                (table.columns.as_slice(), found.as_slice()),
                (&columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()[..], places),
                "{text}"
            );
            assert_eq!(table.notes.len(), notes, "{text}: {:?}", table.notes);
        };
        check("title,url|a,b", &["title", "url"], &[2], 0);
        check("Vacantes 2025,,|,,|Título,Empresa,Enlace|a,b,c", &["Título", "Empresa", "Enlace"], &[4], 1);
        check("x,y|title,url|a,b", &["x", "y"], &[2, 3], 0);
        check("title,url|a,b|title,url|c,d", &["title", "url"], &[2, 4], 1);
        check("title,url,,|a,b,,", &["title", "url"], &[2], 0);
        check(",title|0,a", &["column 1", "title"], &[2], 0);
    }

    #[test]
    fn rows_of_other_widths_are_told() {
        let check = |row: &str, padded: bool, expected: Option<&str>| {
            let table = read(&format!("title,url,company|{row}"), padded);
            let told = table.problems.messages("f").into_iter().next().map(|error| error.message);
            assert_eq!(told.as_deref(), expected, "{row}");
            assert_eq!(table.rows.len(), usize::from(expected.is_none()), "{row}");
        };
        check("a,b", false, Some("has 2 fields, but the header has 3"));
        check("a", false, Some("has 1 field, but the header has 3"));
        check("a,b,c,d", false, Some("has 4 fields, but the header has 3"));
        check("a,b,c,,", false, None);
        check("a,b", true, None);
        check("a,b,c,d", true, None);
    }
}
