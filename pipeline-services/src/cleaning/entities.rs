//! Character references of HTML.
//!
//! Named, decimal, hexadecimal and doubly encoded ones, as portals write them, in one pass from the
//! end. What is no known reference stays as it is.

/// Longest reference that is looked for, without `&` and `;`: `checkmark` has nine characters and
/// `#x10ffff` eight.
const LONGEST: usize = 10;

/// Latin-1 names in the order of their code points, from U+00A0 (HTML 4, 24.2).
const LATIN: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf", "laquo",
    "not", "shy", "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro", "para", "middot",
    "cedil", "sup1", "ordm", "raquo", "frac14", "frac12", "frac34", "iquest", "Agrave", "Aacute", "Acirc",
    "Atilde", "Auml", "Aring", "AElig", "Ccedil", "Egrave", "Eacute", "Ecirc", "Euml", "Igrave", "Iacute",
    "Icirc", "Iuml", "ETH", "Ntilde", "Ograve", "Oacute", "Ocirc", "Otilde", "Ouml", "times", "Oslash",
    "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute", "THORN", "szlig", "agrave", "aacute", "acirc", "atilde",
    "auml", "aring", "aelig", "ccedil", "egrave", "eacute", "ecirc", "euml", "igrave", "iacute", "icirc",
    "iuml", "eth", "ntilde", "ograve", "oacute", "ocirc", "otilde", "ouml", "divide", "oslash", "ugrave",
    "uacute", "ucirc", "uuml", "yacute", "thorn", "yuml",
];

/// Other names that portals use, as HTML defines them (WHATWG, named character references).
const NAMED: [(&str, char); 42] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("bull", '•'),
    ("hellip", '…'),
    ("euro", '€'),
    ("trade", '™'),
    ("ensp", ' '),
    ("emsp", ' '),
    ("thinsp", ' '),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("lrm", '\u{200e}'),
    ("rlm", '\u{200f}'),
    ("larr", '←'),
    ("rarr", '→'),
    ("uarr", '↑'),
    ("darr", '↓'),
    ("check", '✓'),
    ("checkmark", '✓'),
    ("minus", '−'),
    ("le", '≤'),
    ("ge", '≥'),
    ("ne", '≠'),
    ("permil", '‰'),
    ("OElig", 'Œ'),
    ("oelig", 'œ'),
    ("dagger", '†'),
    ("circ", 'ˆ'),
    ("tilde", '˜'),
    ("infin", '∞'),
    ("lowast", '∗'),
];

/// Windows-1252 where HTML reads the numbers 128 to 159 as such (WHATWG, numeric character
/// reference end state).
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Decodes references, doubly encoded ones too. Unknown ones stay.
///
/// Goes from the end to the start: what follows a `&` is then decoded already, so one pass is
/// enough.
pub(super) fn decode(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    // The decoded rest of the text, reversed.
    let mut rest: Vec<char> = Vec::with_capacity(text.len());
    for character in text.chars().rev() {
        rest.push(character);
        // Again when a `&` came out: portals encode twice and more often, as in `&amp;lt;`.
        while rest.last() == Some(&'&') {
            let Some((decoded, length)) = reference(&rest) else { break };
            rest.truncate(rest.len() - length);
            rest.push(decoded);
        }
    }
    rest.iter().rev().collect()
}

/// The reference at the end of the reversed text, and its length with `&` and `;`.
fn reference(rest: &[char]) -> Option<(char, usize)> {
    let mut name = String::new();
    // One more, for the semicolon.
    for character in rest.iter().rev().skip(1).take(LONGEST + 1) {
        if *character == ';' {
            let decoded = name.strip_prefix('#').map_or_else(|| named(&name), numbered)?;
            return Some((decoded, name.chars().count() + 2));
        }
        // Browsers take some names without a semicolon; in addresses these are parameters
        // (`?a=1&copy=2`).
        if !(character.is_ascii_alphanumeric() || *character == '#') {
            return None;
        }
        name.push(*character);
    }
    None
}

fn named(name: &str) -> Option<char> {
    let latin =
        LATIN.iter().position(|other| *other == name).and_then(|index| char::from_u32(0xa0 + index as u32));
    latin.or_else(|| NAMED.iter().find(|(other, _)| *other == name).map(|(_, character)| *character))
}

fn numbered(number: &str) -> Option<char> {
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
        None => number.parse().ok()?,
    };
    match code {
        // HTML reads it as U+FFFD; left as it is written, no NUL reaches PostgreSQL, which takes
        // none.
        0 => None,
        0x80..=0x9f => Some(WINDOWS[(code - 0x80) as usize]),
        _ => char::from_u32(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_references() {
        for (text, expected) in [
            ("&aacute;&Ntilde;&yuml;&nbsp;", "áÑÿ\u{a0}"),
            ("&#241;&#xF1;&#XF1;&#150;", "ñññ–"),
            ("&amp;lt;b&amp;gt;", "<b>"),
            ("&amp;amp;amp;", "&"),
            ("&&amp;", "&&"),
            ("&notaname; &amp &;", "&notaname; &amp &;"),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
    }
}
