//! From job titles to occupations by their words.
//!
//! A title and a label are compared by the rarity of the words they share (a Dice coefficient over inverse
//! document frequencies); the first content word, the head of a Spanish title, weighs in the decision.

use std::collections::HashMap;

use crate::{domain::taxonomy::Concept, text::tokens::Tokens};

/// Below this score a title stays without an occupation.
const SURE: f32 = 0.64;
/// The best must be better than the second occupation by this much, unless it is exact.
const MARGIN: f32 = 0.03;

/// Words of titles that say nothing about the occupation.
const NOISE: [&str; 84] = [
    "experiencia",
    "importante",
    "busca",
    "buscamos",
    "vacante",
    "oeste",
    "este",
    "norte",
    "sur",
    "capital",
    "federal",
    "gba",
    "nivel",
    "inicial",
    "empresa",
    "cliente",
    "manana",
    "tarde",
    "noche",
    "excluyente",
    "estudiante",
    "estudiantes",
    "a",
    "al",
    "and",
    "con",
    "de",
    "del",
    "e",
    "el",
    "en",
    "for",
    "in",
    "la",
    "las",
    "los",
    "o",
    "of",
    "para",
    "por",
    "the",
    "to",
    "u",
    "un",
    "una",
    "y",
    "x",
    "as",
    "os",
    "i",
    "ii",
    "iii",
    "iv",
    "sr",
    "ssr",
    "jr",
    "senior",
    "semisenior",
    "semi",
    "junior",
    "trainee",
    "pasante",
    "practicante",
    "urgente",
    "remoto",
    "remota",
    "remote",
    "hibrido",
    "hybrid",
    "presencial",
    "full",
    "part",
    "time",
    "medio",
    "turno",
    "tiempo",
    "completo",
    "zona",
    "bogota",
    "caba",
    "cdmx",
    "medellin",
    "mexico",
    "argentina",
];

/// Stems of ranks: alone, inside a longer title, they name no occupation.
const RANKS: [&str; 22] = [
    "administrador",
    "administrativ",
    "analist",
    "asesor",
    "asistent",
    "auxiliar",
    "ayudant",
    "consultor",
    "coordinador",
    "director",
    "ejecutiv",
    "empleador",
    "encargad",
    "especialist",
    "gerent",
    "ingenier",
    "jefe",
    "operador",
    "operari",
    "responsabl",
    "supervisor",
    "tecnic",
];

/// An occupation with how well it fits.
#[derive(Clone, Copy, Debug)]
pub struct Ranked<'taxonomy> {
    /// The occupation.
    pub concept: &'taxonomy Concept,
    /// 0..1; 1 where the title is one of the occupation's labels.
    pub score: f32,
}

#[derive(Debug)]
struct Name {
    concept: u32,
    words: Vec<u32>,
    weight: f32,
    /// The label is one of [`RANKS`].
    rank: bool,
}

/// Labels of occupations by their words.
#[derive(Debug, Default)]
pub(super) struct Index {
    ids: HashMap<String, u32>,
    weights: Vec<f32>,
    names: Vec<Name>,
    by_word: Vec<Vec<u32>>,
}

impl Index {
    /// Adds the labels of an occupation; both genders of `director técnico/directora técnica` count.
    pub(super) fn add(&mut self, concept: &Concept, id: u32) {
        for label in &concept.labels {
            for part in genders(&label.text) {
                let words = stems(part);
                if words.is_empty() {
                    continue;
                }
                let rank = words.len() == 1 && RANKS.contains(&words[0].as_str());
                let words: Vec<u32> = words.iter().map(|word| self.id(word)).collect();
                self.names.push(Name { concept: id, words, weight: 0.0, rank });
            }
        }
    }

    fn id(&mut self, word: &str) -> u32 {
        let fresh = self.ids.len() as u32;
        *self.ids.entry(word.to_owned()).or_insert(fresh)
    }

    /// Computes the weights of words once every label is in.
    pub(super) fn weigh(&mut self) {
        self.by_word = vec![Vec::new(); self.ids.len()];
        for (index, name) in self.names.iter().enumerate() {
            for word in &name.words {
                self.by_word[*word as usize].push(index as u32);
            }
        }
        let total = self.names.len() as f32;
        self.weights =
            self.by_word.iter().map(|names| 1.0 + (total / names.len().max(1) as f32).ln()).collect();
        for name in &mut self.names {
            name.weight = name.words.iter().map(|word| self.weights[*word as usize]).sum();
        }
    }

    /// The best labels' occupations with their scores, each occupation once.
    pub(super) fn rank(&self, title: &str, top: usize) -> Vec<(u32, f32)> {
        self.best(title, top, false)
    }

