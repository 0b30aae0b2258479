//! Damages inputs of parsers, the same way for the same seed, so that ordinary tests meet what
//! nobody thought of.
//!
//! [`bytes`] and [`texts`] hand a corpus, and what becomes of it, to a check that panics where it
//! should not have. A failure names its seed; `OBSERVATORY_SEED` set to it makes the same input
//! again, and no other.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

/// Environment variable with the one seed to try.
pub const SEED: &str = "OBSERVATORY_SEED";

/// Inputs made for one check at most. Not tuned: a small parser reads them in well under a second.
const ROUNDS: u64 = 3_000;

/// Time after which no further input is made, as CONTRIBUTING.md ("Damaged inputs") promises.
const LIMIT: Duration = Duration::from_secs(2);

/// Bytes that an input may be longer than the longest of the corpus. Not tuned: deep nesting and
/// long lines fit, and time that grows with the square of the length still shows.
const GROWTH: usize = 4 * 1024;

/// Pieces that parsers of ours stumble over: ends of things that never began, things that never
/// end, numbers at the edge, characters that are none or many.
const PIECES: &[&str] = &[
    "\0",
    "\u{feff}",
    "\r",
    "\n\n",
    "\t",
    " ",
    "\u{a0}",
    "\u{200b}",
    "\u{202e}",
    "\u{301}",
    "ñ",
    "İ",
    "ß",
    "🧑‍🍳",
    "𝟘",
    "<",
    ">",
    "</",
    "<!--",
    "-->",
    "<![CDATA[",
    "<script>",
    "&",
    "&#0;",
    "&#x110000;",
    "&amp;amp;",
    "\"",
    "'",
    "\"\"",
    "\\",
    "\\u",
    "\\ud800",
    "{",
    "}",
    "[",
    "[[",
    "]",
    "=",
    "%",
    "%00",
    "%zz",
    "$",
    "^",
    "*",
    "-",
    "-1",
    "1e999",
    "18446744073709551616",
];

/// Bytes that mean something to formats that are no text.
const BYTES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xc3, 0xed, 0xfe, 0xff];

/// Makes inputs from a corpus.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// One that does the same as every other of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number (splitmix64; Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { usize::try_from(self.next() % end as u64).unwrap_or(0) }
    }

    /// One of the corpus, damaged in one to eight places; a few bytes longer than the longest at
    /// most.
    pub fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let most = corpus.iter().map(Vec::len).max().unwrap_or(0) + GROWTH;
        let at = self.below(corpus.len());
        let mut input = corpus.get(at).cloned().unwrap_or_default();
        // Several, because a checksum or a length hides a single damage.
        for _ in 0..=self.below(8) {
            self.damage(&mut input, corpus);
            input.truncate(most);
        }
        input
    }

    fn damage(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                let value = BYTES[self.below(BYTES.len())];
                if let Some(byte) = input.get_mut(at) {
                    *byte = value;
                }
            }
            2 => drop(input.drain(self.range(at, input.len()))),
            3 => input.truncate(at),
            // Twice as often as any other damage: pieces reach deeper than changed bytes.
            4 | 5 => {
                let piece = PIECES[self.below(PIECES.len())].as_bytes();
                input.splice(at..at, piece.iter().copied());
            }
            6 => self.repeat(input, at),
            7 => self.number(input, at),
            8 => {
                let other = corpus.get(self.below(corpus.len())).map_or(&[][..], Vec::as_slice);
                let from = self.below(other.len() + 1);
                let range = self.range(from, other.len());
                input.splice(at..at, other[range].iter().copied());
            }
            _ => {
                let other = self.below(input.len());
                if at < input.len() {
                    input.swap(at, other);
                }
            }
        }
    }

    /// A range from `start`, mostly a short one.
    fn range(&mut self, start: usize, end: usize) -> std::ops::Range<usize> {
        let longest = if self.below(4) == 0 { end - start } else { (end - start).min(16) };
        start..start + self.below(longest + 1)
    }

    /// The same again and again: depth, and time that grows faster than the input.
    fn repeat(&mut self, input: &mut Vec<u8>, at: usize) {
        let piece = match self.below(2) {
            0 => PIECES[self.below(PIECES.len())].as_bytes().to_vec(),
            _ => input[self.range(at, input.len())].to_vec(),
        };
        let times = 1 << self.below(10);
        let repeated = piece.repeat(times.min(GROWTH / piece.len().max(1)));
        input.splice(at..at, repeated);
    }

    /// Another number in the place of one.
    fn number(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = input[at..].iter().position(u8::is_ascii_digit) else { return };
        let start = at + start;
        let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = start + digits;
        let numbers = [
            "",
            "0",
            "-1",
            "255",
            "65536",
            "2147483648",
            "9223372036854775808",
            "99999999999999999999",
            "1e308",
            "0.0000001",
        ];
        input.splice(start..end, numbers[self.below(numbers.len())].bytes());
    }
}

