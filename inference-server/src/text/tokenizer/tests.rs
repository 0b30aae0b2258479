//! Tokenizing within a limit: truncation, pairs, windows, spans and byte offsets.
//!
//! The vocabulary has one token per word, so the expected ids can be read off the text.

use super::*;

/// One token per word, `[CLS]` and `[SEP]` around.
fn tokenizer(max_tokens: usize, lowercase: bool) -> Result<TextTokenizer> {
    let json = serde_json::json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5, "q:": 6}, "unk_token": "[UNK]"}
    });
    TextTokenizer::new(Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap(), max_tokens, lowercase)
}

#[test]
fn encodes_within_the_limit() {
    fn check(prompt: &str, text: &str, truncation: Truncation, expected: Result<(&[u32], bool), Error>) {
        let got = tokenizer(5, false).unwrap().encode("texts[0]", prompt, text, truncation);
        assert_eq!(got.as_ref().map(|e| (e.ids.as_slice(), e.truncated)), expected.as_ref().map(|e| *e));
    }
    let field = || "texts[0]".to_owned();
    check("", "a b", Truncation::Right, Ok((&[1, 3, 4, 2], false)));
    check("", "a b c", Truncation::Reject, Ok((&[1, 3, 4, 5, 2], false)));
    check("", "a b c a", Truncation::Right, Ok((&[1, 3, 4, 5, 2], true)));
    check("", "a b c a", Truncation::Left, Ok((&[1, 4, 5, 3, 2], true)));
    check("q: ", "a b c", Truncation::Right, Ok((&[1, 6, 3, 4, 2], true)));
    check(
        "",
        "a b c a",
        Truncation::Reject,
        Err(Error::InputTooLong { field: field(), tokens: 6, limit: 5 }),
    );
    check("q: ", " \n\u{a0}", Truncation::Right, Err(Error::EmptyInput { field: field() }));
    check("", "Z", Truncation::Right, Ok((&[1, 0, 2], false)));
}

#[test]
fn pairs_are_cut_longest_first() {
    fn check(first: &str, second: &str, truncation: Truncation, expected: Result<(&[u32], bool), Error>) {
        let tokenizer = tokenizer(7, false).unwrap().with_pair_types(true);
        let first = tokenizer.encode_first_of_pair("query", first).unwrap();
        let got = tokenizer.encode_pair("documents[0]", &first, second, truncation);
        let got = got.map(|e| (e.ids, e.truncated));
        assert_eq!(got, expected.map(|(ids, truncated)| (ids.to_vec(), truncated)));
    }
    let two = |id: u32| id | SECOND_TEXT;
    check("a", "b", Truncation::Right, Ok((&[1, 3, 2, two(4), two(2)], false)));
    check("a", "a b c a", Truncation::Right, Ok((&[1, 3, 2, two(3), two(4), two(5), two(2)], true)));
    check("a b c", "a b c", Truncation::Left, Ok((&[1, 4, 5, 2, two(4), two(5), two(2)], true)));
    check("a b c", "c", Truncation::Right, Ok((&[1, 3, 4, 5, 2, two(5), two(2)], false)));
    let field = || "documents[0]".to_owned();
    let too_long = Error::InputTooLong { field: field(), tokens: 8, limit: 7 };
    check("a b", "a b c", Truncation::Reject, Err(too_long));
    check("a", " ", Truncation::Right, Err(Error::EmptyInput { field: field() }));
    let plain = tokenizer(7, false).unwrap();
    let first = plain.encode_first_of_pair("query", "a").unwrap();
    assert_eq!(plain.encode_pair("d", &first, "b", Truncation::Right).unwrap().ids, [1, 3, 2, 4, 2]);
    assert_eq!(plain.special_ids(), [1, 2, 0]);
}

