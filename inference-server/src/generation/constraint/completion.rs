//! Search for a completion: a short sequence of tokens from where a text is to a valid end.
//!
//! The grammar library says which tokens may come next and which are forced, but not how far the
//! end is. So completions are searched: forced tokens are taken, else tokens that close what is
//! open in JSON, else the shortest value, else the longest allowed token. If that leads nowhere,
//! tokens that end a value are tried before those that start one. The result is a completion, not
//! always the shortest.

use std::cmp::Reverse;

use llguidance::Matcher as Parser;
use toktrie::TokTrie;

use super::work_meter::WorkMeter;

/// Maximum number of steps of a search that follows one path; forced tokens together are one step.
/// This and the bounds that follow are choices: `constraint/tests.rs` checks that completions are
/// found within them, and the work meter bounds the time they may take.
const MAX_STEPS: usize = 600;
/// Number of paths followed side by side if the single one is too long.
const BEAM_WIDTH: usize = 6;
/// Maximum number of steps of that beam search.
const BEAM_STEPS: usize = 60;
/// Longest token, in bytes, that is tried if nothing better is known.
const MAX_TOKEN_BYTES: usize = 24;
/// Number of allowed tokens that are tried as the last one if nothing better is known.
const MAX_LAST_TOKENS: usize = 2_000;
/// Longest token of closing brackets and quotes, in bytes, and how many of these are tried.
const MAX_CLOSING_BYTES: usize = 8;
const MAX_CLOSING_TOKENS: usize = 12;

/// Tokens of a vocabulary that are likely to close a text.
#[derive(Debug)]
pub(super) struct ClosingTokens {
    /// Number of logits of the model.
    pub(super) logits: usize,
    /// First end-of-sequence token.
    pub(super) eos: u32,
    /// All end-of-sequence tokens.
    pub(super) eos_ids: Vec<u32>,
    /// In a JSON string: tokens that close it, those that close most first; then words. Of each
    /// group, the first allowed token is tried.
    in_string: Vec<Vec<u32>>,
    /// Outside of strings: closing brackets, then values by their length, then punctuation.
    outside: Vec<Vec<u32>>,
    /// The same, with tokens that end a value before those that may prolong it.
    outside_leaving: Vec<Vec<u32>>,
    /// A bracket and a word: if both are allowed, the text is free, as in a JSON string.
    probes: Vec<u32>,
    /// Number of bytes of each token; 0 for special tokens.
    lengths: Vec<u8>,
}

