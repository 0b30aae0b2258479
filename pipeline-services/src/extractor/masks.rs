//! Stretches of a text that name nothing an employer asks for: web addresses, company names, and what is negated,
//! offered, studied, or said of the employer or of the law.

use std::sync::LazyLock;

use regex::Regex;

use super::patterns::{OPENS, Patterns};
use crate::text::{
    tokens::Tokens,
    trie::{Match, longest},
};

/// What a word may still name.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Mask {
    /// Anything.
    #[default]
    Open,
    /// Products, languages and certificates; a field of knowledge is a degree or a sector here.
    Fields,
    /// Nothing.
    All,
}

/// Addresses of the web and of mail, and bare names of hosts. Product names with a dot (`ASP.NET`, `Node.js`) end in
/// none of these domains.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:https?|ftp)\s?:\s?//\S+|\bwww\.\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b[a-z0-9-]{2,}(?:\.[a-z0-9-]{2,})*\.(?:com|org|net|edu|gob|gov|info|jobs|app|dev|co|mx|ar|pe|cl|br|es|us|uy|ec)(?:\.[a-z]{2})?\b(?:/\S*)?",
    )
    .expect("the pattern is a constant that a test compiles")
});
/// The ending `.net` belongs to a product when nothing but one of these words stands before it.
const NET_PRODUCTS: [&str; 4] = ["asp.net", "vb.net", "ado.net", "ml.net"];

/// The mask of every word; `sentence` holds the number of each word's sentence.
pub(super) fn masks(tokens: &Tokens<'_>, sentence: &[u32], patterns: &Patterns) -> Vec<Mask> {
    let mut masks = vec![Mask::Open; tokens.len()];
    addresses(tokens, &mut masks);
    companies(tokens, patterns, &mut masks);
    for rule in &patterns.unasked {
        let stops = rule.stops.find(tokens);
        let reach = Reach { tokens, sentence, words: rule.words, stops: &stops };
        let mut raise = |words: std::ops::Range<usize>| {
            masks[words].iter_mut().for_each(|mask| *mask = (*mask).max(rule.mask));
        };
        for found in longest(rule.before.find(tokens), |found| (found.first, found.end)) {
            // A whole statement ("no se requiere experiencia") takes nothing else back.
            if found.payload == OPENS {
                raise(found.end..reach.forward(found.end - 1));
            }
        }
        for found in rule.after.find(tokens) {
            raise(reach.back(found.first)..found.first);
        }
        for found in rule.sentences.find(tokens) {
            raise(reach.start(found.first)..reach.end(found.end - 1));
        }
    }
    masks
}

/// How far a phrase reaches: some words of its sentence, up to a colon and up to a phrase that stops it.
#[derive(Clone, Copy)]
struct Reach<'a> {
    tokens: &'a Tokens<'a>,
    sentence: &'a [u32],
    words: usize,
    stops: &'a [Match],
}

impl Reach<'_> {
    /// One past the last word that a phrase ending with word `last` reaches. A colon directly behind the phrase
    /// introduces what it speaks of, a later one ends it.
    fn forward(self, last: usize) -> usize {
        let end = self.end(last).min((last + 1).saturating_add(self.words));
        let end = (last + 2..end).find(|index| self.after_colon(*index)).unwrap_or(end);
        let next = self.stops.partition_point(|stop| stop.first <= last);
        self.stops.get(next).map_or(end, |stop| stop.first.min(end))
    }

    /// The first word that a phrase beginning with word `first` takes back: none where a stop stands between.
    fn back(self, first: usize) -> usize {
        let begin = self.start(first).max(first.saturating_sub(self.words));
        let begin = (begin + 1..=first).rev().find(|index| self.after_colon(*index)).unwrap_or(begin);
        let stopped = self.stops.iter().any(|stop| begin <= stop.first && stop.end <= first);
        if stopped { first } else { begin }
    }

    /// The first word of the sentence of word `index`.
    fn start(self, index: usize) -> usize {
        let inside = self.sentence[..index].iter().rev().take_while(|id| **id == self.sentence[index]);
        index - inside.count()
    }

    /// One past the last word of the sentence of word `index`.
    fn end(self, index: usize) -> usize {
        index + self.sentence[index..].iter().take_while(|id| **id == self.sentence[index]).count()
    }

    fn after_colon(self, index: usize) -> bool {
        let items = self.tokens.items();
        let gap = index.checked_sub(1).map(|previous| items[previous].end..items[index].start);
        gap.is_some_and(|gap| self.tokens.text()[gap].contains(':'))
    }
}

fn addresses(tokens: &Tokens<'_>, masks: &mut [Mask]) {
    for found in ADDRESS.find_iter(tokens.text()) {
        if NET_PRODUCTS.contains(&found.as_str().to_ascii_lowercase().as_str()) {
            continue;
        }
        let (first, end) = (tokens.first_from(found.start()), tokens.first_from(found.end()));
        masks[first..end].fill(Mask::All);
    }
}

/// Capitalised words before a company form ("Inversiones Andinas SAS", "Excel Servicios S.A. de C.V.").
fn companies(tokens: &Tokens<'_>, patterns: &Patterns, masks: &mut [Mask]) {
    let cues = patterns.context.phrases.find(tokens);
    for form in longest(patterns.company.find(tokens), |found| (found.first, found.end)) {
        let first = name_start(tokens, form.first, |index| cues.iter().any(|cue| cue.end == index + 1));
        let written = tokens.span(form.first, form.end);
        let dotted = written.contains('.');
        // "SPSS SAS" lists two programs, and so does "SPSS, SAS".
        let beside_acronym = first + 1 == form.first && is_acronym(tokens.surface(first));
        let parted = tokens.items()[form.first].break_before;
        if first < form.first
            && written.chars().any(char::is_uppercase)
            && (dotted || !parted && !beside_acronym)
        {
            masks[first..form.end].fill(Mask::All);
        }
    }
}

/// The first word of the name that ends before word `end`, or `end` where no capitalised word stands there.
fn name_start(tokens: &Tokens<'_>, end: usize, is_cue: impl Fn(usize) -> bool) -> usize {
    /// Words of a company's name, connecting ones included.
    const NAME: usize = 6;
    let capitalised = |index: usize| tokens.surface(index).starts_with(char::is_uppercase) && !is_cue(index);
    let connects =
        |index: usize| matches!(tokens.folded(index), "de" | "y" | "del" | "la" | "los" | "e" | "and");
    let mut first = end;
    for index in (end.saturating_sub(NAME)..end).rev() {
        if capitalised(index) {
            first = index;
        } else if !connects(index) || index + 1 == end {
            break;
        }
        if tokens.items()[index].break_before {
            break;
        }
    }
    first
}

fn is_acronym(word: &str) -> bool {
    word.chars().count() <= 5 && word.chars().all(|character| !character.is_lowercase())
}
