//! Stretches of a text that name nothing an employer asks for: web addresses, company names, and
//! what is negated, offered, studied, or said of the employer or of the law.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::patterns::{Mask, Patterns, Role};
use crate::text::{
    tokens::Tokens,
    trie::{Match, longest},
};

/// Addresses of the web and of mail, and bare names of hosts. Product names with a dot (`ASP.NET`,
/// `Node.js`) end in none of these domains but `.net`, and a capitalised one begins a sentence
/// whose blank was lost ("equipo.Es necesario").
///
/// Each is a pattern of its own: in one pattern the search for a mail address would go on behind
/// every host that was found, as far as no blank comes, to see whether one begins before it.
static ADDRESSES: LazyLock<[Regex; 4]> = LazyLock::new(|| {
    [
        r"(?i)\b(?:https?|ftp)\s?:\s?//\S+",
        r"(?i)\bwww\.\S+",
        r"(?i)[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
        r"(?i)\b[a-z0-9-]{2,}(?:\.[a-z0-9-]{2,})*\.(?-i:com|org|net|edu|gob|gov|info|jobs|app|dev|co|mx|ar|pe|cl|br|es|us|uy|ec|COM|ORG|NET)(?:\.[a-z]{2})?\b(?:/\S*)?",
    ]
    .map(|pattern| Regex::new(pattern).expect("the pattern is a constant that a test compiles"))
});
/// The ending `.net` belongs to a product when nothing but one of these words stands before it:
/// Microsoft's.
const NET_PRODUCTS: [&str; 4] = ["asp.net", "vb.net", "ado.net", "ml.net"];

/// The mask of every word; `sentence` holds the number of each word's sentence.
pub(super) fn masks(tokens: &Tokens<'_>, sentence: &[u32], patterns: &Patterns) -> Vec<Mask> {
    let mut masks = vec![Mask::Open; tokens.len()];
    addresses(tokens, &mut masks);
    companies(tokens, patterns, &mut masks);
    let bounds = bounds(sentence);
    // One pass finds the phrases of every rule; reading the text once for each would take rules
    // times words.
    let mut found: Vec<Vec<Match>> = vec![Vec::new(); patterns.unasked.len() * Role::ALL.len()];
    for phrase in patterns.unasked_phrases.find(tokens) {
        found[phrase.payload as usize].push(phrase);
    }
    for (rule, roles) in patterns.unasked.iter().zip(found.chunks(Role::ALL.len())) {
        let of = |role: Role| roles[role as usize].as_slice();
        let reach = Reach { tokens, bounds: &bounds, words: rule.words, stops: of(Role::Stop) };
        // A whole statement ("no se requiere experiencia") takes nothing else back.
        let opening = of(Role::Before).iter().map(|found| (*found, true));
        let closed = of(Role::Closed).iter().map(|found| (*found, false));
        for (found, opens) in longest(opening.chain(closed).collect(), |(found, _)| (found.first, found.end))
        {
            if opens {
                raise(&mut masks, rule.mask, found.end..reach.forward(found.end - 1));
            }
        }
        for found in of(Role::After) {
            raise(&mut masks, rule.mask, reach.back(found.first)..found.first);
        }
        let mut whole: Vec<Range<usize>> =
            of(Role::Sentence).iter().map(|found| bounds[found.first].clone()).collect();
        // Else a sentence of many phrases would be raised for each of them, in time by the square.
        whole.dedup();
        whole.into_iter().for_each(|words| raise(&mut masks, rule.mask, words));
    }
    masks
}

fn raise(masks: &mut [Mask], least: Mask, words: Range<usize>) {
    masks[words].iter_mut().for_each(|mask| *mask = (*mask).max(least));
}

/// The words of the sentence of every word.
fn bounds(sentence: &[u32]) -> Vec<Range<usize>> {
    let mut bounds = Vec::with_capacity(sentence.len());
    for words in sentence.chunk_by(|left, right| left == right) {
        let first = bounds.len();
        bounds.extend(std::iter::repeat_n(first..first + words.len(), words.len()));
    }
    bounds
}

