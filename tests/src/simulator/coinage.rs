//! Skill terms that nobody uses: enough of the planted skills are unknown to every lexicon and
//! taxonomy that no figure measured on generated advertisements can pass for accuracy.

use super::rng::Rng;

/// A coined term in Spanish and in English.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coined {
    pub(crate) spanish: String,
    pub(crate) english: String,
}

/// Syllables that begin no word of Spanish, English or a lexicon of skills.
const FIRST: [&str; 14] = [
    "zelv", "quim", "brux", "norv", "kalt", "drex", "plov", "yarn", "wend", "jusk", "vrel", "xant", "trov",
    "gwil",
];
const MIDDLE: [&str; 10] = ["or", "ax", "im", "ob", "ust", "eq", "ulm", "iz", "onk", "ay"];
const LAST: [&str; 10] = ["exa", "dril", "quor", "tium", "vane", "blik", "zora", "mond", "fyx", "gart"];

/// Terms per field of work. Not tuned: few enough that each comes back in many advertisements.
const TERMS: usize = 9;

/// The coined terms of one field of work.
pub(crate) fn terms(seed: u64, area: usize) -> Vec<Coined> {
    let mut rng = Rng::new(&[seed, 0xC01, area as u64]);
    let mut coined: Vec<Coined> = Vec::with_capacity(TERMS);
    // A term that is drawn twice is drawn again, so that the number of terms is fixed.
    while coined.len() < TERMS {
        let term = term(&mut rng);
        if !coined.contains(&term) {
            coined.push(term);
        }
    }
    coined
}

fn term(rng: &mut Rng) -> Coined {
    let (first, middle, last) = (*rng.pick(&FIRST), *rng.pick(&MIDDLE), *rng.pick(&LAST));
    let (head, tail) = first.split_at(1);
    let word = format!("{}{tail}{middle}{last}", head.to_uppercase());
    let (spanish, english) = match rng.below(5) {
        0 | 1 => (word.clone(), word),
        2 => (format!("método {word}"), format!("{word} method")),
        3 => (format!("certificación {word}"), format!("{word} certification")),
        _ => {
            let code = format!("{}{}-{}", first.to_uppercase(), middle.to_uppercase(), rng.between(110, 989));
            (format!("norma {code}"), format!("{code} standard"))
        }
    };
    Coined { spanish, english }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_distinct_and_depend_on_seed_and_area() {
        let terms_of_areas: Vec<_> = (0..14).map(|area| terms(42, area)).collect();
        for terms in &terms_of_areas {
            let mut seen: Vec<&str> = terms.iter().map(|term| term.spanish.as_str()).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), TERMS);
        }
        assert_eq!(terms(42, 3), terms_of_areas[3]);
        assert_ne!(terms(43, 3), terms_of_areas[3]);
        assert_ne!(terms_of_areas[2], terms_of_areas[3]);
    }
}
