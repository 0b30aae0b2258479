//! Search for stop strings in a text that comes in pieces.
//!
//! Text is emitted as soon as no stop string can begin in it. How the text is cut into
//! pieces makes no difference.

/// Text released by a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Text in which no stop string can begin.
    pub text: String,
    /// True once a stop string is complete: it is not part of the text, and nothing follows.
    pub stopped: bool,
}

/// Matches one stop string byte by byte (Knuth, Morris and Pratt, 1977).
#[derive(Debug, Clone)]
struct Pattern {
    stop: Vec<u8>,
    /// Failure function: for each prefix length, the length of the longest proper prefix that is
    /// also its suffix.
    failure: Vec<usize>,
    /// Length of the prefix that the text ends with.
    matched: usize,
}

impl Pattern {
    fn new(stop: &str) -> Self {
        let stop = stop.as_bytes().to_vec();
        let mut failure = vec![0; stop.len() + 1];
        let mut length = 0;
        for place in 1..stop.len() {
            while length > 0 && stop[place] != stop[length] {
                length = failure[length];
            }
            length += usize::from(stop[place] == stop[length]);
            failure[place + 1] = length;
        }
        Self { stop, failure, matched: 0 }
    }

    /// Reads one byte; returns whether the stop string is complete.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.stop[self.matched] != byte {
            self.matched = self.failure[self.matched];
        }
        self.matched += usize::from(self.stop[self.matched] == byte);
        self.matched == self.stop.len()
    }
}

/// Searches a text for stop strings and holds back only what may still become one.
///
/// The string that is complete first wins; of two that end together, the longer one.
#[derive(Debug, Clone)]
pub struct StopStrings {
    patterns: Vec<Pattern>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Creates a search; empty strings are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        let patterns = stops.iter().filter(|stop| !stop.is_empty()).map(|stop| Pattern::new(stop)).collect();
        Self { patterns, held: String::new(), stopped: false }
    }

    /// Reads the next piece of the text; after a stop nothing more is emitted.
    pub fn push(&mut self, piece: &str) -> Emitted {
        if self.stopped {
            return Emitted { text: String::new(), stopped: true };
        }
        let before = self.held.len();
        self.held.push_str(piece);
        // By bytes: a stop string is UTF-8, so a match begins and ends at characters.
        for (place, byte) in piece.bytes().enumerate() {
            let complete = self
                .patterns
                .iter_mut()
                .filter_map(|pattern| pattern.step(byte).then_some(pattern.stop.len()));
            if let Some(longest) = complete.max() {
                self.stopped = true;
                self.held.truncate(before + place + 1 - longest);
                return Emitted { text: std::mem::take(&mut self.held), stopped: true };
            }
        }
        // The longest prefix of a stop string that the text ends with; anything before it is safe.
        let kept = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or_default();
        let rest = self.held.split_off(self.held.len() - kept);
        Emitted { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// Returns the text held back, at the end of a text without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops(stops: &[&str]) -> StopStrings {
        StopStrings::new(stops.iter().map(|stop| (*stop).to_owned()).collect())
    }

    #[test]
    fn only_what_may_become_a_stop_string_is_held_back() {
        fn check(words: &[&str], pieces: &[&str], expected: &[&str], rest: Option<&str>) {
            let mut stops = stops(words);
            let got: Vec<Emitted> = pieces.iter().map(|piece| stops.push(piece)).collect();
            let texts: Vec<&str> = got.iter().map(|emit| emit.text.as_str()).collect();
            assert_eq!(texts, expected);
            assert_eq!(got.iter().any(|emit| emit.stopped), rest.is_none());
            assert_eq!(stops.finish(), rest.unwrap_or_default());
        }
        check(&[], &["a", "b"], &["a", "b"], Some(""));
        check(&[""], &["a"], &["a"], Some(""));
        check(&["\n\n"], &["a\n", "b\n", "\nc", "d"], &["a", "\nb", "", ""], None);
        check(&["END"], &["aE", "N", "X", "EN"], &["a", "", "ENX", ""], Some("EN"));
        check(&["END"], &["xEND and more"], &["x"], None);
        check(&["aab"], &["aaab"], &["a"], None);
        check(&["bc", "abcd"], &["xabcd"], &["xa"], None);
        check(&["cd", "bcd"], &["abcd"], &["a"], None);
        check(&["ñ"], &["aé", "ñ"], &["aé", ""], None);
        check(&["🙂"], &["a🙃", "b"], &["a🙃", "b"], Some(""));
    }

    /// Searches the whole text at every position.
    fn naive(words: &[String], text: &str) -> (String, bool) {
        for end in 1..=text.len() {
            let found =
                words.iter().filter(|w| !w.is_empty() && text.as_bytes()[..end].ends_with(w.as_bytes()));
            if let Some(longest) = found.map(String::len).max() {
                return (text[..end - longest].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn any_cut_gives_what_a_search_of_the_whole_gives(
            words in proptest::collection::vec("[abñ🙂]{0,4}", 0..4),
            pieces in proptest::collection::vec("[abñ🙂]{0,5}", 0..12),
        ) {
            let (expected, expected_stop) = naive(&words, &pieces.concat());
            let mut stops = StopStrings::new(words.clone());
            let (mut text, mut stopped) = (String::new(), false);
            for piece in &pieces {
                let emit = stops.push(piece);
                text += &emit.text;
                stopped |= emit.stopped;
                let held = stops.held.clone();
                prop_assert!(held.is_empty() || words.iter().any(|w| w.len() > held.len() && w.starts_with(&held)));
            }
            text += &stops.finish();
            prop_assert_eq!((text, stopped), (expected, expected_stop));
        }
    }
}
