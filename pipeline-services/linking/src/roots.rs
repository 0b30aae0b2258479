//! Roots of words: what the forms of a word share, so that "atender clientes" meets "atención al
//! cliente" and "database" meets "databases".
//!
//! A light stemmer for Spanish and English together, made for short wordings whose language is
//! not known. It cuts more than a grammar would: words that meet by mistake differ in their
//! letters, which count as well.

use observatory_tagging::fold::fold;

/// Words that say nothing of what is meant, in Spanish and English, folded.
const STOP_WORDS: [&str; 37] = [
    "a", "al", "an", "and", "con", "de", "del", "e", "el", "en", "entre", "for", "in", "la", "las", "lo",
    "los", "o", "of", "on", "or", "para", "por", "que", "se", "sobre", "su", "sus", "the", "to", "u", "un",
    "una", "unas", "unos", "with", "y",
];

/// Endings of infinitives and gerunds.
const VERBS: [&str; 6] = ["iendo", "ando", "endo", "ar", "er", "ir"];

/// Endings of nouns and participles made of verbs, the longest first.
const ENDINGS: [&str; 23] = [
    "amientos", "imientos", "amiento", "imiento", "aciones", "iciones", "uciones", "acion", "icion", "ucion",
    "siones", "ciones", "mente", "adora", "cion", "sion", "ador", "ment", "ing", "ado", "ido", "aje", "ion",
];

/// Words whose verb and noun differ in more than their ending, and their roots. From the commonest
/// duties of advertisements.
const IRREGULAR: [(&str, &str); 9] = [
    ("atencion", "atend"),
    ("venta", "vend"),
    ("analisis", "analiz"),
    ("analitica", "analiz"),
    ("analytic", "analiz"),
    ("analysis", "analiz"),
    ("probar", "prueb"),
    ("direccion", "dirig"),
    ("conocimiento", "conoc"),
];

/// Letters that a root keeps at least.
const SHORTEST: usize = 4;
/// Letters that a root keeps at most where wordings are compared. Not tuned: longer ones differ in
/// their endings, or else in letters, which are compared as well.
const LONGEST: usize = 7;

/// The words of a text: letters and digits with what belongs to names of technology (`c++`, `c#`,
/// `node.js`), folded. The ñ of milking ("ordeñar") stays apart from the n of order ("ordenar"),
/// which advertisements ask of everybody.
pub(crate) fn words(text: &str) -> Vec<String> {
    let folded = fold(&text.to_lowercase().replace("ordeñ", "ordegn"));
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = folded.chars().peekable();
    while let Some(character) = rest.next() {
        let inner = character == '.' && rest.peek().is_some_and(|next| next.is_alphanumeric());
        if character.is_alphanumeric() || inner || (matches!(character, '+' | '#') && !word.is_empty()) {
            word.push(character);
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Returns whether a folded word says nothing of what is meant.
pub(crate) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// The root of a folded word, cut to what is compared.
pub(crate) fn root(word: &str) -> String {
    let mut root = whole_root(word);
    if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        root.truncate(LONGEST);
    }
    root
}

/// The root of a folded word: words with the same one are forms of each other.
pub(crate) fn whole_root(word: &str) -> String {
    // Names of technology have no endings.
    if !word.chars().all(|character| character.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let singular = singular(word);
    if let Some((_, root)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == singular) {
        return (*root).to_owned();
    }
    // "gestionar" loses both endings, as "gestion" loses its own.
    let noun = VERBS.iter().find_map(|ending| strip(singular, ending)).unwrap_or(singular);
    let stem = ENDINGS.iter().find_map(|ending| strip(noun, ending)).unwrap_or(noun);
    ["a", "o", "e"].iter().find_map(|ending| strip(stem, ending)).unwrap_or(stem).to_owned()
}

fn strip<'a>(word: &'a str, ending: &str) -> Option<&'a str> {
    word.strip_suffix(ending).filter(|rest| rest.len() >= SHORTEST)
}

fn singular(word: &str) -> &str {
    let keeps_s = ["ss", "us", "is"].iter().any(|ending| word.ends_with(ending));
    match strip(word, "es").or_else(|| strip(word, "s")) {
        Some(singular) if !keeps_s => singular,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_meet() {
        for forms in [
            &["atender", "atencion", "atendiendo"][..],
            &["gestionar", "gestion", "gestiones"],
            &["disenar", "diseno", "disenando"],
            &["supervisar", "supervision", "supervisando"],
            &["mantener", "mantenimiento"],
            &["elaborar", "elaboracion"],
            &["database", "databases"],
            &["cliente", "clientes"],
            &["ventas", "vender", "venta"],
        ] {
            let roots: Vec<String> = forms.iter().map(|form| root(form)).collect();
            assert!(roots.iter().all(|other| *other == roots[0]), "{forms:?}: {roots:?}");
        }
    }

    #[test]
    fn names_of_technology_stay() {
        assert_eq!(words("C++, C#, Node.js y .NET. Fin"), ["c++", "c#", "node.js", "y", ".net", "fin"]);
        assert_eq!(root("node.js"), "node.js");
    }

    #[test]
    fn words_that_only_begin_alike_are_compared_and_not_the_same() {
        assert_eq!(root("microservices"), root("microsensores"));
        assert_ne!(whole_root("microservices"), whole_root("microsensores"));
        assert_ne!(words("ordeñar"), words("ordenar"));
        assert_eq!(words("diseñar"), words("disenar"));
    }

    #[test]
    fn stop_words_are_found() {
        assert!(is_stop_word("de") && !is_stop_word("sql"));
        assert!(STOP_WORDS.is_sorted());
    }
}