/// Reach of a phrase: some words of its sentence, up to a colon and up to a phrase that stops it.
#[derive(Clone, Copy)]
struct Reach<'a> {
    tokens: &'a Tokens<'a>,
    bounds: &'a [Range<usize>],
    words: usize,
    stops: &'a [Match],
}

impl Reach<'_> {
    /// One past the last word that a phrase ending with word `last` reaches. A colon directly
    /// behind the phrase introduces what it speaks of, a later one ends it.
    fn forward(self, last: usize) -> usize {
        let end = self.bounds[last].end.min(last + 1 + self.words);
        let end = (last + 2..end).find(|index| self.after_colon(*index)).unwrap_or(end);
        let next = self.stops.partition_point(|stop| stop.first <= last);
        self.stops.get(next).map_or(end, |stop| stop.first.min(end))
    }

    /// The first word that a phrase beginning with word `first` takes back: none where a stop
    /// stands between.
    fn back(self, first: usize) -> usize {
        let begin = self.bounds[first].start.max(first.saturating_sub(self.words));
        let begin = (begin + 1..=first).rev().find(|index| self.after_colon(*index)).unwrap_or(begin);
        let next = self.stops.partition_point(|stop| stop.first < begin);
        let stopped =
            self.stops[next..].iter().take_while(|stop| stop.first < first).any(|stop| stop.end <= first);
        if stopped { first } else { begin }
    }

    fn after_colon(self, index: usize) -> bool {
        let items = self.tokens.items();
        let gap = index.checked_sub(1).map(|previous| items[previous].end..items[index].start);
        gap.is_some_and(|gap| self.tokens.text()[gap].contains(':'))
    }
}

fn addresses(tokens: &Tokens<'_>, masks: &mut [Mask]) {
    let mut all: Vec<_> = ADDRESSES.iter().flat_map(|kind| kind.find_iter(tokens.text())).collect();
    // Stable: of those that begin at one place the first kind counts.
    all.sort_by_key(|found| found.start());
    let mut end = 0;
    for found in all {
        if found.start() < end {
            continue;
        }
        // Moved on for a product too, so that no later kind takes a part of it.
        end = found.end();
        if NET_PRODUCTS.contains(&found.as_str().to_ascii_lowercase().as_str()) {
            continue;
        }
        let (first, end) = (tokens.first_from(found.start()), tokens.first_from(found.end()));
        masks[first..end].fill(Mask::All);
    }
}

/// Capitalised words before a company form ("Inversiones Andinas SAS", "Excel Servicios S.A. de
/// C.V.").
fn companies(tokens: &Tokens<'_>, patterns: &Patterns, masks: &mut [Mask]) {
    let mut cued = vec![false; tokens.len() + 1];
    patterns.context.phrases.find(tokens).iter().for_each(|cue| cued[cue.end] = true);
    for form in longest(patterns.company.find(tokens), |found| (found.first, found.end)) {
        // A word such as "conocimientos" is no part of a company's name: programs follow it.
        let first = name_start(tokens, form.first, |index| cued[index + 1]);
        let written = tokens.span(form.first, form.end);
        // `S.A.S.` can only be a form of company; `SAS` is also a statistics program.
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

/// The first word of the name that ends before word `end`, or `end` where no capitalised word
/// stands there.
fn name_start(tokens: &Tokens<'_>, end: usize, is_cue: impl Fn(usize) -> bool) -> usize {
    /// Words of a company's name, connecting ones included. Not tuned.
    const NAME: usize = 6;
    let mut first = end;
    for index in (end.saturating_sub(NAME)..end).rev() {
        let connects = matches!(tokens.folded(index), "de" | "y" | "del" | "la" | "los" | "e" | "and");
        if tokens.surface(index).starts_with(char::is_uppercase) && !is_cue(index) {
            first = index;
        } else if !connects || index + 1 == end {
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
