//! Job titles as advertisements write them: "¡URGENTE! Se busca Contador(a) Sr. - Zona Norte".
//!
//! A title is cut into segments at punctuation. Marks of gender vanish, abbreviations are written
//! out, words lose number and gender, and each says whether it is noise, which is for the reader to
//! leave out: a label may need the very word ("abogado de empresa").

mod vocabulary;

use std::collections::HashSet;

use super::tokens::Tokens;
use vocabulary::{
    ABBREVIATIONS, FUNCTION, GENDER_MARKS, HIRING, JOINING, LEADS, NOISE, QUALIFIERS, QUALIFYING, listed,
};

/// A word of a title other than articles and prepositions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// Folded, without number and gender.
    pub stem: String,
    /// Says nothing about the occupation: seniority, hours, places, codes.
    pub noise: bool,
    /// Begins what only qualifies the job: "con experiencia", "para obra", "zona norte".
    pub qualifies: bool,
    /// Follows the word before without an article or a preposition.
    pub direct: bool,
    /// Begins a second occupation: "cocinero / mozo", "mecánico y vendedor".
    pub alternative: bool,
}

/// Characters of a title that are read: a stored one has no more.
const READ: usize = crate::domain::posting::TITLE_LIMIT;

/// The words of a label in order, each once, without articles and prepositions.
pub(crate) fn words(label: &str) -> Vec<String> {
    let tokens = Tokens::new(label);
    let mut known = HashSet::new();
    let content = (0..tokens.len()).map(|index| tokens.folded(index)).filter(|word| !listed(FUNCTION, word));
    content.map(stem).filter(|word| known.insert(*word)).map(str::to_owned).collect()
}

/// The segments of a title that hold a word which is not noise.
pub(crate) fn segments(title: &str) -> Vec<Vec<Word>> {
    let title = title.char_indices().nth(READ).map_or(title, |(end, _)| &title[..end]);
    let title = without_gender_marks(title);
    let tokens = Tokens::new(&title);
    let mut segments: Vec<Vec<Word>> = Vec::new();
    let mut first = 0;
    for end in 1..=tokens.len() {
        if end == tokens.len() || parts(&tokens, end) {
            let segment = hired(&tokens, first, end);
            if segment.iter().any(|word| !word.noise) {
                segments.push(segment);
            }
            first = end;
        }
    }
    segments
}

/// Returns whether a word says what somebody is called rather than what the work is: "oficial
/// albañil", "técnico electricista".
pub(crate) fn leads(stem: &str) -> bool {
    listed(LEADS, stem)
}

/// A word without number and gender.
pub(crate) fn stem(word: &str) -> &str {
    // Number before gender: the `s` stands behind the vowel.
    let word = if has_endings(word) { word.strip_suffix('s').unwrap_or(word) } else { word };
    if has_endings(word) { word.strip_suffix(['a', 'o', 'e']).unwrap_or(word) } else { word }
}

/// Under four letters endings carry meaning ("ios", "spa"); "jefe" and "jefa" are to meet.
fn has_endings(word: &str) -> bool {
    word.len() >= 4
}

/// `Contador(a)`, `Vendedor /a` and `operari@s` without their second ending.
fn without_gender_marks(title: &str) -> String {
    let tokens = Tokens::new(title);
    let mut out = String::with_capacity(title.len());
    let (mut copied, mut marked) = (0, false);
    for (index, pair) in tokens.items().windows(2).enumerate() {
        let gap = title[pair[0].end..pair[1].start].trim();
        // A word of two letters has no second ending: "y/o", "TI/a".
        let follows = marked || pair[0].end_char - pair[0].start_char > 2;
        marked = follows
            && matches!(gap, "/" | "(" | "(/" | "@")
            && listed(GENDER_MARKS, tokens.folded(index + 1));
        if marked {
            out.push_str(&title[copied..pair[0].end]);
            copied = pair[1].end + usize::from(title[pair[1].end..].starts_with(')'));
        }
    }
    out.push_str(&title[copied..]);
    out
}

/// Returns whether another segment begins with word `index`.
fn parts(tokens: &Tokens<'_>, index: usize) -> bool {
    let (before, after) = (&tokens.items()[index - 1], &tokens.items()[index]);
    let gap = &tokens.text()[before.end..after.start];
    let word = tokens.folded(index - 1);
    // The full stop in "Sr. Contador" parts nothing.
    let abbreviation = gap.trim_end() == "." && (word.len() <= 4 || written_out(word) != word);
    let blank = gap.starts_with(char::is_whitespace) || gap.ends_with(char::is_whitespace);
    !abbreviation
        && gap.chars().any(|character| match character {
            // Between letters it joins the parts of one word.
            '-' => blank,
            '/' | '&' | '\'' | '’' | '@' | '_' | '#' | '°' => false,
            other => !other.is_whitespace(),
        })
}

