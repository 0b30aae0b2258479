//! Detects the encoding of a file and decodes it.
//!
//! Promises text, or the line at which the file does not match its encoding; nothing is replaced
//! silently.

use std::fmt;
use std::str::FromStr;

use encoding_rs::{Encoding, MACINTOSH, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// The upper half of code page 850, which Excel calls MS-DOS; it is not among WHATWG's encodings.
/// From the mapping tables of Unicode (CP850.TXT).
const DOS: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}";

/// Characters of Spanish and Portuguese text, which tell it from text decoded wrongly.
const LETTERS: &str = "áéíóúüñÁÉÍÓÚÜÑãõçâêôàÃÕÇÂÊÔÀªº";

/// A text encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// An encoding of the WHATWG standard.
    Web(&'static Encoding),
    /// Code page 850, "MS-DOS" in Excel.
    Dos,
}

impl FromStr for Charset {
    type Err = String;

    fn from_str(label: &str) -> Result<Self, String> {
        let plain = label.trim().to_lowercase().replace('_', "-");
        match plain.as_str() {
            "cp850" | "ibm850" | "850" | "dos" => return Ok(Self::Dos),
            "utf8" | "utf-8-sig" => return Ok(Self::Web(UTF_8)),
            "mac" | "macroman" | "mac-roman" => return Ok(Self::Web(MACINTOSH)),
            _ => {}
        }
        let found = Encoding::for_label(plain.as_bytes());
        let known = "utf-8, windows-1252, latin1, utf-16le, utf-16be, macintosh or cp850";
        found.map(Self::Web).ok_or_else(|| format!("unknown encoding `{label}`: expected {known}"))
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(encoding) => f.write_str(&encoding.name().to_lowercase()),
            Self::Dos => f.write_str("cp850"),
        }
    }
}

/// The text of a file and its encoding.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) text: String,
    pub(crate) charset: Charset,
    /// Warnings about text that looks damaged.
    pub(crate) notes: Vec<String>,
}

/// Decodes bytes with the given encoding, or the detected one.
pub(crate) fn decode(bytes: &[u8], asked: Option<Charset>) -> Result<Decoded, String> {
    // Before UTF-16, whose mark in little-endian order is the beginning of that of UTF-32.
    if bytes.starts_with(&[0xff, 0xfe, 0, 0]) || bytes.starts_with(&[0, 0, 0xfe, 0xff]) {
        return Err("UTF-32 is not supported; save the file as UTF-8".to_owned());
    }
    let charset = match asked {
        // People pass utf-16le for any UTF-16; the mark at the start knows better.
        Some(Charset::Web(encoding)) if encoding == UTF_16LE && bytes.starts_with(&[0xfe, 0xff]) => {
            Charset::Web(UTF_16BE)
        }
        Some(charset) => charset,
        None => detect(bytes)?,
    };
    let text = read(bytes, charset)?;
    // Programs that join files leave several marks.
    let text = text.trim_start_matches('\u{feff}').to_owned();
    if let Some(at) = text.find('\0') {
        return Err(format!("line {}: NUL character; the file is corrupt", line_at(text.as_bytes(), at)));
    }
    let notes = [twice_encoded(&text), lost(&text)].into_iter().flatten().collect();
    Ok(Decoded { text, charset, notes })
}

fn read(bytes: &[u8], charset: Charset) -> Result<String, String> {
    match charset {
        Charset::Dos => Ok(bytes.iter().map(|byte| dos(*byte)).collect()),
        Charset::Web(encoding) if encoding == UTF_16LE => wide(bytes, u16::from_le_bytes),
        Charset::Web(encoding) if encoding == UTF_16BE => wide(bytes, u16::from_be_bytes),
        Charset::Web(encoding) if encoding == UTF_8 => {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let at = error.valid_up_to();
                let (line, byte) = (line_at(bytes, at), bytes.get(at).copied().unwrap_or_default());
                format!(
                    "line {line}: byte 0x{byte:02X} is not valid UTF-8; the file is corrupt, or pass --encoding"
                )
            })?;
            Ok(text.to_owned())
        }
        Charset::Web(encoding) => {
            let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
            text.map(std::borrow::Cow::into_owned).ok_or_else(|| {
                format!("not valid {}; pass another --encoding", encoding.name().to_lowercase())
            })
        }
    }
}