impl ClosingTokens {
    pub(super) fn new(trie: &TokTrie) -> Self {
        let group = |texts: &[&str]| group_of(trie, texts);
        // Long tokens close several levels at once, which is what a text near its limit needs.
        let brackets = longest_first(trie, made_of(trie, b"}]"));
        let in_string =
            vec![string_ends(trie), group(&["\""]), group(&["aaaaaaaa", "aaaa", "the", "aa", "a", "A"])];
        let digits = group(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let mut outside =
            vec![brackets.clone(), group(&["\"\""]), digits, group(&["null", "true"]), group(&["\""])];
        outside.extend([group(&["[]", "{}", "[", "{"]), group(&[" "])]);
        let mut outside_leaving = vec![brackets, group(&["\""]), group(&[","])];
        let marks = (b'!'..=b'~').filter(|byte| !byte.is_ascii_alphanumeric() && !b"}]\"[{".contains(byte));
        outside.extend(marks.map(|byte| trie.token_id(&[byte]).into_iter().collect()));
        outside_leaving.extend(outside[1..].iter().cloned());
        Self {
            logits: trie.vocab_size(),
            eos: trie.eos_token(),
            eos_ids: trie.eos_tokens().to_vec(),
            in_string,
            outside,
            outside_leaving,
            probes: group(&["}", "a"]),
            lengths: (0..trie.vocab_size() as u32).map(|id| plain_length(trie, id)).collect(),
        }
    }

    /// Sort key: longer tokens first, of equals the lowest id.
    fn longest_first(&self, id: u32) -> (Reverse<u8>, u32) {
        (Reverse(self.lengths[id as usize]), id)
    }

    /// Returns true if it is a token with bytes of its own.
    pub(super) fn is_plain(&self, id: u32) -> bool {
        self.lengths.get(id as usize).is_some_and(|length| *length > 0)
    }
}

/// The tokens that are these texts, as far as the vocabulary has them.
fn group_of(trie: &TokTrie, texts: &[&str]) -> Vec<u32> {
    texts.iter().filter_map(|text| trie.token_id(text.as_bytes())).collect()
}

/// Bytes of a token, at most 255; 0 for a special token.
fn plain_length(trie: &TokTrie, id: u32) -> u8 {
    if trie.is_special_token(id) { 0 } else { trie.token_len(id).min(255) as u8 }
}

/// Tokens of at most [`MAX_CLOSING_BYTES`] that consist of these bytes only.
fn made_of(trie: &TokTrie, allowed: &[u8]) -> Vec<u32> {
    let mut ids = Vec::new();
    for id in 0..trie.vocab_size() as u32 {
        let bytes = trie.token(id);
        let fits = (1..=MAX_CLOSING_BYTES).contains(&bytes.len());
        if fits && bytes.iter().all(|byte| allowed.contains(byte)) {
            ids.push(id);
        }
    }
    ids
}

/// Tokens that close a JSON string, and brackets behind it.
fn string_ends(trie: &TokTrie) -> Vec<u32> {
    let mut ids = made_of(trie, b"\"}]");
    ids.retain(|id| {
        let bytes = trie.token(*id);
        bytes.first() == Some(&b'"') && bytes.iter().filter(|byte| **byte == b'"').count() == 1
    });
    longest_first(trie, ids)
}

fn longest_first(trie: &TokTrie, mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_by_key(|id| (Reverse(trie.token_len(*id)), *id));
    ids.truncate(MAX_CLOSING_TOKENS);
    ids
}

/// Tokens and meter that every search for a sequence uses.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    pub(super) tokens: &'c ClosingTokens,
    pub(super) meter: &'c WorkMeter,
}

impl Context<'_> {
    /// Returns true if the tokens, then the completion, lead to a valid end.
    pub(super) fn completes(self, parser: &mut Parser, ids: &[u32], completion: &[u32]) -> bool {
        let whole: Vec<u32> = ids.iter().chain(completion).copied().chain([self.tokens.eos]).collect();
        self.meter
            .run(parser, |parser| parser.validate_tokens(&whole))
            .is_ok_and(|valid| valid == whole.len())
    }

    /// Searches for a completion of at most `remaining` tokens. `previous` is an earlier
    /// completion, whose end may still close the text. Finds none once the work of the sequence is
    /// exhausted.
    pub(super) fn find(self, parser: &Parser, previous: &[u32], remaining: usize) -> Option<Vec<u32>> {
        // From cheap to thorough.
        for (outside, width, steps) in [
            (&self.tokens.outside, 1, MAX_STEPS),
            (&self.tokens.outside_leaving, 1, MAX_STEPS),
            (&self.tokens.outside, BEAM_WIDTH, BEAM_STEPS),
        ] {
            let search = Search { context: self, outside, previous, width, best: None, room: remaining };
            if let Some(found) = search.run(parser.clone(), steps) {
                return Some(found);
            }
        }
        None
    }
}

/// A sequence of tokens under construction.
struct Path {
    parser: Parser,
    ids: Vec<u32>,
    /// Sum of the ranks of its tokens among the candidates: 0 if each was the best one.
    rank: usize,
}

/// Beam search.
struct Search<'s> {
    context: Context<'s>,
    /// Groups of tokens to try, in this order, if the text is not free.
    outside: &'s [Vec<u32>],
    previous: &'s [u32],
    width: usize,
    best: Option<Vec<u32>>,
    /// Number of tokens that a path may have to be better than the best.
    room: usize,
}

