//! From job titles to occupations by their words.
//!
//! A title decides by what it is called: our own titles first, then preferred labels, then
//! alternative ones that belong to one occupation; all of its words first, then without noise, then
//! its beginning ("cocinero para restaurante"). Only what has no such name is compared by the
//! rarity of the words it shares with labels (a Dice coefficient over inverse document
//! frequencies), which is also how occupations are ranked.

use std::collections::HashMap;

use crate::{
    domain::taxonomy::{Concept, Label},
    text::title::{self, Word},
};

#[cfg(test)]
mod tests;

/// Below this score a title stays without an occupation. A choice, as are the next: no trial of
/// other values is on record.
const SURE: f32 = 0.64;
/// The best must be better than the second occupation by this much, unless it is exact.
const MARGIN: f32 = 0.03;
/// The score of a title that begins with a name and goes on. A choice: under 1, which is for exact
/// names.
const EXTENDED: f32 = 0.9;
/// Share of its score that a label keeps in a title that begins with another word.
const OTHER_HEAD: f32 = 0.8;
/// Share that an alternative label keeps, so that it loses to a preferred one that fits equally
/// well; any number a little under 1 would do.
const ALTERNATIVE: f32 = 0.999;

/// Stems of ranks: alone, inside a longer title, they name no occupation.
const RANKS: [&str; 38] = [
    "administrador",
    "administrativ",
    "agent",
    "analist",
    "analyst",
    "asesor",
    "asistent",
    "assistant",
    "auxiliar",
    "ayudant",
    "clerk",
    "consultant",
    "consultor",
    "coordinador",
    "coordinator",
    "director",
    "ejecutiv",
    "empleador",
    "encargad",
    "engineer",
    "especialist",
    "gerent",
    "ingenier",
    "instructor",
    "jef",
    "manager",
    "montador",
    "officer",
    "operador",
    "operari",
    "operator",
    "productor",
    "responsabl",
    "supervisor",
    "technician",
    "tecnic",
    "trabajador",
    "worker",
];

/// An occupation with how well it fits.
#[derive(Debug, Clone, Copy)]
pub struct Ranked<'taxonomy> {
    /// The occupation.
    pub concept: &'taxonomy Concept,
    /// 0..1; the highest where the title is one of the occupation's names.
    pub score: f32,
}

/// Meaning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The occupation, or nothing where the words are known to name none.
    pub(super) concept: Option<u32>,
    /// Further words may follow.
    pub(super) extends: bool,
    /// In English further words stand before the name.
    pub(super) english: bool,
}

/// Strength of the tie between a label and its occupation, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Preferred,
    PreferredEnglish,
    Alternative,
}

#[derive(Debug)]
struct Name {
    concept: u32,
    words: Vec<u32>,
    weight: f32,
    /// The label is one of [`RANKS`].
    rank: bool,
    preferred: bool,
}

#[derive(Debug)]
struct Owner {
    concept: u32,
    standing: Standing,
    english: bool,
}

/// Labels of occupations by their words.
#[derive(Debug, Default)]
pub(super) struct Index {
    ids: HashMap<String, u32>,
    weights: Vec<f32>,
    names: Vec<Name>,
    by_word: Vec<Vec<u32>>,
    owners: HashMap<String, Vec<Owner>>,
}

impl Index {
    /// Adds the labels of an occupation; both genders of `director técnico/directora técnica`
    /// count.
    pub(super) fn add(&mut self, concept: &Concept, id: u32) {
        for label in &concept.labels {
            for part in genders(&label.text) {
                let words = title::words(&part);
                if words.is_empty() {
                    continue;
                }
                self.own(id, label, &words);
                let rank = words.len() == 1 && RANKS.contains(&words[0].as_str());
                let words: Vec<u32> = words.iter().map(|word| self.id(word)).collect();
                self.names.push(Name { concept: id, words, weight: 0.0, rank, preferred: label.preferred });
            }
        }
    }

