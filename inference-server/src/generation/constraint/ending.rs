//! A short way from where a text is to where it may end.
//!
//! The grammar library says which tokens may come next and which must, but not how far the end is.
//! So the end is searched: forced tokens are taken, else tokens that close what is open in JSON,
//! else the shortest value, else the longest token that is allowed; where that leads nowhere, what
//! ends a value comes before the value. What is found is a way, not always the shortest.

use llguidance::Matcher as Parser;
use toktrie::TokTrie;

use super::watch::Watch;

/// Longest way that is searched, in steps; forced tokens are one step together.
const STEPS: usize = 600;
/// Ways followed side by side where the first one found is too long.
const WIDTH: usize = 6;
/// Steps of those.
const WIDE_STEPS: usize = 60;
/// Longest token that is tried where nothing better is known, in bytes.
const LONGEST: usize = 24;

/// Allowed tokens of which each is tried as the last one, where nothing better is known.
const LAST: usize = 2_000;

/// The vocabulary as the search sees it.
#[derive(Debug)]
pub(super) struct Hints {
    /// Logits of the model.
    pub(super) logits: usize,
    /// The first token that ends a text.
    pub(super) eos: u32,
    /// All tokens that do.
    pub(super) ends: Vec<u32>,
    /// In a JSON string: tokens that close it, those that close most first; then words. Of a group,
    /// the first that is allowed is tried.
    in_string: Vec<Vec<u32>>,
    /// Elsewhere: closing brackets, then values by their length, then punctuation.
    elsewhere: Vec<Vec<u32>>,
    /// The same with what ends a value before what may draw it out.
    leaving: Vec<Vec<u32>>,
    /// A bracket and a word: where both are allowed, the text is free, as in a JSON string.
    probes: Vec<u32>,
    /// Bytes of each token.
    lengths: Vec<u8>,
}

impl Hints {
    pub(super) fn new(trie: &TokTrie) -> Self {
        let all = trie.vocab_size() as u32;
        let only = |id: u32, allowed: &[u8]| {
            let bytes = trie.token(id);
            (!bytes.is_empty() && bytes.len() <= 8 && bytes.iter().all(|byte| allowed.contains(byte)))
                .then_some(id)
        };
        let longest_first = |ids: &mut Vec<u32>| {
            ids.sort_by_key(|id| (std::cmp::Reverse(trie.token_len(*id)), *id));
            ids.truncate(12);
        };
        let mut brackets: Vec<u32> = (0..all).filter_map(|id| only(id, b"}]")).collect();
        longest_first(&mut brackets);
        let closes = |id: &u32| trie.token(*id).iter().filter(|byte| **byte == b'"').count() == 1;
        let mut closing: Vec<u32> = (0..all)
            .filter_map(|id| only(id, b"\"}]"))
            .filter(|id| trie.token(*id).first() == Some(&b'"') && closes(id))
            .collect();
        longest_first(&mut closing);
        let token = |text: &str| trie.token_id(text.as_bytes());
        let group = |texts: &[&str]| -> Vec<u32> { texts.iter().filter_map(|text| token(text)).collect() };
        let in_string = vec![closing, group(&["\""]), group(&["aaaaaaaa", "aaaa", "the", "aa", "a", "A"])];
        let digits = group(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let mut elsewhere =
            vec![brackets.clone(), group(&["\"\""]), digits, group(&["null", "true"]), group(&["\""])];
        elsewhere.extend([group(&["[]", "{}", "[", "{"]), group(&[" "])]);
        let mut leaving = vec![brackets, group(&["\""]), group(&[","])];
        let marks = (b'!'..=b'~').filter(|byte| !byte.is_ascii_alphanumeric() && !b"}]\"[{".contains(byte));
        elsewhere.extend(marks.map(|byte| trie.token_id(&[byte]).into_iter().collect()));
        leaving.extend(elsewhere[1..].iter().cloned());
        let probes = [token("}"), token("a")].into_iter().flatten().collect();
        let lengths =
            (0..all).map(|id| if trie.is_special_token(id) { 0 } else { trie.token_len(id).min(255) as u8 });
        Self {
            logits: trie.vocab_size(),
            eos: trie.eos_token(),
            ends: trie.eos_tokens().to_vec(),
            in_string,
            elsewhere,
            leaving,
            probes,
            lengths: lengths.collect(),
        }
    }

    /// Whether it is a token with bytes of its own.
    pub(super) fn is_plain(&self, id: u32) -> bool {
        self.lengths.get(id as usize).is_some_and(|length| *length > 0)
    }
}

/// Whether the tokens and then the ending lead to where the text may end.
pub(super) fn leads(
    parser: &mut Parser,
    ids: &[u32],
    ending: &[u32],
    (hints, watch): (&Hints, &Watch),
) -> bool {
    let whole: Vec<u32> = ids.iter().chain(ending).copied().chain([hints.eos]).collect();
    watch.run(parser, |parser| parser.validate_tokens(&whole)).is_ok_and(|valid| valid == whole.len())
}

/// At most `room` tokens that lead to an end; `old` is an ending from before that may still close
/// the text. None is found once the text has used up its work.
pub(super) fn find(
    parser: &Parser,
    (hints, watch): (&Hints, &Watch),
    old: &[u32],
    room: usize,
) -> Option<Vec<u32>> {
    let search = |elsewhere, width, steps| {
        Search { hints, watch, elsewhere, old, width, best: None, room }.run(parser.clone(), steps)
    };
    search(&hints.elsewhere, 1, STEPS)
        .or_else(|| search(&hints.leaving, 1, STEPS))
        .or_else(|| search(&hints.elsewhere, WIDTH, WIDE_STEPS))
}

struct Way {
    parser: Parser,
    ids: Vec<u32>,
    /// How far its tokens were from what seemed best.
    rank: usize,
}

struct Search<'s> {
    hints: &'s Hints,
    watch: &'s Watch,
    /// Groups of tokens to try where a text is not free, in their order.
    elsewhere: &'s [Vec<u32>],
    old: &'s [u32],
    width: usize,
    best: Option<Vec<u32>>,
    /// Tokens that a way may have to be better than the best.
    room: usize,
}

