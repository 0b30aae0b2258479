//! CSV as programs read it, and as a Spanish Excel opens it.
//!
//! A cell of text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a
//! tab or a carriage return) gets a leading apostrophe; programs that read the file take it off
//! again.

/// Most UTF-16 units in a cell of Excel (Microsoft, Excel specifications and limits); what is
/// longer spills into the rows below.
const CELL: usize = 32_767;

/// The reader for whom a CSV file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Programs: RFC 4180, UTF-8 without a byte-order mark, numbers with a point.
    #[default]
    Plain,
    /// Excel where the list separator is `;`, as in Latin America and Spain: byte-order mark,
    /// semicolons, decimal commas, texts cut where a cell of Excel ends.
    Excel,
}

impl Dialect {
    /// The one for Excel where it is asked for.
    pub fn excel(asked: bool) -> Self {
        if asked { Self::Excel } else { Self::Plain }
    }

    /// The first bytes of a file.
    pub fn mark(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Excel => b"\xef\xbb\xbf",
        }
    }

    /// A writer to memory; lines end in CR LF.
    pub fn writer(self) -> csv::Writer<Vec<u8>> {
        let delimiter = match self {
            Self::Plain => b',',
            Self::Excel => b';',
        };
        csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .delimiter(delimiter)
            .has_headers(false)
            .from_writer(Vec::new())
    }

    /// A cell of text.
    pub fn text(self, text: &str) -> String {
        let guarded = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let text = if guarded { format!("'{text}") } else { text.to_owned() };
        if self == Self::Plain || text.encode_utf16().count() <= CELL {
            return text;
        }
        let (mut units, mut cut) = (0, String::new());
        for character in text.chars() {
            units += character.len_utf16();
            // One unit stays free for the ellipsis.
            if units >= CELL {
                break;
            }
            cut.push(character);
        }
        cut.push('…');
        cut
    }

    /// A cell with a number, given with a decimal point.
    pub fn number(self, number: String) -> String {
        if self == Self::Excel { number.replace('.', ",") } else { number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_never_formulas() {
        for dialect in [Dialect::Plain, Dialect::Excel] {
            let check = |cell: &str, expected: &str| assert_eq!(dialect.text(cell), expected);
            check("=HYPERLINK(\"x\")", "'=HYPERLINK(\"x\")");
            check("+57", "'+57");
            check("-1", "'-1");
            check("@SUM", "'@SUM");
            check("\tx", "'\tx");
            check("\rx", "'\rx");
            check("C++", "C++");
            check("", "");
        }
    }

    #[test]
    fn excel_gets_what_it_can_open() {
        let mut writer = Dialect::Excel.writer();
        writer.write_record(["a;b", "c,d", &Dialect::Excel.number("0.25".to_owned())]).expect("written");
        assert_eq!(writer.into_inner().expect("memory"), b"\"a;b\";c,d;0,25\r\n");
        assert_eq!(Dialect::Plain.number("0.25".to_owned()), "0.25");
        let long = "ñ".repeat(40_000);
        assert_eq!(Dialect::Excel.text(&long).encode_utf16().count(), CELL);
        assert_eq!(Dialect::Plain.text(&long), long);
        let emoji = "🙂".repeat(20_000);
        assert!(Dialect::Excel.text(&emoji).encode_utf16().count() <= CELL);
    }
}
