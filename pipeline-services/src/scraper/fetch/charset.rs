//! From the bytes of an answer to text.
//!
//! Never fails: declarations are believed only where the bytes bear them out, and what fits no
//! encoding becomes replacement characters.

use std::sync::LazyLock;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use regex::bytes::Regex;

/// Bytes in which a page may name its encoding; HTML asks for the first 1,024, some pages
/// declare it later. Not tuned.
const DECLARED_WITHIN: usize = 8 * 1024;

static DECLARED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)<meta[^>]{0,200}?charset\s*=\s*["']?\s*([a-z0-9_:-]{2,40})|<\?xml[^>]{0,100}encoding=["']([a-z0-9_:-]{2,40})"#)
        .expect("a valid pattern")
});

/// Text of a body: byte order mark, then the header's charset, then the page's own, then UTF-8.
///
/// A declaration that cannot be right does not count: bytes that are no UTF-8 are windows-1252, and
/// valid UTF-8 beyond ASCII is UTF-8 though it be declared a single-byte encoding.
pub(super) fn decode(bytes: &[u8], content_type: &str) -> String {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    let declared = header_charset(content_type).or_else(|| page_charset(bytes));
    let valid_utf8 = std::str::from_utf8(bytes).is_ok();
    let encoding = match declared {
        // Bytes beyond ASCII are not valid UTF-8 by chance, whatever is declared.
        _ if valid_utf8 && !bytes.is_ascii() => UTF_8,
        Some(encoding) if encoding != UTF_8 => encoding,
        _ if valid_utf8 => UTF_8,
        _ => WINDOWS_1252,
    };
    // A byte order mark was looked for above.
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

fn header_charset(content_type: &str) -> Option<&'static Encoding> {
    let lower = content_type.to_lowercase();
    let (_, label) = lower.split_once("charset=")?;
    let label = label.split(';').next().unwrap_or_default().trim_matches(['"', '\'', ' ']);
    Encoding::for_label(label.as_bytes())
}

fn page_charset(bytes: &[u8]) -> Option<&'static Encoding> {
    let found = DECLARED.captures(&bytes[..bytes.len().min(DECLARED_WITHIN)])?;
    let label = found.get(1).or_else(|| found.get(2))?;
    // A page that could be searched for this text is not UTF-16.
    Encoding::for_label(label.as_bytes())
        .map(|encoding| if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_pages_are_decoded() {
        let corpus = [
            b"<meta charset=windows-1252>a\xf1o".to_vec(),
            "\u{feff}<meta http-equiv='Content-Type' content='text/html; charset=utf-8'>año".into(),
        ];
        observatory_mutator::bytes("charset", &corpus, |bytes| {
            for content_type in ["", "text/html; charset=utf-16", "text/html; charset=ISO-8859-1"] {
                assert!(decode(bytes, content_type).len() <= 4 * bytes.len() + 10);
            }
            decode(b"a", &String::from_utf8_lossy(bytes));
        });
    }

    #[test]
    fn text_is_decoded() {
        let check = |bytes: &[u8], content_type: &str, expected: &str| {
            assert_eq!(decode(bytes, content_type), expected, "{content_type}");
        };
        check("año".as_bytes(), "text/html; charset=utf-8", "año");
        check("año".as_bytes(), "", "año");
        check(b"a\xf1o \x80", "text/html; charset=windows-1252", "año €");
        check(b"a\xf1o", "text/html; charset=ISO-8859-1", "año");
        check(b"a\xf1o", "text/html; charset=utf-8", "año");
        check(b"a\xf1o", "text/html", "año");
        check("año".as_bytes(), "text/html; charset=iso-8859-1", "año");
        check(b"<meta charset=\"iso-8859-15\">\xa4", "text/html", "<meta charset=\"iso-8859-15\">€");
        check(
            b"<meta http-equiv=x content='text/html; charset=windows-1252'>\x80",
            "",
            "<meta http-equiv=x content='text/html; charset=windows-1252'>€",
        );
        check(b"\xef\xbb\xbfx", "text/html; charset=latin1", "x");
        check(b"\xff\xfea\0", "", "a");
        check(b"plain", "text/html; charset=nonsense", "plain");
        check(b"", "", "");
    }

    #[test]
    fn a_late_declaration_counts() {
        let page = [b"<!-- ".as_slice(), &[b'x'; 2_000], b" --><meta charset=windows-1251>\xe0"].concat();
        assert!(decode(&page, "text/html").ends_with('а'));
    }
}