impl Search<'_> {
    fn run(mut self, parser: Parser, steps: usize) -> Option<Vec<u32>> {
        let mut ways = vec![Way { parser, ids: Vec::new(), rank: 0 }];
        for _ in 0..steps {
            let mut next = Vec::new();
            for way in ways {
                self.follow(way, &mut next);
            }
            // Those that left the best choices least often: what seems best may lead round in a
            // circle.
            next.sort_by_key(|way| way.rank);
            next.truncate(self.width);
            if next.is_empty() || self.watch.is_spent() {
                break;
            }
            ways = next;
        }
        self.best
    }

    fn ends(&mut self, ids: Vec<u32>) {
        if ids.len() <= self.room {
            self.room = ids.len().saturating_sub(1);
            self.best = Some(ids);
        }
    }

    /// One step on all that leads from a way.
    fn follow(&mut self, mut way: Way, next: &mut Vec<Way>) {
        if way.ids.len() > self.room {
            return;
        }
        if self.watch.run(&mut way.parser, Parser::is_accepting).unwrap_or(false) {
            return self.ends(way.ids);
        }
        for skipped in 0..self.old.len().min(4) {
            let rest = &self.old[skipped..];
            if way.ids.len() + rest.len() <= self.room
                && leads(&mut way.parser, &[], rest, (self.hints, self.watch))
            {
                way.ids.extend(rest);
                return self.ends(way.ids);
            }
        }
        let forced = self.watch.run(&mut way.parser, Parser::compute_ff_tokens);
        if !forced.is_empty() {
            if self.watch.run(&mut way.parser, |parser| parser.consume_tokens(&forced)).is_ok() {
                way.ids.extend(forced);
                next.push(way);
            }
            return;
        }
        let candidates = self.candidates(&mut way.parser);
        for (rank, id) in candidates.into_iter().enumerate() {
            let mut parser = way.parser.clone();
            if self.watch.run(&mut parser, |parser| parser.consume_token(id)).is_ok() {
                let mut ids = way.ids.clone();
                ids.push(id);
                next.push(Way { parser, ids, rank: way.rank + rank });
            }
        }
    }

    /// What to try next, best first.
    fn candidates(&self, parser: &mut Parser) -> Vec<u32> {
        let mut valid = |id: &u32| {
            let valid = self.watch.run(parser, |parser| parser.validate_tokens(&[*id]));
            valid.is_ok_and(|valid| valid == 1)
        };
        let free = self.hints.probes.len() == 2 && self.hints.probes.iter().all(&mut valid);
        let known = if free { &self.hints.in_string } else { self.elsewhere };
        let first = |group: &Vec<u32>| group.iter().copied().find(&mut valid);
        let mut found: Vec<u32> = known.iter().filter_map(first).take(self.width).collect();
        if found.is_empty() || (found.len() < self.width && !free) {
            let others = self.others(parser, &found);
            found.extend(others.into_iter().take(self.width - found.len()));
        }
        found
    }

    /// Tokens after which the text may end, else the longest allowed ones, but those in `found`.
    fn others(&self, parser: &mut Parser, found: &[u32]) -> Vec<u32> {
        let Ok(mask) = self.watch.run(parser, Parser::compute_mask) else { return Vec::new() };
        let mut ids: Vec<u32> = Vec::new();
        mask.iter_set_entries(|id| {
            let length = self.hints.lengths[id] as usize;
            if (1..=LONGEST).contains(&length) && !found.contains(&(id as u32)) {
                ids.push(id as u32);
            }
        });
        let last = ids
            .iter()
            .copied()
            .take(LAST)
            .find(|id| !self.watch.is_spent() && leads(parser, &[*id], &[], (self.hints, self.watch)));
        let key = |id: &u32| (std::cmp::Reverse(self.hints.lengths[*id as usize]), *id);
        if ids.len() > self.width {
            ids.select_nth_unstable_by_key(self.width, key);
            ids.truncate(self.width);
        }
        ids.sort_unstable_by_key(key);
        last.into_iter().chain(ids).collect()
    }
}
