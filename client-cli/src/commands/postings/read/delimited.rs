//! Delimited text: records with their line numbers, and detection of the delimiter.
//!
//! Faulty quotes are found and reported with the line, since they would swallow other records.

use super::columns;
use super::grid::HEADING_WITHIN;

/// Number of records to examine for the delimiter. Not tuned: enough to see through titles and
/// notes at the top.
const SAMPLE: usize = 200;

/// Separators and quotes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: char,
    /// True if a backslash escapes the next character, as pandas writes with `escapechar="\\"`.
    pub(super) escapes: bool,
}

impl Dialect {
    /// True for the bytes that end a field without quotes.
    fn ends_field(self, byte: u8) -> bool {
        byte == self.delimiter as u8 || matches!(byte, b'\r' | b'\n')
    }
}

/// A record of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// Its first line, from 1.
    pub(super) line: u64,
    pub(super) fields: Vec<String>,
    /// A fault that makes its fields ambiguous.
    pub(super) fault: Option<Fault>,
}

/// Fault in the quotes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Text between a closing quote and the next delimiter, with its line.
    AfterQuote(u64),
    /// An unclosed quote, with the line of the opening one.
    Unclosed(u64),
}

/// Iterator over the records of a text; empty lines are skipped.
pub(super) struct Records<'t> {
    text: &'t str,
    at: usize,
    line: u64,
    dialect: Dialect,
}

impl<'t> Records<'t> {
    pub(super) fn new(text: &'t str, dialect: Dialect) -> Self {
        let (_, rest) = separator_line(text);
        Self { text, at: text.len() - rest.len(), line: if rest.len() < text.len() { 2 } else { 1 }, dialect }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// Skips a line ending, if there is one here.
    fn end_of_line(&mut self) -> bool {
        let length = match (self.byte(0), self.byte(1)) {
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(b'\r' | b'\n'), _) => 1,
            _ => return false,
        };
        self.at += length;
        self.line += 1;
        true
    }

    fn bare(&mut self) -> String {
        let rest = &self.text.as_bytes()[self.at..];
        if !self.dialect.escapes {
            let length = rest.iter().position(|byte| self.dialect.ends_field(*byte)).unwrap_or(rest.len());
            self.at += length;
            return self.text[self.at - length..self.at].to_owned();
        }
        let mut field = String::new();
        while let Some(char) = self.text[self.at..].chars().next() {
            if u8::try_from(char).is_ok_and(|byte| self.dialect.ends_field(byte)) {
                break;
            }
            self.at += char.len_utf8();
            match self.text[self.at..].chars().next().filter(|_| char == '\\') {
                Some(next) => {
                    self.at += next.len_utf8();
                    field.push(next);
                }
                None => field.push(char),
            }
        }
        field
    }

    /// Reads a quoted field, at its opening quote.
    fn quoted(&mut self, fault: &mut Option<Fault>) -> String {
        let opened = self.line;
        let mut field = String::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.find(['"', '\r', '\n', '\\']) else {
                field.push_str(rest);
                self.at = self.text.len();
                *fault = Some(Fault::Unclosed(opened));
                return field;
            };
            field.push_str(&rest[..length]);
            self.at += length;
            match (self.byte(0), self.byte(1)) {
                (Some(b'"'), Some(b'"')) => {
                    field.push('"');
                    self.at += 2;
                }
                (Some(b'"'), _) => {
                    self.at += 1;
                    return field;
                }
                (Some(b'\\'), Some(_)) if self.dialect.escapes => {
                    let escaped = self.text[self.at + 1..].chars().next().unwrap_or('\\');
                    field.push(escaped);
                    self.at += 1 + escaped.len_utf8();
                }
                (Some(b'\\'), _) => {
                    field.push('\\');
                    self.at += 1;
                }
                _ => {
                    // Inside a field every line end becomes LF, whatever the file uses.
                    self.end_of_line();
                    field.push('\n');
                }
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.end_of_line() {}
        if self.at == self.text.len() {
            return None;
        }
        let mut record = Record { line: self.line, ..Record::default() };
        loop {
            if self.byte(0) == Some(b'"') {
                let field = self.quoted(&mut record.fault);
                record.fields.push(field);
                let after = self.line;
                // Blanks between a quote and the delimiter are harmless.
                if record.fault.is_none() && !self.bare().trim().is_empty() {
                    record.fault = Some(Fault::AfterQuote(after));
                }
            } else {
                let field = self.bare();
                record.fields.push(field);
            }
            if self.byte(0) != Some(self.dialect.delimiter as u8) {
                self.end_of_line();
                return Some(record);
            }
            self.at += 1;
        }
    }
}

/// Parses a first line `sep=;`, as Excel writes it; returns the delimiter and the rest.
fn separator_line(text: &str) -> (Option<char>, &str) {
    let Some(after) = text.strip_prefix("sep=").or_else(|| text.strip_prefix("\"sep=")) else {
        return (None, text);
    };
    let mut chars = after.chars();
    // The reader takes a byte; the line of another character is data, as under `--delimiter`.
    let Some(separator) = chars.next().filter(char::is_ascii) else { return (None, text) };
    let rest = chars.as_str().trim_start_matches('"');
    match rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r'])) {
        Some(rest) => (Some(separator), rest),
        // A first line that only begins like one is data.
        None => (None, text),
    }
}

