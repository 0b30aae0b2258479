//! Folding: lower case and accents off, so that spellings of one word compare equal.
//!
//! Folding twice changes nothing. A folded text may be longer or shorter than the original (`ß`
//! becomes `ss`), so places in one are not places in the other.

use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// Appends the folded form of one character; combining marks vanish.
pub fn push_folded(character: char, out: &mut String) {
    if character.is_ascii() {
        out.push(character.to_ascii_lowercase());
        return;
    }
    match latin(character) {
        Some(folded) => out.push_str(folded),
        None => push_decomposed(character, out),
    }
}

/// The folded form of a text: lower case, accents off, everything else kept.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|character| push_folded(character, &mut out));
    out
}

/// The letters of Spanish, Portuguese and their neighbours without the general decomposition.
fn latin(character: char) -> Option<&'static str> {
    Some(match character {
        'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' | 'Á' | 'À' | 'Â' | 'Ã' | 'Ä' | 'Å' | 'ª' => "a",
        'é' | 'è' | 'ê' | 'ë' | 'É' | 'È' | 'Ê' | 'Ë' => "e",
        'í' | 'ì' | 'î' | 'ï' | 'Í' | 'Ì' | 'Î' | 'Ï' => "i",
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' | 'ø' | 'Ó' | 'Ò' | 'Ô' | 'Õ' | 'Ö' | 'Ø' | 'º' => "o",
        'ú' | 'ù' | 'û' | 'ü' | 'Ú' | 'Ù' | 'Û' | 'Ü' => "u",
        'ñ' | 'Ñ' => "n",
        'ç' | 'Ç' => "c",
        'ß' | 'ẞ' => "ss",
        'æ' | 'Æ' => "ae",
        'œ' | 'Œ' => "oe",
        _ => return None,
    })
}

fn push_decomposed(character: char, out: &mut String) {
    decompose_canonical(character, |part| {
        if is_combining_mark(part) {
            return;
        }
        // A ligature with an accent (Ǽ) comes apart into one that the table knows.
        match latin(part) {
            Some(folded) => out.push_str(folded),
            None => out.extend(part.to_lowercase().filter(|lower| !is_combining_mark(*lower))),
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folds_case_and_accents() {
        for (text, expected) in [
            ("Programación", "programacion"),
            ("ESPAÑOL", "espanol"),
            ("C++ / C#", "c++ / c#"),
            ("Straße Œuvre", "strasse oeuvre"),
            ("e\u{301}xito", "exito"),
            ("İstanbul", "istanbul"),
            ("Ελληνικά", "ελληνικα"),
            ("Ǽ Ǿ", "ae o"),
        ] {
            assert_eq!(fold(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,60}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}
