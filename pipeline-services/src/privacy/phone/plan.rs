//! How telephone numbers are built in the region.
//!
//! Lengths, prefixes and usual groups of the countries whose portals are read. The form is all that
//! is judged here; words around a number come in as a [`Cue`].

use super::{super::number::Number, Cue, View};

/// Returns whether a number is built like a telephone number, as far as the words around it leave
/// open.
pub(super) fn fits(view: &View<'_>, number: &Number, plus: bool, bracket: bool, cue: Cue) -> bool {
    let digits = number.digits.as_str();
    let mut lengths = number.lengths();
    if lengths.iter().all(|length| *length == 1) {
        // Portals set the digits apart to hide them.
        lengths = vec![digits.len()];
    }
    if is_odd(&lengths) {
        return false;
    }
    let count = digits.len();
    if plus {
        return (8..=15).contains(&count) && !digits.starts_with('0');
    }
    if let Some(abroad) = digits.strip_prefix("00") {
        return (12..=15).contains(&count) && !abroad.starts_with('0') && is_abroad(abroad, true);
    }
    match cue {
        Cue::Against => false,
        Cue::Strong => (6..=14).contains(&count),
        // "línea 1234567" may be of anything.
        Cue::Weak => (7..=13).contains(&count) && (count > 7 || lengths.len() > 1 || is_called(view, number)),
        Cue::None => {
            // Dots part the numbers of versions and networks too; a Colombian mobile has its own
            // groups.
            let dots = number.is_parted_by(view, ".")
                && digits.starts_with('3')
                && matches!(lengths[..], [3, 3, 4] | [3, 3, 2, 2]);
            let plain = lengths.len() == 1 || number.is_parted_by(view, " -()");
            (plain || dots) && view.has_bare_numbers() && alone(digits, &lengths, bracket)
        }
    }
}

/// "al 4321567".
fn is_called(view: &View<'_>, number: &Number) -> bool {
    [" al ", " ao ", ": "].iter().any(|word| view.behind(number.range.start, 4).ends_with(word))
}

/// Groups that no telephone number has: one digit at the end, digits behind a whole number, or
/// equal long groups.
fn is_odd(lengths: &[usize]) -> bool {
    let [body @ .., last] = lengths else { return true };
    let long = body.iter().any(|length| *length >= 7);
    let equal = lengths.len() > 2 && lengths.iter().all(|length| *length >= 4 && length == last);
    !body.is_empty() && (*last == 1 || long || equal) || lengths.len() > 7
}

/// Country codes with the lengths of the numbers behind them, of mobiles and of all (ITU-T E.164
/// and the national numbering plans).
pub(super) fn is_abroad(digits: &str, any: bool) -> bool {
    const PLANS: [(&str, &[usize]); 22] = [
        ("573", &[12]),
        ("576", &[12]),
        ("521", &[13]),
        ("52", &[12]),
        ("549", &[13]),
        ("54", &[12]),
        ("569", &[11]),
        ("562", &[11]),
        ("519", &[11]),
        ("51", &[10, 11]),
        ("55", &[12, 13]),
        ("593", &[11, 12]),
        ("598", &[11]),
        ("595", &[12]),
        ("591", &[11]),
        ("58", &[12]),
        ("506", &[11]),
        ("507", &[10, 11]),
        ("502", &[11]),
        ("503", &[11]),
        ("504", &[11]),
        ("34", &[11]),
    ];
    let fits =
        PLANS.iter().any(|(code, lengths)| digits.starts_with(code) && lengths.contains(&digits.len()));
    fits || (any && (10..=13).contains(&digits.len()))
}

/// Returns whether a number needs no word to be known: national and international forms with their
/// usual groups.
fn alone(digits: &str, lengths: &[usize], bracket: bool) -> bool {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| digits.starts_with(prefix));
    let year = starts(&["19", "20"]);
    let zeros = digits.ends_with("000");
    match (digits.len(), lengths) {
        (10, [10]) => {
            !zeros
                && starts(&[
                    "3", "55", "56", "33", "81", "601", "602", "604", "605", "606", "607", "608", "11",
                ])
        }
        (10, [2, 4, 4] | [3, 3, 4] | [3, 7] | [2, 8] | [3, 4, 3] | [3, 3, 2, 2]) => !zeros,
        (10, [4, 6] | [4, 3, 3] | [4, 2, 4]) => !year && !zeros,
        (9, [3, 3, 3] | [1, 4, 4] | [1, 8]) => starts(&["9"]) && !zeros,
        (9, [2, 3, 4] | [2, 7]) => bracket,
        (10, [2, 3, 5] | [2, 5, 3]) => bracket,
        (11, [2, 5, 4] | [2, 1, 4, 4] | [2, 9]) => {
            digits.as_bytes()[2] == b'9' && (bracket || lengths.len() > 2)
        }
        (11, _) if starts(&["0"]) && !starts(&["00"]) => lengths.len() > 1 || starts(&["011", "0800"]),
        (12 | 13, _) if starts(&["01800"]) || (bracket && starts(&["0"])) => true,
        (11..=13, _) if starts(&["573", "549", "5255", "521", "5411", "569", "519"]) => {
            is_abroad(digits, false)
        }
        (11..=13, _) if lengths.len() > 2 => is_abroad(digits, false),
        _ => false,
    }
}

/// `Cel. 946.555.788`: a Peruvian or Chilean mobile in threes looks like an amount but for its cue.
pub(super) fn is_mobile_by_thousands(digits: &str, cue: Cue) -> bool {
    cue == Cue::Strong && digits.len() == 9 && digits.starts_with('9')
}
