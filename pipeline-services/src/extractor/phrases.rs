//! Skills that a phrase introduces ("conocimientos en …") and standards by number ("ISO 9001").
//!
//! The weakest source: it adds only what no other one found, and only what looks like a name rather
//! than like the rest of a sentence. Reading takes time linear in the text.

use super::{
    candidate::Candidate,
    patterns::{Cue, Patterns},
    scope::Scope,
};
use crate::{
    domain::skill::{Method, SkillKind},
    text::{tokens::Tokens, trie::longest},
};

/// Longest introduced skill in words. Not tuned: what is longer goes on with the sentence.
const WORDS: usize = 4;
/// Letters of the longest words of Spanish in use (electroencefalografistas).
pub(super) const LETTERS: usize = 24;
/// Most skills one phrase introduces. Not tuned: longer lists are rare, and they end in duties.
const ITEMS: usize = 6;

/// Standards named by their number.
pub(super) fn standards(tokens: &Tokens<'_>, patterns: &Patterns) -> Vec<Candidate> {
    let mut found = Vec::new();
    for captures in patterns.standard.captures_iter(tokens.text()) {
        let (Some(whole), Some(body), Some(number)) = (captures.get(0), captures.get(1), captures.get(2))
        else {
            continue;
        };
        let (first, end) = (tokens.first_from(whole.start()), tokens.first_from(whole.end()));
        // A match that ends within a word has no span of words.
        let exact = first < end
            && tokens.items()[first].start == whole.start()
            && tokens.items()[end - 1].end == whole.end();
        if exact {
            let label = format!("{} {}", body.as_str().to_uppercase(), number.as_str());
            found.push(candidate((first, end), label, ("certification", 0.8)));
        }
    }
    found
}

/// Skills that introducing phrases name and no other source knows.
pub(super) fn introduced(tokens: &Tokens<'_>, scope: &Scope<'_>, known: &[Candidate]) -> Vec<Candidate> {
    let cues = longest(scope.patterns.introductions.find(tokens), |found| (found.first, found.end));
    let clauses = Clauses::of(tokens, scope);
    let mut found = Vec::new();
    for cue in cues {
        // In these sections an employer speaks of itself.
        if matches!(scope.section(cue.first), "benefits" | "about" | "legal" | "conditions") {
            continue;
        }
        let introduction = &scope.patterns.cues[cue.payload as usize];
        for (first, end) in clauses.items(tokens, scope, cue.end) {
            // Two more, for connecting words, which do not count towards the length.
            if end - first > WORDS + 2 {
                continue;
            }
            // What is known is apart and in order.
            let before = known.partition_point(|other| other.first < end);
            let overlaps = before.checked_sub(1).is_some_and(|last| first < known[last].end);
            let open = scope.open(first, end, &introduction.category);
            if !overlaps && open && names_a_skill(tokens, scope.patterns, (first, end)) {
                found.push(named(tokens, (first, end), introduction));
            }
        }
    }
    found
}

fn named(tokens: &Tokens<'_>, (first, end): (usize, usize), cue: &Cue) -> Candidate {
    let surface = tokens.span(first, end);
    let mut label = String::with_capacity(surface.len());
    let mut chars = surface.chars();
    // Only the first letter: the rest may be a product's spelling.
    label.extend(chars.next().into_iter().flat_map(char::to_uppercase));
    label.push_str(chars.as_str());
    candidate((first, end), label, (&cue.category, cue.confidence))
}

fn candidate((first, end): (usize, usize), label: String, (category, confidence): (&str, f32)) -> Candidate {
    Candidate {
        first,
        end,
        label: Some(label),
        kind: SkillKind::Hard,
        category: category.to_owned(),
        mark: None,
        partial: false,
        methods: vec![Method::Pattern],
        confidence,
        uri: None,
    }
}

/// Ends of the parts of "X, Y y Z", for every word: phrases that follow each other would each read
/// the same words.
struct Clauses {
    /// True for each word that ends a clause.
    ends: Vec<bool>,
    /// True for each word that joins parts.
    joins: Vec<bool>,
    /// The first word from each on that neither joins nor leads a part.
    content: Vec<usize>,
    /// The first word from each on that joins parts, ends the clause or begins another phrase or
    /// sentence.
    stops: Vec<usize>,
}