impl Search<'_> {
    fn run(mut self, parser: Parser, steps: usize) -> Option<Vec<u32>> {
        let mut paths = vec![Path { parser, ids: Vec::new(), rank: 0 }];
        for _ in 0..steps {
            let mut next = Vec::new();
            for path in paths {
                self.extend(path, &mut next);
            }
            // Paths that left the best candidates least often: what seems best may go in circles.
            next.sort_by_key(|path| path.rank);
            next.truncate(self.width);
            if next.is_empty() || self.context.meter.is_exhausted() {
                break;
            }
            paths = next;
        }
        self.best
    }

    /// Keeps a completion if it is the shortest so far.
    fn found(&mut self, ids: Vec<u32>) {
        if ids.len() <= self.room {
            self.room = ids.len().saturating_sub(1);
            self.best = Some(ids);
        }
    }

    /// Adds every continuation of a path by one step to `next`.
    fn extend(&mut self, mut path: Path, next: &mut Vec<Path>) {
        let Context { meter, .. } = self.context;
        // Already as long as the best completion, which has ended.
        if path.ids.len() > self.room {
            return;
        }
        // The end token itself is not counted: a text may end at its limit without it.
        if meter.run(&mut path.parser, Parser::is_accepting).unwrap_or(false) {
            return self.found(path.ids);
        }
        // Tokens since the previous completion was found often are its first ones.
        for skipped in 0..self.previous.len().min(4) {
            let rest = &self.previous[skipped..];
            if path.ids.len() + rest.len() <= self.room && self.context.completes(&mut path.parser, &[], rest)
            {
                path.ids.extend(rest);
                return self.found(path.ids);
            }
        }
        let forced = meter.run(&mut path.parser, Parser::compute_ff_tokens);
        if !forced.is_empty() {
            if meter.run(&mut path.parser, |parser| parser.consume_tokens(&forced)).is_ok() {
                path.ids.extend(forced);
                next.push(path);
            }
            return;
        }
        let candidates = self.candidates(&mut path.parser);
        for (rank, id) in candidates.into_iter().enumerate() {
            // Parsers share their grammar, so a clone copies the state of this text only.
            let mut parser = path.parser.clone();
            if meter.run(&mut parser, |parser| parser.consume_token(id)).is_ok() {
                let mut ids = path.ids.clone();
                ids.push(id);
                next.push(Path { parser, ids, rank: path.rank + rank });
            }
        }
    }

    /// Tokens to try next, best first.
    fn candidates(&self, parser: &mut Parser) -> Vec<u32> {
        let Context { tokens, meter } = self.context;
        // If a bracket and a letter are both allowed, the parser is inside free text, where closing
        // the string is the way out.
        let free = tokens.probes.len() == 2 && tokens.probes.iter().all(|id| meter.allows(parser, *id));
        let known = if free { &tokens.in_string } else { self.outside };
        let mut found: Vec<u32> = Vec::new();
        for group in known {
            if found.len() == self.width {
                break;
            }
            found.extend(group.iter().copied().find(|id| meter.allows(parser, *id)));
        }
        if found.is_empty() || (found.len() < self.width && !free) {
            let others = self.others(parser, &found);
            found.extend(others.into_iter().take(self.width - found.len()));
        }
        found
    }

    /// A token after which the text may end, then the longest allowed ones, without those in
    /// `found`.
    fn others(&self, parser: &mut Parser, found: &[u32]) -> Vec<u32> {
        let Context { tokens, meter } = self.context;
        let Ok(mask) = meter.run(parser, Parser::compute_mask) else { return Vec::new() };
        let mut ids: Vec<u32> = Vec::new();
        // The whole mask is needed once the likely tokens have failed; that is the expensive case.
        mask.iter_set_entries(|id| {
            let length = tokens.lengths[id] as usize;
            if (1..=MAX_TOKEN_BYTES).contains(&length) && !found.contains(&(id as u32)) {
                ids.push(id as u32);
            }
        });
        let last = ids
            .iter()
            .copied()
            .take(MAX_LAST_TOKENS)
            .find(|id| !meter.is_exhausted() && self.context.completes(parser, &[*id], &[]));
        if ids.len() > self.width {
            ids.select_nth_unstable_by_key(self.width, |id| tokens.longest_first(*id));
            ids.truncate(self.width);
        }
        ids.sort_unstable_by_key(|id| tokens.longest_first(*id));
        last.into_iter().chain(ids).collect()
    }
}
