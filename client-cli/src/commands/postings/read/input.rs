//! Unpacks the bytes of a file and detects its format.
//!
//! The content decides, not the name of the file.

use std::io::Cursor;

use zip::ZipArchive;

use crate::files::archive;

/// Maximum nesting of compression, which bounds the work on a hostile file. Not tuned: a .gz in a
/// .zip is as deep as people go.
const WRAPPINGS: usize = 3;

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// Delimited text: a header, then one advertisement per record.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// A JSON array of objects, alone or inside an object.
    Json,
    /// A spreadsheet: xlsx, xls, xlsb or ods.
    Xlsx,
    /// Apache Parquet.
    Parquet,
}

/// Kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Workbook,
    Parquet,
}

/// Decompresses gzip and zip.
///
/// # Errors
/// If the data is corrupt, or a zip does not contain exactly one file.
pub(super) fn unpack(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    for _ in 0..WRAPPINGS {
        // The magic numbers of gzip (RFC 1952) and zip; a name may lie.
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = archive::gunzip(&bytes)?;
        } else if bytes.starts_with(b"PK") {
            // Two bytes are compared, because an empty archive goes on in another way.
            let mut archive = ZipArchive::new(Cursor::new(bytes.as_slice()))
                .map_err(|error| format!("the zip or Excel file is corrupt or truncated: {error}"))?;
            if is_workbook(&archive) {
                return Ok(bytes);
            }
            bytes = only_entry(&mut archive)?;
        } else {
            return Ok(bytes);
        }
    }
    // Still packed after that many: whatever reads it next refuses it.
    Ok(bytes)
}

fn is_workbook(archive: &ZipArchive<Cursor<&[u8]>>) -> bool {
    archive::names(archive)
        .iter()
        .any(|name| name == "[Content_Types].xml" || name.starts_with("xl/") || name == "content.xml")
}

fn only_entry(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Result<Vec<u8>, String> {
    let names = archive::entries(archive);
    let [(place, name)] = names.as_slice() else {
        let shown: Vec<&str> = names.iter().take(5).map(|(_, name)| name.as_str()).collect();
        let found = if shown.is_empty() {
            "no files".to_owned()
        } else {
            format!("{} files ({})", names.len(), shown.join(", "))
        };
        return Err(format!("the zip contains {found}; expected one"));
    };
    archive::entry(archive, *place, name)
}

/// Detects the kind of decompressed bytes.
pub(super) fn kind(bytes: &[u8]) -> Kind {
    if bytes.starts_with(b"PAR1") {
        Kind::Parquet
    // The second is OLE2: .xls before 2007, and an .xlsx with a password.
    } else if bytes.starts_with(b"PK") || bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        Kind::Workbook
    } else {
        Kind::Text
    }
}

/// True if a text looks like JSON by its first characters.
pub(super) fn is_json(text: &str) -> bool {
    let mut chars = text.chars().filter(|c| !c.is_whitespace());
    match chars.next() {
        // One character is not enough: prose may begin with a bracket.
        Some('{') => matches!(chars.next(), None | Some('"' | '}')),
        Some('[') => matches!(chars.next(), None | Some('{' | '[' | ']' | '"')),
        _ => false,
    }
}

/// Describes a text in an unsupported format.
pub(super) fn unsupported(text: &str) -> Option<&'static str> {
    let start: String = text.trim_start().chars().take(15).collect::<String>().to_lowercase();
    // Portals export tables of HTML under the name .xls.
    if ["<html", "<!doctype html", "<table", "<meta"].iter().any(|tag| start.starts_with(tag)) {
        Some("a web page, despite its name; open it in a spreadsheet program and save it as .xlsx")
    } else if start.starts_with("<?xml") {
        Some("XML, which is not supported; save it as .xlsx, .csv or .json")
    } else if start.starts_with("%pdf") {
        Some("a PDF, which is not supported")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            writer.start_file(*name, SimpleFileOptions::default()).expect("an entry");
            writer.write_all(content).expect("written");
        }
        writer.finish().expect("an archive").into_inner()
    }

    fn gzipped(content: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(content).expect("written");
        writer.finish().expect("packed")
    }

    #[test]
    fn wrappings_are_taken_off() {
        let check = |bytes: Vec<u8>| assert_eq!(unpack(bytes).expect("unpacked"), b"a,b\n");
        check(b"a,b\n".to_vec());
        check(gzipped(b"a,b\n"));
        check(gzipped(&gzipped(b"a,b\n")));
        check([gzipped(b"a,"), gzipped(b"b\n")].concat());
        check(zipped(&[("ads.csv", b"a,b\n")]));
        check(zipped(&[
            ("data/", b""),
            ("data/ads.csv", b"a,b\n"),
            ("__MACOSX/._ads.csv", b"x"),
            (".DS_Store", b"x"),
        ]));
        check(zipped(&[("ads.csv.gz", &gzipped(b"a,b\n"))]));
    }

    #[test]
    fn damaged_wrappings_are_refused() {
        let check = |bytes: &[u8], expected: &str| {
            let message = unpack(bytes.to_vec()).expect_err(expected);
            assert!(message.contains(expected), "{message}");
        };
        let text: Vec<u8> = (0..5_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let (packed, archive) = (gzipped(&text), zipped(&[("ads.csv", &text)]));
        check(&packed[..packed.len() / 2], "the gzip data is corrupt or truncated");
        check(&archive[..archive.len() / 2], "corrupt or truncated");
        check(
            &zipped(&[("a.csv", b"a"), ("b.csv", b"b")]),
            "the zip contains 2 files (a.csv, b.csv); expected one",
        );
        check(&zipped(&[]), "the zip contains no files; expected one");
        check(b"PK", "corrupt or truncated");
        let mut flipped = archive;
        flipped[60] ^= 0xff;
        check(&flipped, "`ads.csv` in the zip is corrupt");
    }

    #[test]
    fn contents_say_what_they_are() {
        let check = |text: &str, json: bool| assert_eq!(is_json(text), json, "{text}");
        check("{\"a\": 1}", true);
        check("\n [ {", true);
        check("[]", true);
        check("[Urgente] título;url", false);
        check("{título};url", false);
        check("a,b", false);
        assert_eq!(kind(b"PAR1"), Kind::Parquet);
        assert!(unsupported("<html><table>").is_some_and(|what| what.starts_with("a web page")));
        assert!(unsupported("a,b").is_none());
    }
}