#[test]
fn lower_cases_where_the_package_says_so() {
    let encoded = tokenizer(5, true).unwrap().encode("t", "", "A B", Truncation::Right).unwrap();
    assert_eq!(encoded.ids, [1, 3, 4, 2]);
    // İ has two bytes, its lower case three; what follows it keeps its place in the text.
    let tokens = tokenizer(5, true).unwrap().tokens("İ A  B", true).unwrap();
    assert_eq!(tokens.get_ids(), [1, 0, 3, 4, 2]);
    assert_eq!(tokens.get_offsets(), [(0, 0), (0, 2), (3, 4), (6, 7), (0, 0)]);
    // Entities are found as transformers' pipeline finds them, which does not lower the case.
    assert_eq!(tokenizer(5, true).unwrap().windows("t", "A b", 0).unwrap().windows[0].ids, [1, 0, 4, 2]);
}

#[test]
fn a_limit_without_room_is_refused() {
    assert!(tokenizer(2, false).unwrap_err().to_string().contains("no room"));
}

#[test]
fn long_texts_are_read_in_windows() {
    fn check(text: &str, overlap: Option<usize>, expected: &[(&[u32], usize)]) {
        let tokenizer = tokenizer(5, false).unwrap();
        let windowed = tokenizer.windows("t", text, tokenizer.overlap(overlap).unwrap()).unwrap();
        let got: Vec<(&[u32], usize)> =
            windowed.windows.iter().map(|w| (w.ids.as_slice(), w.first)).collect();
        assert_eq!(got, expected, "{text}");
        assert_eq!(windowed.spans.len(), text.split_whitespace().count());
        for window in &windowed.windows {
            assert_eq!((window.lead, window.tokens + 2), (1, window.ids.len()));
        }
    }
    check("a b c", None, &[(&[1, 3, 4, 5, 2], 0)]);
    check("a b c a", None, &[(&[1, 3, 4, 5, 2], 0), (&[1, 3, 2], 3)]);
    check("a b c a b", Some(1), &[(&[1, 3, 4, 5, 2], 0), (&[1, 5, 3, 4, 2], 2)]);
    check("a b c a", Some(2), &[(&[1, 3, 4, 5, 2], 0), (&[1, 4, 5, 3, 2], 1)]);
    let error = tokenizer(5, false).unwrap().overlap(Some(3)).unwrap_err();
    assert_eq!(error.to_string(), "invalid settings.overlap_tokens `3`: expected 0 to 2");
}

#[test]
fn spans_count_code_points() {
    let spans = tokenizer(9, false).unwrap().windows("t", "ñ 🙂a b", 0).unwrap().spans;
    let places: Vec<(usize, usize, bool)> = spans.iter().map(|s| (s.start, s.end, s.subword)).collect();
    assert_eq!(places, [(0, 1, false), (2, 4, false), (5, 6, false)]);
}

#[test]
fn the_estimate_follows_the_texts() {
    let tokenizer = tokenizer(5, false).unwrap();
    assert_eq!(tokenizer.estimate(150), 47);
    for _ in 0..100 {
        tokenizer.tokens(&"abcdefghi ".repeat(100), false).unwrap();
    }
    assert!(tokenizer.estimate(1_000).abs_diff(102) < 3, "{}", tokenizer.estimate(1_000));
    assert_eq!(tokenizer.estimate(0), 2);
}

#[test]
fn ids_become_text_again() {
    let tokenizer = tokenizer(5, false).unwrap();
    let ids = tokenizer.tokens("a c b", true).unwrap().get_ids().to_vec();
    assert_eq!(tokenizer.decode("ids", &ids, true).unwrap(), "[CLS] a c b [SEP]");
    assert_eq!(tokenizer.decode("ids", &[], false).unwrap(), "");
    let error = tokenizer.decode("ids", &[3, 7], false).unwrap_err();
    assert_eq!(error.to_string(), "invalid ids[1] `7`: expected ids of the vocabulary, which has 7");
}

#[test]
fn tokens_carry_byte_offsets() {
    let tokenizer = tokenizer(5, false).unwrap();
    let with = tokenizer.tokens("ñ  a", true).unwrap();
    assert_eq!(with.get_offsets(), [(0, 0), (0, 2), (4, 5), (0, 0)]);
    assert_eq!(tokenizer.tokens("ñ  a", false).unwrap().get_ids(), [0, 3]);
}