/// Quality of the match between a delimiter and the beginning of a text.
struct Fit {
    delimiter: char,
    /// Fields of most records.
    width: usize,
    /// Known field names in the best of the first lines.
    known: usize,
    /// Share of the records with that width.
    agree: f64,
}

/// Parses the value of `--delimiter`.
pub(super) fn parse_delimiter(text: &str) -> Result<char, String> {
    let named = match text {
        "tab" | "\\t" => '\t',
        "comma" => ',',
        "semicolon" => ';',
        "pipe" => '|',
        _ => {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(one), None) => one,
                _ => return Err(format!("invalid delimiter `{text}`: expected one character, or tab")),
            }
        }
    };
    // A letter or a digit would split words and numbers.
    if named.is_ascii() && !matches!(named, '"' | '\r' | '\n' | '\\') && !named.is_alphanumeric() {
        Ok(named)
    } else {
        Err(format!("invalid delimiter `{text}`: expected `;`, `,`, `|`, tab or the like"))
    }
}

/// Detects the delimiter of a text.
pub(super) fn delimiter(text: &str) -> Result<char, String> {
    if let (Some(named), _) = separator_line(text) {
        return Ok(named);
    }
    let mut fits: Vec<Fit> =
        [',', ';', '\t', '|'].into_iter().filter_map(|delimiter| fit(text, delimiter)).collect();
    fits.sort_by(|left, right| {
        (right.known, right.agree).partial_cmp(&(left.known, left.agree)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let Some(best) = fits.first() else {
        return Err("cannot detect the delimiter: none of `,` `;` tab `|` fits the first lines; pass --delimiter or --format"
            .to_owned());
    };
    // A near tie without known names to decide it: better ask than guess.
    let rival = fits.get(1).filter(|other| other.known == best.known && best.agree - other.agree < 0.1);
    match rival {
        None => Ok(best.delimiter),
        Some(other) => Err(format!(
            "cannot detect the delimiter: both {} and {} fit; pass --delimiter",
            named(best.delimiter),
            named(other.delimiter)
        )),
    }
}

/// Formats a delimiter for messages.
pub(super) fn named(delimiter: char) -> String {
    if delimiter == '\t' { "tab".to_owned() } else { format!("`{delimiter}`") }
}

fn fit(text: &str, delimiter: char) -> Option<Fit> {
    let dialect = Dialect { delimiter, escapes: false };
    let records: Vec<Record> = Records::new(text, dialect).take(SAMPLE).collect();
    // Lines with one field are titles and notes, which say nothing about the delimiter.
    let mut widths: Vec<usize> =
        records.iter().map(|record| record.fields.len()).filter(|width| *width > 1).collect();
    widths.sort_unstable();
    let (width, count) = most_frequent(&widths)?;
    let known = records.iter().take(HEADING_WITHIN).map(|record| columns::known(&record.fields)).max()?;
    // Of all records, also those with one field: a delimiter that splits only a few lines has to
    // lose.
    Some(Fit { delimiter, width, known, agree: count as f64 / records.len() as f64 })
        .filter(|fit| fit.width > 1)
}

/// The most frequent of sorted numbers and how often it occurs; of equally frequent ones the
/// largest.
fn most_frequent(sorted: &[usize]) -> Option<(usize, usize)> {
    let runs = sorted.chunk_by(|one, next| one == next);
    runs.map(|run| (run[0], run.len())).max_by_key(|(_, count)| *count)
}

fn is_clean(records: &[Record]) -> bool {
    records.iter().all(|record| record.fault.is_none())
}

/// Splits a text into records; backslashes are escapes if the text is otherwise faulty.
pub(super) fn records(text: &str, delimiter: char) -> (Dialect, Vec<Record>) {
    let plain = Dialect { delimiter, escapes: false };
    let records: Vec<Record> = Records::new(text, plain).collect();
    let escapes = Dialect { delimiter, escapes: true };
    if is_clean(&records) && !only_doubled(text) || !text.contains('\\') {
        return (plain, records);
    }
    // Second, because in most files a backslash is just a character, as in a path.
    let escaped: Vec<Record> = Records::new(text, escapes).collect();
    if is_clean(&escaped) { (escapes, escaped) } else { (plain, records) }
}

/// True if there are several backslashes, all in pairs: then a program has escaped each of them.
fn only_doubled(text: &str) -> bool {
    let mut runs = 0;
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let length = rest[at..].len() - rest[at..].trim_start_matches('\\').len();
        if length % 2 == 1 {
            return false;
        }
        runs += 1;
        rest = &rest[at + length..];
    }
    runs > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, delimiter: char) -> Vec<(u64, Vec<String>)> {
        records(text, delimiter).1.into_iter().map(|record| (record.line, record.fields)).collect()
    }

    #[test]
    fn records_have_the_line_of_their_beginning() {
        let check = |text: &str, expected: &[(u64, &[&str])]| {
            let expected: Vec<(u64, Vec<String>)> = expected
                .iter()
                .map(|(line, fields)| (*line, fields.iter().map(|field| (*field).to_owned()).collect()))
                .collect();
            assert_eq!(read(text, ','), expected, "{text:?}");
        };
        check("a,b\r\n1,2\r\n3,4\r\n", &[(1, &["a", "b"]), (2, &["1", "2"]), (3, &["3", "4"])]);
        check("a,b\n1,2\n\n3,4", &[(1, &["a", "b"]), (2, &["1", "2"]), (4, &["3", "4"])]);
        check("a,b\r1,2\r", &[(1, &["a", "b"]), (2, &["1", "2"])]);
        check("a,\"x\r\ny\"\r\nb,c\r\n", &[(1, &["a", "x\ny"]), (3, &["b", "c"])]);
        check("\"say \"\"hi\"\"\",2\" pipe", &[(1, &["say \"hi\"", "2\" pipe"])]);
        check("sep=,\r\na,b\r\n", &[(2, &["a", "b"])]);
        check("a,\n,b", &[(1, &["a", ""]), (2, &["", "b"])]);
        check("\"\",\"a\" ,b", &[(1, &["", "a", "b"])]);
    }

    #[test]
    fn faulty_quotes_are_found() {
        let faults = |text: &str| -> Vec<Option<Fault>> {
            Records::new(text, Dialect { delimiter: ',', escapes: false })
                .map(|record| record.fault)
                .collect()
        };
        assert_eq!(faults("a,b\n1,\"open\n2,c\n"), [None, Some(Fault::Unclosed(2))]);
        assert_eq!(faults("a,b\n\"x\" y,2\n3,4\n"), [None, Some(Fault::AfterQuote(2)), None]);
    }

    #[test]
    fn separators_are_detected() {
        let check = |text: &str, expected: Result<char, &str>| match (delimiter(text), expected) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{text}"),
            (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{message}"),
            (found, wanted) => panic!("{text}: {found:?}, not {wanted:?}"),
        };
        check("title,url\na,b\n", Ok(','));
        check("Título;Descripción\nCaja, ventas, aseo;Se busca, pronto\n", Ok(';'));
        check("title\turl\na, b\tc;d\n", Ok('\t'));
        check("title|url\na|b\n", Ok('|'));
        check("uno;dos\n1,5;2\n3,25;4\n", Ok(';'));
        check("a;b,c\n1;2,3\n4;5,6\n", Err("both `,` and `;` fit"));
        check("x\n", Err("pass --delimiter or --format"));
        check("sep=|\na;b|c\n", Ok('|'));
        check("sep=é\ntítulo;url\na;b\n", Ok(';'));
        check("\"title, or name\";url\n\"a, b\";c\n", Ok(';'));
        check("Reporte de vacantes;;\nTítulo;Empresa;Enlace\na;b;c\n", Ok(';'));
    }

    #[test]
    fn backslashes_escape_where_nothing_else_fits() {
        let check = |text: &str, expected: &str| {
            let (_, records) = records(text, ',');
            assert_eq!(records.last().expect("a record").fields[0], expected, "{text}");
        };
        check("t,u\n\"say \\\"hi\\\", twice\",2\n", "say \"hi\", twice");
        check("t,u\nC\\\\+\\\\+,2\n", "C\\+\\+");
        check("t,u\nC\\+ a\\\\b,2\n", "C\\+ a\\\\b");
        check("t,u\nD:\\,2\n", "D:\\");
    }
}
