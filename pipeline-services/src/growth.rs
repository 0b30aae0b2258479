//! Time that reading takes, by the length of texts made to be slow: eight times the text takes
//! eight times as long, not sixty-four times.

mod texts;

use std::{
    fs,
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::json;

use crate::{
    cleaning::{self, Content},
    domain::posting::{Document, Field},
    enhancer::rules,
    extractor::{Extractor, NerEntity, Patterns, oneshot},
    intake,
    lexicon::Lexicon,
    privacy,
    taxonomy::Taxonomy,
    text::{fold, language, sentences::Sentences, title, tokens::Tokens},
};
use texts::texts;

/// Bytes of the shorter text, and how many times as many the longer one has. What grows with the
/// square of a text shows at this size too, and every function meets every text within a minute;
/// `OBSERVATORY_GROWTH_KIB=64` compares 64 KiB with 512.
static SHORT: LazyLock<usize> = LazyLock::new(|| {
    let kib = std::env::var("OBSERVATORY_GROWTH_KIB").ok().and_then(|kib| kib.parse().ok());
    kib.unwrap_or(2) * 1024
});
/// See `SHORT`.
const TIMES: usize = 8;
/// Readings of the longer text that take less say nothing.
const TELLING: Duration = Duration::from_millis(10);
/// How much longer the longer text may take: eight times, and half as much again for chance and
/// caches.
const RATIO: u32 = 12;
/// Readings of which the fastest counts, where the first was too slow.
const READINGS: usize = 5;

/// Processor time of this thread.
fn spent() -> Duration {
    // The account is brought up to date where the thread yields.
    std::thread::yield_now();
    let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = line.split(' ').next().and_then(|field| field.parse().ok());
    nanoseconds.map(Duration::from_nanos).unwrap_or_else(|| {
        static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        START.elapsed()
    })
}

fn time(read: &dyn Fn(&str), text: &str) -> Duration {
    let before = spent();
    read(text);
    spent().saturating_sub(before)
}

/// Reads every text in both lengths; says which take longer than in proportion.
pub(crate) fn check(name: &str, read: &dyn Fn(&str)) {
    check_some(name, *SHORT, &|_| true, read);
}

/// The same with what looks like markup, twice as long, since a page may nest so deep before it
/// costs no more.
pub(crate) fn check_markup(name: &str, read: &dyn Fn(&str)) {
    check_some(name, 2 * *SHORT, &|text| text.contains(['<', '>', '&', '"', '{', '[', '\n', '=']), read);
}

fn check_some(name: &str, length: usize, takes: &dyn Fn(&str) -> bool, read: &dyn Fn(&str)) {
    let mut slow = Vec::new();
    for ((unit, short), (_, long)) in texts(length).into_iter().zip(texts(TIMES * length)) {
        if !takes(&short) {
            continue;
        }
        let (mut least_short, mut least_long) = (Duration::MAX, Duration::MAX);
        for _ in 0..READINGS {
            least_long = least_long.min(time(read, &long));
            if least_long < TELLING {
                break;
            }
            least_short = least_short.min(time(read, &short));
            if least_long < least_short * RATIO {
                break;
            }
        }
        if least_long >= TELLING && least_long >= least_short * RATIO {
            slow.push(format!("{unit}: {least_short:?} and {least_long:?}"));
        }
    }
    assert!(
        slow.is_empty(),
        "{name} takes more than {RATIO} times as long for {TIMES} times the text:\n{}",
        slow.join("\n")
    );
}

#[test]
fn cleaning_takes_linear_time() {
    check("clean", &|text| drop(cleaning::clean(text)));
}

#[test]
fn hashing_and_folding_take_linear_time() {
    check("content_hash", &|text| {
        drop(cleaning::content_hash(&Content { description: text, ..Content::default() }));
    });
    check("fold", &|text| drop(fold::fold(text)));
}

#[test]
fn scrubbing_takes_linear_time() {
    check("scrub", &|text| drop(privacy::scrub(text)));
}

#[test]
fn scrubbing_places_takes_linear_time() {
    check("scrub_place", &|text| drop(privacy::scrub_place(text)));
}

#[test]
fn scrubbing_addresses_takes_linear_time() {
    check("scrub_url", &|text| drop(privacy::scrub_url(&format!("https://x.example/{text}"))));
}

#[test]
fn words_and_sentences_take_linear_time() {
    check("words and sentences", &|text| {
        let tokens = Tokens::new(text);
        language::detect(&tokens, None);
        let sentences = Sentences::of(text);
        for token in tokens.items() {
            sentences.at(token.start_char, token.end_char);
        }
        title::segments(text);
        title::words(text);
    });
}

#[test]
fn intake_takes_linear_time() {
    let countries = ["CO".to_owned()];
    check("intake", &|text| {
        for field in
            ["title", "url", "external_id", "location", "portal", "country", "posted_date", "contract_type"]
        {
            let mut line = json!({ "portal": "p", "country": "CO", "url": "https://x.example/1", "title": "t", "description": "d" });
            line[field] = text.into();
            let raw = intake::parse(&line.to_string());
            drop(raw.and_then(|raw| intake::prepare(raw, &countries, chrono::Utc::now())));
        }
        drop(intake::parse(text));
        intake::external_id_of("p", text);
        intake::external_id_of("p", &format!("https://x.example/{text}"));
        intake::country_code(text);
        intake::portal_name(text);
    });
}

fn extractor() -> Extractor {
    let lexicon = Arc::new(Lexicon::built_in().unwrap());
    let taxonomy = Taxonomy::new("lexicon", "1", lexicon.concepts().to_vec());
    Extractor::new(lexicon, Arc::new(Patterns::built_in().unwrap()), Some(Arc::new(taxonomy))).unwrap()
}

/// An entity at every third word.
fn entities(text: &str) -> Vec<NerEntity> {
    let tokens = Tokens::new(text);
    let entity = |token: &crate::text::tokens::Token| NerEntity {
        field: Field::Description,
        start: token.start_char,
        end: token.end_char,
        label: "skill".to_owned(),
        score: 0.9,
    };
    tokens.items().iter().step_by(3).map(entity).collect()
}

#[test]
fn extraction_and_its_rules_take_linear_time() {
    let extractor = extractor();
    check("extract", &|text| {
        let document = Document { description: text.to_owned(), ..Document::default() };
        let extraction = extractor.extract_with(&document, &entities(text));
        let skills = rules::enhance(&extraction.mentions, extractor.taxonomy(), extractor.lexicon());
        drop(oneshot::answer(&json!(1), &extraction, &skills, &Default::default()));
    });
}

#[test]
fn extraction_from_titles_takes_linear_time() {
    let extractor = extractor();
    check("extract from titles", &|text| {
        let document = Document { title: text.to_owned(), ..Document::default() };
        drop(extractor.extract(&document));
    });
}

#[test]
fn more_rounds_than_a_text_can_need_are_not_made() {
    // Every round completes one tag more.
    let nested = "<b".repeat(64) + &"b>".repeat(64);
    let text = nested + &"Excel y SQL. ".repeat(*SHORT / 2);
    let before = spent();
    cleaning::clean(&text);
    let once = spent() - before;
    let plain = "Excel y SQL. ".repeat(*SHORT / 2);
    let before = spent();
    cleaning::clean(&plain);
    let rounds = once.as_secs_f64() / (spent() - before).as_secs_f64().max(1e-3);
    assert!(rounds < 16.0, "{rounds} times as long as a plain text");
}
