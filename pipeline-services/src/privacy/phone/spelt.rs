//! Telephone numbers in words: "tres uno cinco, cinco cincuenta y cinco …".
//!
//! A sequence of number words counts when its digits make a telephone number; shorter ones are
//! amounts and years and stay.

use super::super::{Found, Kind, view::View};

/// Words of Spanish, Portuguese and English, and the digits that they stand for.
const WORDS: [(&str, &str); 66] = [
    ("cero", "0"),
    ("uno", "1"),
    ("una", "1"),
    ("un", "1"),
    ("dos", "2"),
    ("tres", "3"),
    ("cuatro", "4"),
    ("cinco", "5"),
    ("seis", "6"),
    ("siete", "7"),
    ("ocho", "8"),
    ("nueve", "9"),
    ("diez", "10"),
    ("once", "11"),
    ("doce", "12"),
    ("trece", "13"),
    ("catorce", "14"),
    ("quince", "15"),
    ("dieciseis", "16"),
    ("diecisiete", "17"),
    ("dieciocho", "18"),
    ("diecinueve", "19"),
    ("veinte", "20"),
    ("veintiuno", "21"),
    ("veintidos", "22"),
    ("veintitres", "23"),
    ("veinticuatro", "24"),
    ("veinticinco", "25"),
    ("veintiseis", "26"),
    ("veintisiete", "27"),
    ("veintiocho", "28"),
    ("veintinueve", "29"),
    ("treinta", "30"),
    ("cuarenta", "40"),
    ("cincuenta", "50"),
    ("sesenta", "60"),
    ("setenta", "70"),
    ("ochenta", "80"),
    ("noventa", "90"),
    ("zero", "0"),
    ("um", "1"),
    ("dois", "2"),
    ("duas", "2"),
    ("quatro", "4"),
    ("sete", "7"),
    ("oito", "8"),
    ("nove", "9"),
    // Half a dozen, as Brazilians read a six aloud.
    ("meia", "6"),
    ("dez", "10"),
    ("vinte", "20"),
    ("trinta", "30"),
    ("quarenta", "40"),
    ("cinquenta", "50"),
    ("sessenta", "60"),
    ("oitenta", "80"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("cien", "100"),
    // Two digits follow, as in "ciento veinte".
    ("ciento", "1"),
];

/// The digits that a word stands for; tens end in 0 and take a unit behind them.
fn digits(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(name, _)| *name == word).map(|(_, digits)| *digits)
}

/// A sequence of such words while it grows.
#[derive(Default)]
struct Sequence {
    start: usize,
    end: usize,
    words: usize,
    count: usize,
    /// The last word was a round ten, whose zero a unit replaces.
    ten: bool,
}

impl Sequence {
    fn take(&mut self, start: usize, end: usize, digits: &str, joined: bool) {
        if self.words == 0 {
            self.start = start;
        }
        let replaces = self.ten && joined && digits.len() == 1;
        self.count += digits.len() - usize::from(replaces);
        self.ten = digits.len() == 2 && digits.ends_with('0');
        self.words += 1;
        self.end = end;
    }

    fn is_phone(&self) -> bool {
        // Fewer digits than a telephone number are an amount, and so are few words. Not tuned.
        (7..=13).contains(&self.count) && self.words >= 4
    }
}

/// Finds numbers in words; single groups of digits may stand among them.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    let text = view.text();
    let mut sequence = Sequence::default();
    let mut joined = false;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(rest.len());
        let word = &rest[..length];
        // No word of the list has more than 12 letters.
        if length > 0 && length <= 12 && matches!(word, "y" | "e") && sequence.words > 0 {
            joined = true;
        } else if let Some(digits) = (length <= 12).then(|| digits(word)).flatten() {
            sequence.take(at, at + length, digits, joined);
            joined = false;
        } else if length > 0
            && (sequence.words == 0 || length > 4 || !word.bytes().all(|byte| byte.is_ascii_digit()))
        {
            close(&mut sequence, found);
            joined = false;
        } else if length > 0 {
            sequence.take(at, at + length, word, false);
        }
        let gap = text[at + length..].find(char::is_alphanumeric).unwrap_or(text.len() - at - length);
        let signs = &text[at + length..at + length + gap];
        if gap > 3 || !signs.chars().all(|sign| " ,.-\n".contains(sign)) {
            close(&mut sequence, found);
        }
        at += length + gap;
    }
    close(&mut sequence, found);
}

fn close(sequence: &mut Sequence, found: &mut Found) {
    if sequence.is_phone() {
        found.push((sequence.start..sequence.end, Kind::Phone));
    }
    *sequence = Sequence::default();
}
