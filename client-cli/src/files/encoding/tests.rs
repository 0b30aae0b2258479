//! Encodings of files, detected and requested, and damaged text.
//!
//! Each check compares the decoded text or the message with its line.

use super::*;

fn web(text: &str, encoding: &'static Encoding) -> Vec<u8> {
    encoding.encode(text).0.into_owned()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2], bom: bool) -> Vec<u8> {
    let mark = if bom { "\u{feff}" } else { "" };
    format!("{mark}{text}").encode_utf16().flat_map(bytes).collect()
}

#[test]
fn encodings_are_detected() {
    let text = "título;país\r\nGestión de niños, ¿sí?;México\r\n";
    let check = |bytes: Vec<u8>, expected: &str| {
        let decoded = decode(&bytes, None).expect(expected);
        assert_eq!((decoded.text.as_str(), decoded.charset.to_string().as_str()), (text, expected));
        assert!(decoded.notes.is_empty(), "{expected}: {:?}", decoded.notes);
    };
    check(text.as_bytes().to_vec(), "utf-8");
    check(format!("\u{feff}{text}").into_bytes(), "utf-8");
    check(format!("\u{feff}\u{feff}{text}").into_bytes(), "utf-8");
    check(web(text, WINDOWS_1252), "windows-1252");
    check(web(text, MACINTOSH), "macintosh");
    check(
        text.chars()
            .map(|c| DOS.chars().position(|d| d == c).map_or(c as u8, |at| at as u8 + 0x80))
            .collect(),
        "cp850",
    );
    check(utf16(text, u16::to_le_bytes, true), "utf-16le");
    check(utf16(text, u16::to_be_bytes, true), "utf-16be");
    check(utf16(text, u16::to_le_bytes, false), "utf-16le");
    check(utf16(text, u16::to_be_bytes, false), "utf-16be");
}

#[test]
fn quotes_and_dashes_of_windows_are_kept() {
    let bytes = web("Ofrecemos “café” – y CAFÉ” – 5 €", WINDOWS_1252);
    let decoded = decode(&bytes, None).expect("read");
    assert_eq!(decoded.text, "Ofrecemos “café” – y CAFÉ” – 5 €");
}

#[test]
fn damage_is_refused_with_its_line() {
    let check = |bytes: &[u8], expected: &str| {
        let message = decode(bytes, None).expect_err(expected);
        assert!(message.contains(expected), "{message}");
    };
    check(b"gesti\xc3\xb3n\r\nni\xf1o\r\n", "line 2: byte 0xF1 is not valid UTF-8, unlike other lines");
    check(
        "\u{feff}a\nb\u{f1}".as_bytes().split_last().expect("bytes").1,
        "line 2: byte 0xC3 is not valid UTF-8",
    );
    check(b"a,b\n1,\0\n", "line 2: NUL character");
    check(b"a\0b\0c", "truncated");
    check(b"\xff\xfea\0\x00\xd8b\0", "unpaired surrogate");
    check(b"\xff\xfe\0\0a\0\0\0", "UTF-32");
    check(b"a\r\nx \x90 y\r\n", "line 2: byte 0x90");
}

#[test]
fn an_encoding_that_is_asked_for_overrules() {
    let check = |bytes: &[u8], label: &str, expected: Option<&str>| {
        let charset = label.parse().expect("a label");
        let text = decode(bytes, Some(charset)).ok().map(|decoded| decoded.text);
        assert_eq!(text.as_deref(), expected, "{label}");
    };
    check(b"ni\xf1o", "windows-1252", Some("niño"));
    check(b"ni\xf1o", "latin1", Some("niño"));
    check(b"ni\x96o", "macintosh", Some("niño"));
    check(b"ni\xa4o", "cp850", Some("niño"));
    check(b"ni\xf1o", "utf-8", None);
    check(b"\xfe\xff\0n", "utf-16", Some("n"));
    assert!("klingon".parse::<Charset>().expect_err("unknown").contains("unknown encoding `klingon`"));
}

#[test]
fn damaged_text_is_reported() {
    let check = |text: &str, expected: Option<&str>| {
        let decoded = decode(text.as_bytes(), None).expect("read");
        assert_eq!(decoded.notes.first().map(String::as_str), expected, "{text}");
    };
    check("NÃO, SÃO PAULO, â la carte", None);
    check(
        "a\nGestiÃ³n y niÃ±os",
        Some("line 2: `GestiÃ³n` looks double-encoded; 2 such characters are kept as they are"),
    );
    check(
        "\u{c3}\u{2018}and\u{fa}",
        Some("line 1: `Ã‘andú` looks double-encoded; 1 such characters are kept as they are"),
    );
    check(
        "a\r\ngesti\u{fffd}n",
        Some("line 2: `gesti\u{fffd}n`: 1 characters were lost when the file was written"),
    );
}

#[test]
fn lines_are_counted_whatever_ends_them() {
    let check =
        |text: &str, expected: u64| assert_eq!(line_at(text.as_bytes(), text.len()), expected, "{text:?}");
    check("a\r\nb\r\nc", 3);
    check("a\nb\nc", 3);
    check("a\rb\rc", 3);
    check("a\r\n\r\nc", 3);
    check("", 1);
}