    fn own(&mut self, concept: u32, label: &Label, words: &[String]) {
        let english = label.language == "en";
        let standing = match (label.preferred, english) {
            (true, false) => Standing::Preferred,
            (true, true) => Standing::PreferredEnglish,
            (false, _) => Standing::Alternative,
        };
        let owners = self.owners.entry(words.join(" ")).or_default();
        match owners.iter_mut().find(|owner| owner.concept == concept) {
            // An occupation may bear a name several times; its strongest claim counts.
            Some(owner) if owner.standing <= standing => {}
            Some(owner) => *owner = Owner { concept, standing, english },
            None => owners.push(Owner { concept, standing, english }),
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
        // At least 1, so that even a word of every label counts.
        self.weights =
            self.by_word.iter().map(|names| 1.0 + (total / names.len().max(1) as f32).ln()).collect();
        for name in &mut self.names {
            name.weight = name.words.iter().map(|word| self.weights[*word as usize]).sum();
        }
    }

    /// With `within`, only labels all of whose words stand in the title: one with further words
    /// names a narrower occupation ("asistente de compras personales").
    fn best(&self, words: &[&Word], top: usize, within: bool) -> Vec<(u32, f32)> {
        // A word of no label is taken to be as rare as one of a single label.
        let unknown = 1.0 + (self.names.len().max(1) as f32).ln();
        let known = |word: &&Word| self.ids.get(&word.stem);
        let total: f32 =
            words.iter().map(|word| known(word).map_or(unknown, |id| self.weights[*id as usize])).sum();
        let mut shared: HashMap<u32, f32> = HashMap::new();
        for id in words.iter().filter_map(known) {
            for name in &self.by_word[*id as usize] {
                *shared.entry(*name).or_default() += self.weights[*id as usize];
            }
        }
        let head = words.first().and_then(known);
        let mut best: HashMap<u32, f32> = HashMap::new();
        for (index, common) in shared {
            let name = &self.names[index as usize];
            let rank = name.rank && words.len() > 1;
            // A little less than all, since the sums are of rounded numbers.
            if within && (rank || common < name.weight * 0.999) {
                continue;
            }
            // In Spanish the first word says what somebody is, the others only of which kind.
            let head = if name.words.first() == head { 1.0 } else { OTHER_HEAD };
            let standing = if name.preferred { 1.0 } else { ALTERNATIVE };
            let score = (2.0 * common / (total + name.weight)).min(1.0) * head * standing;
            let entry = best.entry(name.concept).or_default();
            *entry = entry.max(score);
        }
        let mut ranked: Vec<(u32, f32)> = best.into_iter().collect();
        // Equal scores in the order of the ids: the map has another order each time.
        ranked.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        ranked.truncate(top);
        ranked
    }

    /// The one occupation that a title clearly names. `own` knows titles that stand above the
    /// labels.
    pub(super) fn decide(&self, title: &str, own: &dyn Fn(&str) -> Option<Meaning>) -> Option<(u32, f32)> {
        let segments = title::segments(title);
        let names = Names { index: self, own };
        let first = segments.first()?;
        match names.segment(first) {
            Verdict::Is(concept, score) => return Some((concept, score)),
            Verdict::Unknown => {
                if let Some(found) = self.resembling(first) {
                    return Some(found);
                }
            }
            Verdict::None => {}
        }
        // "Gomero / mecánico y vendedor": another part has a name as a whole; "Equipo de turno |
        // Cocinero": so may a later segment begin.
        let parts = first.chunk_by(|_, next| !next.alternative).skip(1);
        let part = parts.filter_map(|words| names.whole(words).filter(|found| found.extends)?.concept).next();
        let later = || {
            segments[1..].iter().find_map(|segment| match names.named(segment) {
                Verdict::Is(concept, _) => Some(concept),
                Verdict::None | Verdict::Unknown => None,
            })
        };
        part.or_else(later).map(|concept| (concept, EXTENDED))
    }

    /// The occupation whose label is most like the words, if it is like them and no other is as
    /// much.
    fn resembling(&self, words: &[Word]) -> Option<(u32, f32)> {
        let words: Vec<&Word> = words.iter().filter(|word| !word.noise).collect();
        let ranked = self.best(&words, 2, true);
        let (id, score) = *ranked.first()?;
        let second = ranked.get(1).map_or(0.0, |other| other.1);
        (score >= SURE && score - second >= MARGIN).then_some((id, score.min(EXTENDED)))
    }

    /// Meaning of a label: that of a preferred one before an alternative one, and nothing where
    /// several occupations have an equal claim.
    fn meaning(&self, key: &str) -> Option<Meaning> {
        let owners = self.owners.get(key)?;
        let standing = owners.iter().map(|owner| owner.standing).min()?;
        let mut firm = owners.iter().filter(|owner| owner.standing == standing);
        let (owner, other) = (firm.next()?, firm.next());
        let one_word = !key.contains(' ');
        // A single word is narrower or vaguer as an alternative label: "ayudante" for "ayudante de
        // cocina". An English one is often a Spanish word for something else: "financier",
        // "conductor".
        let alternative = one_word && standing == Standing::Alternative;
        let vague = alternative || (one_word && RANKS.contains(&key));
        let meaning = Meaning { concept: Some(owner.concept), extends: !vague, english: owner.english };
        (other.is_none() && !(alternative && owner.english)).then_some(meaning)
    }
}

/// Answer of the names about a segment.
enum Verdict {
    Is(u32, f32),
    /// It is known to name no occupation.
    None,
    Unknown,
}

/// Our own titles over the labels.
struct Names<'a> {
    index: &'a Index,
    own: &'a dyn Fn(&str) -> Option<Meaning>,
}

