//! Hashes of words, of sets of roots and of triples of letters, the same on every machine.
//!
//! An index keeps hashes instead of texts: of 64 bits where two that are equal count as the same
//! wording, and of fewer for triples, where a collision only blurs a likeness.

/// Size of the table of hashed triples. Not tuned: folded words of two languages have some 10,000
/// triples, and few of them are frequent.
pub(crate) const TRIPLES: usize = 1 << 14;

/// Hash of the words of a wording in their order.
pub(crate) fn of_words(words: &[String]) -> u64 {
    fnv(words.join(" ").as_bytes())
}

/// Hash of the distinct roots of a wording, whatever their order.
pub(crate) fn of_roots(roots: &[String]) -> u64 {
    let mut sorted: Vec<&str> = roots.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    fnv(sorted.join(" ").as_bytes())
}

/// Hashed triples of letters of the words, each with a blank around it, sorted and distinct.
pub(crate) fn triples(words: &[String]) -> Vec<u16> {
    let mut found = Vec::new();
    for word in words {
        let letters: Vec<char> = std::iter::once(' ').chain(word.chars()).chain([' ']).collect();
        for triple in letters.windows(3) {
            let text: String = triple.iter().collect();
            found.push((fnv(text.as_bytes()) % TRIPLES as u64) as u16);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// FNV-1a of 64 bits (Fowler, Noll and Vo; RFC 9923).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