fn segment(tokens: &Tokens<'_>, first: usize, end: usize) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut next =
        Word { stem: String::new(), noise: false, qualifies: false, direct: true, alternative: false };
    let fresh = next.clone();
    for index in first..end {
        let folded = tokens.folded(index);
        let gap = match index > first {
            true => &tokens.text()[tokens.items()[index - 1].end..tokens.items()[index].start],
            false => "",
        };
        next.alternative |= gap.contains(['/', '&', '-']);
        // "c/experiencia", "s/exp.", "p/local" are the prepositions con, sin and para.
        let after = index + 1 < end && tokens.text()[tokens.items()[index].end..].starts_with('/');
        let preposition = after && matches!(folded, "c" | "s" | "p");
        if preposition || listed(FUNCTION, folded) {
            next.direct = false;
            next.qualifies |= preposition || listed(QUALIFYING, folded);
            next.alternative |= listed(JOINING, folded);
            continue;
        }
        for part in written_out(folded).split(' ') {
            let word = std::mem::replace(&mut next, fresh.clone());
            let known = words.iter().any(|known| known.stem == stem(part));
            if !known {
                words.push(Word {
                    stem: stem(part).to_owned(),
                    noise: is_noise(part),
                    qualifies: word.qualifies || listed(QUALIFIERS, part),
                    ..word
                });
            }
        }
    }
    words
}

fn written_out(folded: &str) -> &str {
    ABBREVIATIONS.iter().find(|(short, _)| *short == folded).map_or(folded, |(_, long)| long)
}

/// Numbers and codes ("1290cc", "req198774") are noise, names with a digit inside ("b2b", "s4hana")
/// are not.
fn is_noise(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word.len() == 1 || digits >= 3 || digits == word.len() || listed(NOISE, word)
}

/// Words behind "se busca" or "empresa requiere", or before it if nothing follows.
fn hired(tokens: &Tokens<'_>, first: usize, end: usize) -> Vec<Word> {
    let Some(verb) = (first..end).rfind(|index| listed(HIRING, tokens.folded(*index))) else {
        return segment(tokens, first, end);
    };
    let after = segment(tokens, verb + 1, end);
    if after.iter().any(|word| !word.noise) { after } else { segment(tokens, first, verb) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments with words that are no noise; `|` between segments.
    fn content(title: &str) -> String {
        let segment = |segment: &Vec<Word>| {
            let words = segment.iter().filter(|word| !word.noise).map(|word| word.stem.as_str());
            words.collect::<Vec<_>>().join(" ")
        };
        segments(title).iter().map(segment).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn keeps_what_names_the_occupation() {
        for (title, expected) in [
            ("Contador(a) Senior", "contador"),
            ("Desarrollador /a frontend", "desarrollador frontend"),
            ("CAJEROS/AS y REPOSITORES/AS", "cajer repositor"),
            ("Operari@s de limpieza", "operari limpiez"),
            ("Odontologo/Odontologa", "odontolog"),
            ("¡URGENTE! Se busca Cocinero/a - Zona Norte", "cociner"),
            ("Importante empresa requiere soldador", "soldador"),
            ("Jefa de RR.HH.", "jef recurs human"),
            ("Aux. contable", "auxiliar contabl"),
            ("1290CC | Vendedor", "vendedor"),
            ("Java/Angular Developer Sr.", "jav angular developer"),
            ("Analista-Programador (m/f/d)", "analist programador"),
            ("¡!", ""),
            ("", ""),
        ] {
            assert_eq!(content(title), expected, "{title}");
        }
    }

    #[test]
    fn says_how_words_follow() {
        let segments = segments("Recepcionista bilingüe c/experiencia y cajera");
        let [recepcionista, bilingual, experience, cashier] = &segments[0][..] else {
            panic!("{segments:?}")
        };
        assert!(recepcionista.direct && !recepcionista.noise);
        assert!(bilingual.noise);
        assert!(experience.qualifies && !experience.direct);
        assert!(cashier.alternative);
    }

    #[test]
    fn words_of_labels_keep_noise() {
        assert_eq!(words("abogado de empresa"), ["abogad", "empres"]);
        assert_eq!(words("Jefas y jefes del turno"), ["jef", "turn"]);
    }
}
