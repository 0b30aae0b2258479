//! Files of lines that commands read: plain or compressed, or standard input.
//!
//! A file that ends in `.gz` is unpacked on the way, and `-` is standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail};
use flate2::read::MultiGzDecoder;

/// Opens a file for reading.
///
/// # Errors
/// If it cannot be opened.
pub(super) fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed {
        // A gzip file may consist of several members (RFC 1952), of which GzDecoder reads only the
        // first.
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
    } else {
        Box::new(BufReader::new(file))
    })
}

/// A line that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: u64,
    /// Its text, without the end of the line.
    pub(super) text: String,
}

/// Reads the lines of a file that are not blank. A byte order mark is skipped.
///
/// # Errors
/// If the file cannot be read, or a line is not UTF-8.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let name = name(path);
    let mut lines = Vec::new();
    for (bytes, number) in open(path)?.split(b'\n').zip(1..) {
        let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
        let Ok(text) = std::str::from_utf8(&bytes) else { bail!("{name}:{number}: not UTF-8") };
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        // Only the end of the line: tabs at its beginning separate cells.
        let text = text.trim_end_matches('\r');
        if !text.trim().is_empty() {
            lines.push(Line { number, text: text.to_owned() });
        }
    }
    Ok(lines)
}

/// The name of a file in messages.
pub(super) fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn blank_lines_are_skipped_and_the_others_keep_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let text = "\u{feff}uno\r\n \n\ndos\ttres";
        let plain = dir.path().join("plain");
        std::fs::write(&plain, text).unwrap();
        let packed = dir.path().join("packed.gz");
        let mut writer = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), Default::default());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap();
        let line = |number, text: &str| Line { number, text: text.to_owned() };
        for path in [&plain, &packed] {
            assert_eq!(read(path).unwrap(), [line(1, "uno"), line(4, "dos\ttres")], "{}", path.display());
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: &[u8], expected: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("latin", b"a\nma\xf1ana\n", "latin:2: not UTF-8");
        check("short.gz", b"\x1f\x8b\x08", "short.gz: ");
        assert!(read(&dir.path().join("absent")).unwrap_err().to_string().starts_with("cannot read "));
    }
}
