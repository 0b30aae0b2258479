//! The bounds of a skill by the guide: without the words that introduce or grade it.
//!
//! "capacidad de análisis" is the skill "análisis", "Realizar el seguimiento de pedidos" is
//! "seguimiento de pedidos". Both the marks that the model learns from and the spans that it gives
//! pass through here, so that they agree.

use crate::{
    features::is_glued,
    words::{Shape, Words},
};

/// Words that grade a skill.
const GRADES: [&str; 20] = [
    "buen",
    "buena",
    "excelente",
    "excelentes",
    "alto",
    "alta",
    "solido",
    "solida",
    "solidos",
    "solidas",
    "optimo",
    "optima",
    "gran",
    "fuerte",
    "marcada",
    "marcado",
    "adecuado",
    "adecuada",
    "amplio",
    "amplia",
];

/// Words that introduce a skill together with a preposition.
const ABILITIES: [&str; 9] = [
    "capacidad",
    "capacidades",
    "habilidad",
    "habilidades",
    "conocimiento",
    "conocimientos",
    "dominio",
    "experiencia",
    "nociones",
];
const PREPOSITIONS: [&str; 6] = ["de", "del", "para", "en", "con", "sobre"];

/// Verbs that say no more than the noun of action after them.
const LIGHT: [&str; 8] =
    ["realizar", "realizando", "realiza", "participar", "participando", "brindar", "brindando", "brinda"];

/// Words that no skill begins with.
const OPENING: [&str; 18] = [
    "el", "la", "los", "las", "un", "una", "de", "del", "en", "con", "para", "por", "a", "al", "su", "sus",
    "que", "correcta",
];

/// Words that no skill ends with.
const CLOSING: [&str; 34] = [
    "y", "e", "o", "u", "de", "del", "la", "el", "los", "las", "en", "con", "para", "por", "a", "al",
    "sobre", "como", "que", "su", "sus", "un", "una", "and", "or", "of", "the", "in", "to", "for", "with",
    "segun", "sin", "ni",
];

/// The words of a skill within these, or none if nothing is left.
pub(crate) fn trimmed(words: &Words<'_>, first: usize, end: usize) -> Option<(usize, usize)> {
    let first = without_introduction(words, first, end);
    let end = without_closing(words, first, end);
    (first < end).then(|| (first, with_glued(words, first, end)))
}

fn without_introduction(words: &Words<'_>, mut first: usize, end: usize) -> usize {
    // Each step needs something behind it: a word that is all there is introduces nothing.
    while let Some(skipped) = introduction(words, first, end) {
        first += skipped;
    }
    first
}

/// Number of words at the beginning that introduce the rest.
fn introduction(words: &Words<'_>, first: usize, end: usize) -> Option<usize> {
    let is = |index: usize, list: &[&str]| index < end && list.contains(&words.folded(index));
    // A dot may open a name (".NET").
    let mark = first < end && words.items()[first].shape == Shape::Mark && words.folded(first) != ".";
    if mark || is(first, &OPENING) || first + 1 < end && (is(first, &GRADES) || is(first, &LIGHT)) {
        Some(1)
    } else {
        (first + 2 < end && is(first, &ABILITIES) && is(first + 1, &PREPOSITIONS)).then_some(2)
    }
}

fn without_closing(words: &Words<'_>, first: usize, mut end: usize) -> usize {
    while end > first {
        let last = words.folded(end - 1);
        let opened = || (first..end - 1).any(|index| words.folded(index) == "(");
        let belongs = matches!(last, "+" | "#") || last == ")" && opened();
        let mark = words.items()[end - 1].shape == Shape::Mark && !belongs;
        if !mark && !CLOSING.contains(&last) {
            break;
        }
        end -= 1;
    }
    end
}

/// Takes along what belongs to the last word without a blank: "proactivo/a", "React.js", "C++".
fn with_glued(words: &Words<'_>, first: usize, mut end: usize) -> usize {
    let glued = |index: usize| if is_glued(words, index) { words.folded(index) } else { "" };
    match (glued(end), glued(end + 1), glued(end + 2)) {
        ("/", "a" | "as" | "o" | "os", _) | (".", "js" | "net" | "io", _) => end += 2,
        ("(", "a" | "as" | "s" | "es", ")") => end += 3,
        _ => {}
    }
    while end > first && matches!(glued(end), "+" | "#") {
        end += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_introduces_a_skill_is_no_part_of_it() {
        for (text, expected) in [
            ("capacidad de análisis", "análisis"),
            ("Excelentes habilidades de comunicación", "comunicación"),
            ("Realizar el seguimiento de pedidos.", "seguimiento de pedidos"),
            ("participar en la planificación y", "planificación"),
            ("capacidad", "capacidad"),
            ("excelente", "excelente"),
            (".NET", ".NET"),
            ("(SAP)", "SAP"),
            ("normas (ISO 9001)", "normas (ISO 9001)"),
            ("C++", "C++"),
        ] {
            let words = Words::new(text);
            let found = trimmed(&words, 0, words.len()).map(|(first, end)| words.text_of(first, end));
            assert_eq!(found, Some(expected), "{text}");
        }
        let words = Words::new("de la -");
        assert_eq!(trimmed(&words, 0, words.len()), None);
    }

    #[test]
    fn what_is_glued_to_a_skill_is_taken_along() {
        for (text, end, expected) in [
            ("proactivo/a y", 1, "proactivo/a"),
            ("dinámico(a)", 1, "dinámico(a)"),
            ("React.js,", 1, "React.js"),
            ("C# y C++", 1, "C#"),
            ("ventas. Js", 1, "ventas"),
        ] {
            let words = Words::new(text);
            let found = trimmed(&words, 0, end).map(|(first, end)| words.text_of(first, end));
            assert_eq!(found, Some(expected), "{text}");
        }
    }
}