fn dos(byte: u8) -> char {
    match byte.checked_sub(0x80) {
        None => char::from(byte),
        Some(place) => DOS.chars().nth(place.into()).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let mut text = String::with_capacity(bytes.len() / 2);
    let (units, rest) = bytes.as_chunks::<2>();
    for char in char::decode_utf16(units.iter().map(|pair| unit(*pair))) {
        let Ok(char) = char else {
            let line = line_at(text.as_bytes(), text.len());
            return Err(format!("line {line}: unpaired surrogate; the UTF-16 text is corrupt"));
        };
        text.push(char);
    }
    if !rest.is_empty() {
        return Err("ends in the middle of a character; the UTF-16 text is truncated".to_owned());
    }
    Ok(text)
}

/// Detects the encoding.
fn detect(bytes: &[u8]) -> Result<Charset, String> {
    match Encoding::for_bom(bytes) {
        Some((encoding, _)) => return Ok(Charset::Web(encoding)),
        // Before UTF-8, for which a zero byte is valid.
        None if bytes.contains(&0) => return zeros(bytes),
        None => {}
    }
    let Err(error) = std::str::from_utf8(bytes) else { return Ok(Charset::Web(UTF_8)) };
    // Valid multi-byte sequences next to invalid bytes: mostly UTF-8, so guessing another encoding
    // for the whole file would garble the valid part.
    if bytes.utf8_chunks().any(|chunk| chunk.valid().contains(is_western)) {
        let (at, line) = (error.valid_up_to(), line_at(bytes, error.valid_up_to()));
        let byte = bytes[at];
        let advice = "the file is corrupt or mixes two encodings; save it again as UTF-8, or pass --encoding";
        return Err(format!(
            "line {line}: byte 0x{byte:02X} is not valid UTF-8, unlike other lines: {advice}"
        ));
    }
    one_byte(bytes)
}

/// True for the characters of Western European text that UTF-8 writes in two or three bytes.
fn is_western(c: char) -> bool {
    matches!(c, '\u{a0}'..='\u{ff}' | '\u{2010}'..='\u{2044}' | '€')
}

/// Tells UTF-16 from a damaged file by the positions of its zero bytes.
fn zeros(bytes: &[u8]) -> Result<Charset, String> {
    let (pairs, _) = bytes.as_chunks::<2>();
    match (share_of_zeros(pairs, 0), share_of_zeros(pairs, 1)) {
        // Text in Latin script has a zero in nearly every unit of UTF-16, always in the same half.
        (first, second) if first < 0.05 && second > 0.4 => Ok(Charset::Web(UTF_16LE)),
        (first, second) if first > 0.4 && second < 0.05 => Ok(Charset::Web(UTF_16BE)),
        _ => {
            let at = bytes.iter().position(|byte| *byte == 0).unwrap_or_default();
            Err(format!("line {}: NUL character; the file is corrupt", line_at(bytes, at)))
        }
    }
}

/// Share of the pairs whose byte at a place is zero.
fn share_of_zeros(pairs: &[[u8; 2]], place: usize) -> f64 {
    pairs.iter().filter(|pair| pair[place] == 0).count() as f64 / pairs.len().max(1) as f64
}

/// Chooses among single-byte encodings by the letters they produce.
fn one_byte(bytes: &[u8]) -> Result<Charset, String> {
    let western = Charset::Web(WINDOWS_1252);
    // windows-1252 first: it is what Excel writes by default in these countries.
    let mut best = (western, fitness(bytes, western));
    for charset in [Charset::Web(MACINTOSH), Charset::Dos] {
        let fits = fitness(bytes, charset);
        // Not tuned: rarer encodings must fit clearly better, since few letters decide in a short
        // file.
        if fits > best.1 + 0.2 {
            best = (charset, fits);
        }
    }
    // The five bytes that windows-1252 does not define.
    let undefined = bytes.iter().position(|byte| matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d));
    match undefined {
        Some(at) if best.0 == western => {
            let (line, byte) = (line_at(bytes, at), bytes[at]);
            Err(format!("line {line}: byte 0x{byte:02X} is neither UTF-8 nor windows-1252; pass --encoding"))
        }
        _ => Ok(best.0),
    }
}

