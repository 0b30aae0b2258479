//! Spanish or English, by function words and letters.
//!
//! General detectors are unreliable on short Spanish advertisements full of English tool names.

use super::tokens::Tokens;

/// A language the pipeline reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// Spanish.
    Es,
    /// English.
    En,
}

impl Language {
    /// BCP 47 tag.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::En => "en",
        }
    }

    /// The language of a BCP 47 tag, regions ignored.
    pub(crate) fn from_tag(tag: &str) -> Option<Self> {
        match tag.split(['-', '_']).next()?.to_ascii_lowercase().as_str() {
            "es" => Some(Self::Es),
            "en" => Some(Self::En),
            _ => None,
        }
    }
}

/// Words that carry grammar, not subject matter, and exist in one of the two languages only. Not
/// tuned: the most frequent ones, and words with which advertisements begin ("buscamos",
/// "experience").
const SPANISH: [&str; 62] = [
    "al",
    "ante",
    "asi",
    "buscamos",
    "como",
    "con",
    "contar",
    "cual",
    "cuando",
    "cuya",
    "de",
    "debe",
    "del",
    "desde",
    "donde",
    "durante",
    "e",
    "el",
    "ella",
    "en",
    "entre",
    "es",
    "esta",
    "este",
    "estamos",
    "experiencia",
    "hacia",
    "hasta",
    "la",
    "las",
    "le",
    "lo",
    "los",
    "mas",
    "mediante",
    "mi",
    "nuestra",
    "nuestro",
    "nuestros",
    "o",
    "para",
    "pero",
    "por",
    "que",
    "se",
    "segun",
    "ser",
    "si",
    "sobre",
    "somos",
    "son",
    "su",
    "sus",
    "te",
    "tu",
    "un",
    "una",
    "unos",
    "y",
    "ya",
    "sin",
    "tambien",
];
const ENGLISH: [&str; 52] = [
    "about",
    "an",
    "and",
    "are",
    "as",
    "at",
    "be",
    "been",
    "by",
    "can",
    "experience",
    "for",
    "from",
    "has",
    "have",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "of",
    "on",
    "or",
    "our",
    "should",
    "such",
    "that",
    "the",
    "their",
    "them",
    "they",
    "this",
    "to",
    "using",
    "was",
    "we",
    "well",
    "what",
    "when",
    "where",
    "which",
    "who",
    "will",
    "with",
    "within",
    "work",
    "would",
    "years",
    "you",
    "your",
    "must",
];

/// Detects the language of a text; `prior` decides where the text does not (Spanish without one).
///
/// The prior counts as one function word, so a clear sentence in the other language overrules it.
pub(crate) fn detect(tokens: &Tokens<'_>, prior: Option<Language>) -> Language {
    let mut balance = match prior {
        Some(Language::En) => -1.0_f32,
        Some(Language::Es) | None => 1.0,
    };
    for index in 0..tokens.len() {
        let word = tokens.folded(index);
        if SPANISH.contains(&word) {
            balance += 1.0;
        } else if ENGLISH.contains(&word) {
            balance -= 1.0;
        }
    }
    // Letters that English lacks; three quarters of a word each, since names carry them too. Not
    // tuned.
    let marks =
        tokens.text().chars().filter(|c| matches!(c, 'ñ' | 'Ñ' | 'ó' | 'í' | 'á' | '¿' | '¡')).count();
    if balance + 0.75 * marks as f32 > 0.0 { Language::Es } else { Language::En }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_with_and_without_a_prior() {
        use Language::{En, Es};
        for (text, prior, expected) in [
            ("Analista de datos", Some(Es), Es),
            ("Buscamos developer con React, Node.js y Docker", Some(Es), Es),
            ("We are looking for a backend engineer with Python", Some(Es), En),
            ("Full Stack Developer", Some(Es), Es),
            ("Full Stack Developer", Some(En), En),
            ("", None, Es),
            ("Senior engineer to lead the platform team", None, En),
            ("Diseño gráfico", Some(En), Es),
        ] {
            assert_eq!(detect(&Tokens::new(text), prior), expected, "{text}");
        }
    }

    #[test]
    fn reads_tags() {
        for (tag, expected) in
            [("es-CO", Some(Language::Es)), ("EN", Some(Language::En)), ("pt", None), ("", None)]
        {
            assert_eq!(Language::from_tag(tag), expected, "{tag}");
        }
    }
}
