//! Size of the sheets of an OpenDocument file. A cell or row is written once with a repeat count,
//! and the reader expands all of them: so they are counted first, against files made to be huge.

use std::io::Cursor;

use zip::ZipArchive;

use crate::files::archive;

/// Assumed value of a number that cannot be parsed: the rows of the largest sheet that Excel and
/// LibreOffice can have.
const MOST: usize = 1_048_576;

/// Number of cells of the largest sheet, up to its last filled row and column; 0 for other formats.
pub(super) fn cells(bytes: &[u8]) -> usize {
    const CONTENT: &str = "content.xml";
    // Other formats have no repeat counts, or are not even zip archives.
    let Ok(mut file) = ZipArchive::new(Cursor::new(bytes)) else { return 0 };
    let Some(place) = archive::names(&file).iter().position(|name| name == CONTENT) else { return 0 };
    // A damaged archive counts as small here; the reader reports it.
    let content = archive::entry(&mut file, place, CONTENT).unwrap_or_default();
    largest(&String::from_utf8_lossy(&content))
}

#[derive(Default)]
struct Sheet {
    rows: usize,
    /// Columns of the row so far.
    column: usize,
    height: usize,
    width: usize,
}

fn largest(content: &str) -> usize {
    let (mut sheet, mut largest) = (Sheet::default(), 0);
    for tag in (Tags { rest: content }) {
        let name = tag.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default();
        match name {
            "table:table" => sheet = Sheet::default(),
            "table:table-row" => {
                sheet.rows = sheet.rows.saturating_add(repeated(tag, "table:number-rows-repeated"));
                sheet.column = 0;
            }
            "table:table-cell" | "table:covered-table-cell" => {
                sheet.column = sheet.column.saturating_add(repeated(tag, "table:number-columns-repeated"));
                // Sheets end with empty cells that are repeated a million times and cost nothing.
                if ["office:", "calcext:", "table:formula"].iter().any(|filled| tag.contains(filled)) {
                    (sheet.height, sheet.width) = (sheet.rows, sheet.width.max(sheet.column));
                    largest = largest.max(sheet.height.saturating_mul(sheet.width));
                }
            }
            _ => {}
        }
    }
    largest
}

/// Value of a repeat attribute, 1 if absent.
fn repeated(tag: &str, name: &str) -> usize {
    let Some((_, rest)) = tag.split_once(name) else { return 1 };
    let value = rest.trim_start().strip_prefix('=').unwrap_or_default().trim_start();
    let value = value.split(['"', '\'']).nth(1).unwrap_or_default();
    value.trim().parse().unwrap_or(MOST)
}

/// Iterates over the tags, without their brackets. A full XML parser would expand more than needed.
struct Tags<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Tags<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            self.rest = &self.rest[self.rest.find('<')? + 1..];
            let markup = [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>")];
            if let Some((_, end)) = markup.into_iter().find(|(start, _)| self.rest.starts_with(start)) {
                self.rest = &self.rest[self.rest.find(end)? + end.len()..];
                continue;
            }
            let (mut quote, mut end) = (None, None);
            for (at, byte) in self.rest.bytes().enumerate() {
                match (byte, quote) {
                    // Inside of quotes a bracket is text.
                    (b'>', None) => {
                        end = Some(at);
                        break;
                    }
                    (b'"' | b'\'', None) => quote = Some(byte),
                    (byte, Some(open)) if byte == open => quote = None,
                    _ => {}
                }
            }
            let (tag, rest) = self.rest.split_at(end?);
            self.rest = rest;
            return Some(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_count_as_far_as_something_is_filled() {
        let check = |content: &str, expected: usize| assert_eq!(largest(content), expected, "{content}");
        let filled = r#"<table:table-cell office:value-type="float" office:value="1"><text:p>1</text:p></table:table-cell>"#;
        check("", 0);
        check(&format!("<table:table><table:table-row>{filled}{filled}</table:table-row></table:table>"), 2);
        // What LibreOffice writes below and to the right of the filled cells.
        let empty = r#"<table:table-cell table:style-name="x" table:number-columns-repeated="16384"/>"#;
        let below =
            format!(r#"<table:table-row table:number-rows-repeated="1048570">{empty}</table:table-row>"#);
        check(
            &format!("<table:table><table:table-row>{filled}{empty}</table:table-row>{below}</table:table>"),
            1,
        );
        check(
            &format!("<table:table>{below}<table:table-row>{filled}</table:table-row></table:table>"),
            1_048_571,
        );
        check(
            &format!("<table:table><table:table-row>{empty}{filled}</table:table-row></table:table>"),
            16_385,
        );
        let many = r#"<table:table-cell x=">" table:number-columns-repeated = '99' office:value="1"/>"#;
        let row = format!(r#"<table:table-row table:number-rows-repeated="1000">{many}</table:table-row>"#);
        check(&format!("<table:table>{row}</table:table><table:table>{row}</table:table>"), 99_000);
        check(&format!("<!-- ' --><?x '?><![CDATA[']]><table:table>{row}<!-- ' --></table:table>"), 99_000);
        let hidden =
            format!(r#"<table:table-row table:number-rows-repeated="&#57;9">{filled}</table:table-row>"#);
        check(&format!("<table:table>{hidden}</table:table>"), MOST);
        check("<table:table-row <table:table-cell office:value=\"", 0);
    }
}
