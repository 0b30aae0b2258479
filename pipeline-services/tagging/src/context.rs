//! Where in its text a word stands: its sentence, the heading above it.
//!
//! Sentences end where a reader would end them, lost line breaks included; one pass over the words.

use crate::{
    features::Hash,
    words::{Gap, Shape, Words},
};

/// Place of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    /// First word of the sentence.
    pub(crate) sentence: usize,
    /// Hash of the last word that is a heading, or 0.
    pub(crate) heading: Hash,
}

/// Words that head a part of an advertisement, folded: the commonest of the headings in the
/// extractor's patterns. Which of them asks and which lists duties is learned.
const HEADINGS: [&str; 40] = [
    "requisitos",
    "requisito",
    "requerimientos",
    "perfil",
    "experiencia",
    "formacion",
    "conocimientos",
    "habilidades",
    "competencias",
    "aptitudes",
    "deseable",
    "excluyente",
    "tecnologias",
    "herramientas",
    "responsabilidades",
    "funciones",
    "tareas",
    "actividades",
    "mision",
    "objetivo",
    "ofrecemos",
    "beneficios",
    "ofrece",
    "requirements",
    "qualifications",
    "skills",
    "responsibilities",
    "duties",
    "benefits",
    "about",
    "horario",
    "salario",
    "sueldo",
    "buscamos",
    "imprescindible",
    "educacion",
    "estudios",
    "lugar",
    "contrato",
    "condiciones",
];

/// Marks after which a sentence or an item of a list begins.
const ENDS: [&str; 23] = [
    ".", ";", "!", "?", ":", "•", "·", "*", "-", "–", "—", "●", "▪", "✓", "✔", "►", "…", ">", "¿", "¡", "◦",
    "■", "➢",
];

/// Words from a heading to its colon ("Requisitos excluyentes para el puesto:"). Not tuned.
const TO_COLON: usize = 4;

/// The place of every word.
pub(crate) fn contexts(words: &Words<'_>) -> Vec<Context> {
    let (mut sentence, mut line, mut heading) = (0, 0, Hash::default());
    let mut found = Vec::with_capacity(words.len());
    for index in 0..words.len() {
        if words.items()[index].gap == Gap::Line {
            (line, sentence) = (index, index);
        } else if begins_sentence(words, index) {
            sentence = index;
        }
        if is_heading(words, index, line) {
            heading = words.hash(index);
        }
        found.push(Context { sentence, heading });
    }
    found
}

fn begins_sentence(words: &Words<'_>, index: usize) -> bool {
    let Some(before) = index.checked_sub(1) else { return true };
    let (item, previous) = (&words.items()[index], &words.items()[before]);
    let glued = item.gap == Gap::Nothing;
    if previous.shape == Shape::Lower {
        // "estipulados" + "Requisitos": a line break was lost.
        return glued && item.shape == Shape::Capitalised;
    }
    let mark = words.folded(before);
    // Inside of a word they join ("front-end", "S.A.").
    let joins = matches!(mark, "." | "-")
        && glued
        && matches!(item.shape, Shape::Lower | Shape::Number | Shape::Mark);
    previous.shape == Shape::Mark && ENDS.contains(&mark) && !joins
}

fn is_heading(words: &Words<'_>, index: usize, line: usize) -> bool {
    let item = &words.items()[index];
    if item.shape == Shape::Mark || !HEADINGS.contains(&words.folded(index)) {
        return false;
    }
    let capital = matches!(item.shape, Shape::Capitalised | Shape::Capitals);
    let mut after = (index + 1..words.len()).take(TO_COLON);
    let mark = after.find(|next| words.items()[*next].shape == Shape::Mark);
    capital || line == index || mark.is_some_and(|mark| words.folded(mark) == ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_begin_after_marks_and_lost_line_breaks() {
        let words =
            Words::new("Atender clientes.Requisitos:front-end y Excel\nInglés; SAP, ventasResponsable");
        let contexts = contexts(&words);
        let begins: Vec<&str> = (0..words.len())
            .filter(|index| contexts[*index].sentence == *index)
            .map(|index| words.folded(index))
            .collect();
        assert_eq!(begins, ["atender", "requisitos", "front", "ingles", "sap", "responsable"]);
    }

    #[test]
    fn the_last_heading_holds() {
        let words = Words::new("Funciones: vender. Requisitos Excel. Con experiencia en ventas");
        let contexts = contexts(&words);
        let heading_of = |word: &str| {
            let index = (0..words.len()).find(|index| words.folded(*index) == word).unwrap();
            contexts[index].heading
        };
        assert_eq!(heading_of("vender"), Hash::of("funciones"));
        assert_eq!(heading_of("excel"), Hash::of("requisitos"));
        assert_eq!(heading_of("ventas"), Hash::of("requisitos"));
    }
}
