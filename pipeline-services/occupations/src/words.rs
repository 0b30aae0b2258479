//! Words of a title: folded, without the marks of gender and number.
//!
//! `Jefa de Cocina`, `jefe de cocina` and `Jefe/a de cocina` give the same words.

use observatory_tagging::fold::fold;

/// Words that say nothing about the occupation: articles, prepositions, seniority and terms of the
/// contract. Our own list, from the customs of job portals; not tuned.
const SILENT: &[&str] = &[
    "a",
    "al",
    "caba",
    "con",
    "de",
    "del",
    "e",
    "el",
    "en",
    "excluyente",
    "gba",
    "jr",
    "junior",
    "la",
    "las",
    "los",
    "o",
    "occ",
    "para",
    "por",
    "remoto",
    "semi",
    "semisenior",
    "senior",
    "sr",
    "ssr",
    "u",
    "un",
    "una",
    "urgente",
    "y",
];

/// Endings written after a stroke or in brackets for the other gender.
const GENDERS: &[&str] = &["a", "as", "es", "o", "ora", "oras", "os", "ra", "ras"];

/// Stems of the words that count, in order; the second half of `Contador / Contadora` is left out.
pub(crate) fn stems(text: &str) -> Vec<String> {
    let mut parts = text.split(" / ").map(words);
    let mut out = parts.next().unwrap_or_default();
    for part in parts {
        if !same_but_gender(&out, &part) {
            out.extend(part);
        }
    }
    out.iter().map(|word| stem(word).to_owned()).collect()
}

/// Folded words that count.
fn words(text: &str) -> Vec<String> {
    let folded = fold(text);
    let mut out = Vec::new();
    let (mut rest, mut first) = (folded.as_str(), true);
    while let Some(start) = rest.find(is_part) {
        let (between, word) = rest.split_at(start);
        let end = word.find(|character| !is_part(character)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        let gender = !first && between.contains(['/', '(']) && GENDERS.contains(&word);
        if !gender && !SILENT.contains(&word) {
            out.push(word.to_owned());
        }
        (rest, first) = (after, false);
    }
    out
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '+' | '#')
}

/// Whether two titles have as many words, each pair with the same beginning.
fn same_but_gender(left: &[String], right: &[String]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| left.chars().take(3).eq(right.chars().take(3)))
}

/// A word without the endings of gender and number.
fn stem(word: &str) -> &str {
    let letters = word.chars().count();
    if letters <= 3 || !word.is_ascii() {
        return word;
    }
    let bare = match word.strip_suffix("es") {
        Some(bare) if letters > 5 && bare.ends_with(['r', 'l', 'n', 'd', 's']) => bare,
        _ => word.strip_suffix('s').filter(|_| letters > 4).unwrap_or(word),
    };
    match bare.len() > 4 {
        true => bare.strip_suffix(['o', 'a', 'e']).unwrap_or(bare),
        false => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gender_number_and_seniority_do_not_count() {
        for (text, expected) in [
            ("Contador público / Contadora pública", "contador public"),
            ("Contadoras Públicas", "contador public"),
            ("Liquidador/a de Sueldos", "liquidador sueld"),
            ("Odontólogos(as) generales", "odontolog general"),
            ("Desarrollador /a frontend Sr", "desarrollador frontend"),
            ("Actor / Actriz", "actor"),
            ("Diseñador / Community manager", "disenador community manager"),
            ("C++ y C#", "c++ c#"),
            ("", ""),
            (" / ", ""),
        ] {
            assert_eq!(stems(text).join(" "), expected, "{text}");
        }
    }
}