/// Share of the bytes above 0x7F that decode to letters next to other letters.
fn fitness(bytes: &[u8], charset: Charset) -> f64 {
    let (mut high, mut good) = (0_u32, 0_u32);
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| !byte.is_ascii()) {
        high += 1;
        let before = at.checked_sub(1).is_some_and(|at| bytes[at].is_ascii_alphabetic());
        let after = bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
        let one = std::slice::from_ref(byte);
        let read = read(one, charset).unwrap_or_default();
        let letter = LETTERS.contains(&read) && (before || after);
        let opening = (read == "¿" || read == "¡") && after && !before;
        good += u32::from(letter || opening);
    }
    f64::from(good) / f64::from(high.max(1))
}

/// True if a character and what follows it are UTF-8 read as windows-1252.
fn is_double(first: char, rest: &str) -> bool {
    let mut next = rest.chars();
    match first {
        'Ã' | 'Â' => next.next().is_some_and(is_tail),
        'â' => next.next() == Some('€') && next.next().is_some_and(is_tail),
        _ => false,
    }
}

/// The characters of windows-1252 at 0x80 to 0xBF, where the later bytes of UTF-8 are.
fn is_tail(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{bf}') || "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ".contains(c)
}

/// Finds double-encoded text: UTF-8 read as windows-1252 and written as UTF-8 again ("gestiÃ³n").
fn twice_encoded(text: &str) -> Option<String> {
    let mut found: Vec<usize> = Vec::new();
    for (at, first) in text.char_indices() {
        if is_double(first, &text[at + first.len_utf8()..]) {
            found.push(at);
        }
    }
    let at = *found.first()?;
    let (line, word) = (line_at(text.as_bytes(), at), word_at(text, at));
    Some(format!(
        "line {line}: `{word}` looks double-encoded; {} such characters are kept as they are",
        found.len()
    ))
}

/// Finds replacement characters, left by an earlier program that could not decode something.
fn lost(text: &str) -> Option<String> {
    let at = text.find(char::REPLACEMENT_CHARACTER)?;
    let count = text.matches(char::REPLACEMENT_CHARACTER).count();
    let (line, word) = (line_at(text.as_bytes(), at), word_at(text, at));
    Some(format!("line {line}: `{word}`: {count} characters were lost when the file was written"))
}

fn word_at(text: &str, at: usize) -> &str {
    let start = text[..at]
        .rfind(|c: char| !c.is_alphanumeric())
        .map_or(0, |before| before + text[before..].chars().next().map_or(1, char::len_utf8));
    let end = text[at..].find([' ', ',', ';', '\t', '\n', '\r', '"']).map_or(text.len(), |end| at + end);
    let end = (start..=end.min(start + 40)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(end);
    &text[start..end]
}

/// The line of a byte, from 1; lines end with LF, CR LF or CR.
pub(crate) fn line_at(bytes: &[u8], at: usize) -> u64 {
    let before = &bytes[..at.min(bytes.len())];
    let ends = before
        .iter()
        .enumerate()
        .filter(|(place, byte)| **byte == b'\n' || (**byte == b'\r' && bytes.get(place + 1) != Some(&b'\n')));
    1 + ends.count() as u64
}

#[cfg(test)]
mod tests;