impl Clauses {
    fn of(tokens: &Tokens<'_>, scope: &Scope<'_>) -> Self {
        let clause = &scope.patterns.clause;
        let count = tokens.len();
        let ends = are_among(tokens, &clause.ends);
        let joins = are_among(tokens, &clause.joins);
        let leading = are_among(tokens, &clause.leading);
        let (mut content, mut stops) = (vec![count; count + 1], vec![count; count + 1]);
        // Backwards, so that each word takes over what is known of the next.
        for index in (0..count).rev() {
            let passed = leading[index] || joins[index];
            content[index] = if passed { content[index + 1] } else { index };
            let begins = index > 0 && !scope.same_sentence(index - 1, index);
            let stop = joins[index] || ends[index] || begins || tokens.items()[index].break_before;
            stops[index] = if stop { index } else { stops[index + 1] };
        }
        Self { ends, joins, content, stops }
    }

    /// The parts after a phrase, without articles, up to the end of the clause.
    fn items(&self, tokens: &Tokens<'_>, scope: &Scope<'_>, start: usize) -> Vec<(usize, usize)> {
        // A phrase has at least one word.
        let sentence = start - 1;
        let mut items = Vec::new();
        let mut at = start;
        while scope.same_sentence(sentence, at) && items.len() < ITEMS {
            // A comma goes on with the list, anything stronger ends it.
            let parted = at > start && tokens.items()[at].break_before && !after_comma(tokens, at);
            if parted || self.ends[at] {
                break;
            }
            let first = self.content[at];
            // False behind the last word, so the other two look at words that are there.
            if !scope.same_sentence(sentence, first) || self.joins[first] || self.ends[first] {
                break;
            }
            at = self.stops[first + 1];
            items.push((first, at));
            if at < tokens.len() && self.ends[at] {
                break;
            }
        }
        items
    }
}

/// True for each word of a text that is one of these.
fn are_among(tokens: &Tokens<'_>, words: &[String]) -> Vec<bool> {
    (0..tokens.len()).map(|index| words.iter().any(|word| word == tokens.folded(index))).collect()
}

fn after_comma(tokens: &Tokens<'_>, index: usize) -> bool {
    let gap = &tokens.text()[tokens.items()[index - 1].end..tokens.items()[index].start];
    gap.trim() == ","
}

/// Short, more than numbers, and free of words that belong to the job rather than to a skill.
fn names_a_skill(tokens: &Tokens<'_>, patterns: &Patterns, (first, end): (usize, usize)) -> bool {
    let words: Vec<&str> = (first..end).map(|index| tokens.folded(index)).collect();
    let content = words.iter().filter(|word| !is_connecting(word)).count();
    // One ordinary word says too little.
    let telling = content > 1 || is_name(tokens.surface(first));
    let last_connects = words.last().is_some_and(|word| is_connecting(word));
    (1..=WORDS).contains(&content)
        && telling
        && !last_connects
        && words.iter().all(|word| !patterns.clause.never.iter().any(|never| never == word))
        && words.iter().any(|word| word.len() >= 3 && word.chars().all(char::is_alphabetic))
        && !words.iter().any(|word| word.chars().all(|character| character.is_ascii_digit()))
        && (first..end).all(|index| is_one_word(tokens.surface(index)))
        && !is_gerund(tokens.folded(first))
        && !words.iter().any(|word| is_reflexive_gerund(word))
}

fn is_connecting(word: &str) -> bool {
    matches!(word, "de" | "del" | "la" | "el" | "los" | "las" | "en" | "of" | "in")
}

/// Returns whether a word is written like the name of a product: with a capital, but not shouted
/// like a place.
fn is_name(word: &str) -> bool {
    /// Letters of the longest acronym that is taken for a name. Not tuned: longer ones are rarer
    /// than shouted words.
    const ACRONYM: usize = 5;
    let shouted = word.chars().all(|character| !character.is_lowercase());
    word.starts_with(char::is_uppercase) && (!shouted || word.chars().count() <= ACRONYM)
}

/// Returns whether a word is one: sentences whose line break was lost are glued together ("GMPNos",
/// "AfinesFormación"), and a run of letters longer than any word is none.
fn is_one_word(word: &str) -> bool {
    let letters: Vec<char> = word.chars().collect();
    let glued = letters
        .windows(3)
        .any(|three| three[0].is_alphabetic() && three[1].is_uppercase() && three[2].is_lowercase());
    letters.len() <= LETTERS && !glued
}

/// "utilizando tecnologías modernas" goes on with the sentence.
fn is_gerund(word: &str) -> bool {
    // Up to five letters it may as well be a noun ("mando", "bando").
    word.len() > 5 && (word.ends_with("ando") || word.ends_with("endo"))
}

/// "direcciones desempeñándose en terreno": a second clause has begun.
fn is_reflexive_gerund(word: &str) -> bool {
    word.ends_with("andose") || word.ends_with("endose")
}
