//! Personal data inside the address or the identifier of an advertisement.
//!
//! Removes it and leaves an address that still tells one advertisement from another. Doing it twice
//! changes nothing.

use std::{ops::Range, sync::LazyLock};

use super::{
    Words, find_in, names, profile,
    view::{Of, View},
    words,
};

/// Replacement of a part of a path that is gone.
const GONE: &str = "-";

/// Deepest encoding that is looked through: `%2540` is `%40` is `@`. Not tuned: addresses within
/// addresses are encoded twice.
const DEPTH: usize = 3;

/// An address or identifier without personal data: parameters with such a value are emptied, such
/// parts of the path become `-`, and a link to a person ends behind its host. Numbers of portals
/// stay; doing it twice changes nothing.
pub fn scrub_url(url: &str) -> String {
    let plain = decoded(url);
    let scheme = plain.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if plain.contains(':')
        && matches!(
            scheme.trim(),
            "mailto" | "tel" | "sms" | "callto" | "whatsapp" | "skype" | "viber" | "tg"
        )
    {
        // Nothing of such an address is the portal's.
        return String::new();
    }
    if let Some(path) = profile::personal_path(&plain.to_lowercase()) {
        // The host is ASCII, so its length is the same however the rest is written.
        return url.get(..path.start).unwrap_or_default().to_owned();
    }
    let (head, rest) = match url.find("://") {
        Some(at) => host_of(url, at + 3),
        None => (String::new(), url),
    };
    let mut out = head;
    let mut at = 0;
    for range in parts(rest) {
        out.push_str(&rest[at..range.start]);
        at = range.end;
        push_part(&mut out, rest, &range);
    }
    out.push_str(&rest[at..]);
    out
}

/// Scheme and host without the user's name before an `@`, and what follows.
fn host_of(url: &str, at: usize) -> (String, &str) {
    let end = url[at..].find(['/', '?', '#']).map_or(url.len(), |end| at + end);
    let host = url[at..end].rsplit('@').next().unwrap_or_default();
    (format!("{}{host}", &url[..at]), &url[end..])
}

/// The parts between the signs of an address.
fn parts(rest: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, sign) in rest.char_indices() {
        if "/?&#;".contains(sign) {
            parts.push(start..at);
            start = at + 1;
        }
    }
    parts.push(start..rest.len());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Appends a part, or what is left of it.
fn push_part(out: &mut String, rest: &str, range: &Range<usize>) {
    let part = &rest[range.clone()];
    match part.split_once('=') {
        Some((key, value)) if is_personal(key, value) => {
            out.push_str(key);
            out.push('=');
        }
        None if is_personal("", part) => out.push_str(&remainder(part)),
        _ => out.push_str(part),
    }
}

/// The portal's own number next to a piece of personal data: `48105:ana@example.org`.
fn remainder(part: &str) -> String {
    let plain = decoded(part);
    let left: Vec<&str> = plain.split([':', '|', '~']).filter(|piece| !is_personal("", piece)).collect();
    match left.as_slice() {
        [] => GONE.to_owned(),
        // No piece is personal by itself, so none can be told to be harmless.
        _ if left.len() == plain.split([':', '|', '~']).count() => GONE.to_owned(),
        left => left.join(":"),
    }
}

/// Keys whose value is a person's name if it looks like one.
static NAMED: LazyLock<Words> = LazyLock::new(|| {
    words(
        "nombre name nome contacto contact contato reclutador recruiter recrutador apellido apellidos persona \
        autor author firstname lastname",
    )
});

fn is_personal(key: &str, value: &str) -> bool {
    let (key, value) = (decoded(key).to_lowercase(), decoded(value));
    // What was replaced before stays as it is.
    if value.is_empty() || value == GONE {
        return false;
    }
    let spaced: String =
        value.chars().map(|sign| if matches!(sign, '_' | ',') { ' ' } else { sign }).collect();
    let named = key.split(|sign: char| !sign.is_alphabetic()).any(|word| NAMED.contains(word));
    if named && is_name(&spaced) {
        return true;
    }
    // A key says what its value is, as a label does in a text. The hyphens of a slug stand for
    // blanks.
    let text = format!("{key}: {spaced}");
    holds_personal(&text) || holds_personal(&value.replace('-', " "))
}

fn holds_personal(text: &str) -> bool {
    !find_in(&mut View::of(text, Of::Address)).is_empty()
}

/// Returns whether a value is a person's name: two words of the lists, or one given name alone.
fn is_name(value: &str) -> bool {
    let folded = crate::text::fold::fold(value);
    let words: Vec<&str> =
        folded.split(|sign: char| !sign.is_alphabetic()).filter(|word| word.len() > 1).collect();
    let known = words.iter().filter(|word| names::entry(word).given || names::entry(word).family).count();
    !words.is_empty()
        && words.len() <= 6
        && known * 2 > words.len()
        && names::entry(words[0]) != names::Entry::default()
        && !words.iter().any(|word| names::is_office(word))
}

/// The text behind percent signs, and behind percent signs in that.
fn decoded(text: &str) -> String {
    // Outside of forms a plus sign is no blank, and telephone numbers begin with it.
    let mut text = text.replace('+', "%2B");
    for _ in 0..DEPTH {
        let once = decode(&text);
        if once == text {
            break;
        }
        text = once;
    }
    text
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
