//! Words compared the way people write them: without case, accents and punctuation.
//!
//! Spanish and Portuguese only; letters of other scripts stay as they are.

/// Letters and digits in lower case without accents: what remains when people write a name their
/// way.
pub(super) fn fold(name: &str) -> String {
    let plain = |c: char| match c {
        'á' | 'à' | 'â' | 'ã' | 'ä' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        other => other,
    };
    // A combining accent, as macOS writes names, is no letter.
    name.chars().flat_map(char::to_lowercase).map(plain).filter(|c| c.is_alphanumeric()).collect()
}
