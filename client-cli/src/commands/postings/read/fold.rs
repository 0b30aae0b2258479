//! Words compared the way people write them: without case, accents and punctuation.
//!
//! Spanish and Portuguese only; letters of other scripts stay as they are.

/// Folds a name to lower-case letters and digits without accents, so that different spellings of
/// the same name are equal.
pub(super) fn fold(name: &str) -> String {
    // Combining accents, as macOS writes names, are not alphanumeric and drop out.
    name.chars().flat_map(char::to_lowercase).map(plain).filter(|c| c.is_alphanumeric()).collect()
}

/// The letter without its accent.
fn plain(c: char) -> char {
    match c {
        'á' | 'à' | 'â' | 'ã' | 'ä' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        other => other,
    }
}