/// Hands a corpus and inputs made of it to `check`, which panics where something is wrong.
///
/// # Panics
/// As `check` does, after saying which seed makes the input.
pub fn bytes(name: &str, corpus: &[Vec<u8>], check: impl Fn(&[u8])) {
    // First what is not damaged: a check that fails there says nothing about damage.
    corpus.iter().for_each(|input| check(input));
    let one = env::var(SEED).ok().map(|seed| seed.parse().expect("OBSERVATORY_SEED is a number"));
    let (first, rounds) = one.map_or((seed_of(name), ROUNDS), |seed| (seed, 1));
    let end = Instant::now() + LIMIT;
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        let input = Mutator::new(seed).mutate(corpus);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            eprintln!("{name}: {SEED}={seed} makes this input of {} bytes: {}", input.len(), shown(&input));
            // The test fails with its own message, behind the seed.
            resume_unwind(panic);
        }
        if Instant::now() >= end {
            break;
        }
    }
}

/// The same for what reads text.
///
/// # Panics
/// As [`bytes`] does.
pub fn texts(name: &str, corpus: &[&str], check: impl Fn(&str)) {
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    bytes(name, &corpus, |input| check(&String::from_utf8_lossy(input)));
}

/// Each check has inputs of its own (FNV-1a).
fn seed_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn shown(input: &[u8]) -> String {
    // Not tuned: an input that fits a screen is shown whole.
    const MOST: usize = 2_000;
    let cut = if input.len() > MOST { " …" } else { "" };
    format!("b\"{}\"{cut}", input[..input.len().min(MOST)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_seed_makes_the_same_input_again() {
        let corpus = [b"<a href='1'>uno</a>".to_vec(), b"{\"dos\": 22}".to_vec()];
        let made: Vec<Vec<u8>> = (0..200).map(|seed| Mutator::new(seed).mutate(&corpus)).collect();
        let again: Vec<Vec<u8>> = (0..200).map(|seed| Mutator::new(seed).mutate(&corpus)).collect();
        assert_eq!(made, again);
        let mut different = made.clone();
        different.sort();
        different.dedup();
        assert!(different.len() > 150, "{}", different.len());
        assert!(made.iter().all(|input| input.len() <= 19 + GROWTH));
        assert!((0..500).all(|seed| Mutator::new(seed).mutate(&[]).len() <= GROWTH));
    }

    #[test]
    fn a_fault_is_met_and_its_seed_told() {
        let corpus = ["size=10"];
        let met = RefCell::new(String::new());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            texts("fault", &corpus, |text| {
                met.replace(text.to_owned());
                assert!(!text.contains("size=99999999999999999999"));
            });
        }));
        assert!(outcome.is_err(), "the mutator changes numbers");
        assert!(met.borrow().contains("99999999999999999999"));
    }

    #[test]
    fn inputs_are_shown_as_rust_reads_them() {
        assert_eq!(shown(b"a\"\0\xff"), r#"b"a\"\x00\xff""#);
        assert!(shown(&[b'x'; 3000]).ends_with("\" …"));
    }
}