    /// With `within`, only labels all of whose words stand in the title: one with further words names a
    /// narrower occupation ("asistente de compras personales").
    fn best(&self, title: &str, top: usize, within: bool) -> Vec<(u32, f32)> {
        let words = stems(title);
        let unknown = 1.0 + (self.names.len().max(1) as f32).ln();
        let weight = |word: &String| self.ids.get(word).map_or(unknown, |id| self.weights[*id as usize]);
        let total: f32 = words.iter().map(weight).sum();
        let mut shared: HashMap<u32, f32> = HashMap::new();
        for id in words.iter().filter_map(|word| self.ids.get(word)) {
            for name in &self.by_word[*id as usize] {
                *shared.entry(*name).or_default() += self.weights[*id as usize];
            }
        }
        let head = words.first().and_then(|word| self.ids.get(word));
        let mut best: HashMap<u32, f32> = HashMap::new();
        for (index, common) in shared {
            let name = &self.names[index as usize];
            let rank = name.rank && words.len() > 1;
            if within && (rank || common < name.weight * 0.999) {
                continue;
            }
            let same_head = name.words.first() == head;
            let score = (2.0 * common / (total + name.weight)).min(1.0) * if same_head { 1.0 } else { 0.8 };
            let entry = best.entry(name.concept).or_default();
            *entry = entry.max(score);
        }
        let mut ranked: Vec<(u32, f32)> = best.into_iter().collect();
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        ranked.truncate(top);
        ranked
    }

    /// The one occupation that clearly fits the title, or its first part before a separator.
    pub(super) fn decide(&self, title: &str) -> Option<(u32, f32)> {
        let head = title.split(['(', '|', '–', '—', ',', ':', '-']).find(|part| !stems(part).is_empty());
        [Some(title), head].into_iter().flatten().find_map(|text| {
            let ranked = self.best(text, 2, true);
            let (id, score) = *ranked.first()?;
            let second = ranked.get(1).map_or(0.0, |other| other.1);
            let exact = score >= 0.999 && second < 0.999;
            (exact || (score >= SURE && score - second >= MARGIN)).then_some((id, score))
        })
    }
}

/// The alternatives of `masculino/femenino`; other slashes stay inside the label.
fn genders(label: &str) -> Vec<&str> {
    let parts: Vec<&str> = label.split('/').collect();
    let heads: Vec<Option<String>> = parts.iter().map(|part| stems(part).into_iter().next()).collect();
    if heads.windows(2).all(|pair| pair[0] == pair[1]) { parts } else { vec![label] }
}

/// Content words of a title without number and gender, each once.
fn stems(text: &str) -> Vec<String> {
    let tokens = Tokens::new(text);
    let mut stems: Vec<String> = Vec::new();
    for index in 0..tokens.len() {
        let word = tokens.folded(index);
        if NOISE.contains(&word) {
            continue;
        }
        let stem = stem(word).to_owned();
        if !stems.contains(&stem) {
            stems.push(stem);
        }
    }
    stems
}

fn stem(word: &str) -> &str {
    let word = if word.len() >= 5 { word.strip_suffix('s').unwrap_or(word) } else { word };
    if word.len() >= 5 { word.strip_suffix(['a', 'o', 'e']).unwrap_or(word) } else { word }
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::taxonomy::{Concept, ConceptKind, Label},
        taxonomy::Taxonomy,
    };

    #[test]
    fn decides_only_when_sure() {
        let occupation = |uri: &str, label: &str| Concept {
            uri: uri.to_owned(),
            kind: ConceptKind::Occupation,
            class: String::new(),
            labels: vec![Label { language: "es".into(), text: label.into(), preferred: true }],
        };
        let taxonomy = Taxonomy::new(
            "own",
            "1",
            vec![
                occupation("o:dev", "desarrollador de software/desarrolladora de software"),
                occupation("o:data", "analista de datos"),
                occupation("o:cost", "analista de costos"),
                occupation("o:electric", "electricista"),
                occupation("o:chief", "jefe"),
            ],
            &[],
        );
        for (title, expected) in [
            ("Desarrolladora de Software Sr.", Some("o:dev")),
            ("Analista de Datos Ssr - Zona Norte", Some("o:data")),
            ("ELECTRICISTA (turno noche)", Some("o:electric")),
            ("Analista", None),
            ("Ejecutivo de cuentas", None),
            ("Jefe de planta", None),
            ("Jefe", Some("o:chief")),
            ("", None),
        ] {
            let found = taxonomy.occupation(title).map(|ranked| ranked.concept.uri.as_str());
            assert_eq!(found, expected, "{title}");
        }
    }
}