impl Names<'_> {
    fn get(&self, words: &[&Word]) -> Option<Meaning> {
        let key = words.iter().map(|word| word.stem.as_str()).collect::<Vec<_>>().join(" ");
        let own = (self.own)(&key);
        if own.is_some_and(|meaning| meaning.concept.is_some()) {
            return own;
        }
        let label = self.index.meaning(&key);
        let preferred = || self.index.owners[&key].iter().any(|owner| owner.standing < Standing::Alternative);
        // A title listed as naming no occupation yields to a preferred label of the active
        // taxonomy.
        if own.is_some() && !(label.is_some() && preferred()) { own } else { label }
    }

    /// The meaning of all words, of those that are no noise, or of those before a qualification.
    fn whole(&self, words: &[Word]) -> Option<Meaning> {
        let all: Vec<&Word> = words.iter().collect();
        let content: Vec<&Word> = words.iter().filter(|word| !word.noise).collect();
        let unqualified = words.iter().enumerate().skip_while(|(index, word)| *index == 0 || !word.qualifies);
        let end = unqualified.map(|(index, _)| index).next().unwrap_or(words.len());
        let core: Vec<&Word> = words[..end].iter().filter(|word| !word.noise).collect();
        [all, content, core].iter().filter(|words| !words.is_empty()).find_map(|words| self.get(words))
    }

    fn segment(&self, words: &[Word]) -> Verdict {
        let found = self.named(words);
        if !matches!(found, Verdict::Unknown) {
            return found;
        }
        match words {
            [first, second, ..] if title::leads(&first.stem) && second.direct => self.named(&words[1..]),
            _ => Verdict::Unknown,
        }
    }

    fn named(&self, words: &[Word]) -> Verdict {
        let verdict = |meaning: Meaning, score| match meaning.concept {
            Some(concept) => Verdict::Is(concept, score),
            None => Verdict::None,
        };
        if let Some(meaning) = self.whole(words) {
            return verdict(meaning, 1.0);
        }
        let all: Vec<&Word> = words.iter().collect();
        let content: Vec<&Word> = words.iter().filter(|word| !word.noise).collect();
        // The longest first: "asistente de compras" is more than "asistente".
        let begins = |words: &[&Word]| {
            (1..words.len()).rev().find_map(|end| self.get(&words[..end]).filter(|found| found.extends))
        };
        if let Some(meaning) = begins(&all).or_else(|| begins(&content)) {
            return verdict(meaning, EXTENDED);
        }
        let ends = (1..content.len()).find_map(|start| {
            let direct = content[1..=start].iter().all(|word| word.direct);
            self.get(&content[start..]).filter(|found| direct && found.extends && found.english)
        });
        ends.map_or(Verdict::Unknown, |meaning| verdict(meaning, EXTENDED))
    }
}

/// The names in `masculino/femenino`; other slashes stay inside the label. What both share may
/// stand with the last alone: "operario/operaria de blanqueo", "técnico/a de codificación".
pub(super) fn genders(label: &str) -> Vec<String> {
    let parts: Vec<&str> = label.split('/').map(str::trim).filter(|part| !part.is_empty()).collect();
    let [first, last] = parts[..] else { return vec![label.to_owned()] };
    let (head, tail) = (title::words(first), last.split_once(' '));
    match tail {
        Some((mark, rest)) if !first.contains(' ') && (mark.len() <= 2 || title::words(mark) == head) => {
            vec![format!("{first} {rest}")]
        }
        _ if head.first() == title::words(last).first() => vec![first.to_owned(), last.to_owned()],
        _ => vec![label.to_owned()],
    }
}
