//! Where the characters of a number go: masks with blanks to fill in.

use fastrand::Rng;

use crate::case::{Country, Form, Kind};

/// Draws an invented number.
pub(crate) type Draw = fn(&mut Rng) -> String;

/// A written form of a number: its name, how to draw one, and the layout that [`fill`] fills.
pub(crate) type Row = (&'static str, Draw, &'static str);

const SPANISH: [&str; 10] =
    ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"];
const PORTUGUESE: [&str; 10] =
    ["zero", "um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove"];

/// A random number after a mask: `_` is any digit, everything else stands for itself.
pub(crate) fn digits(rng: &mut Rng, mask: &str) -> String {
    mask.chars().map(|char| if char == '_' { rng.digit(10) } else { char }).collect()
}

/// Writes a number into a layout. `_` is its next character and `*` all that are left; `~` and `^`
/// are its next digit as a word of Spanish or Portuguese, `□` as a keycap emoji, `＿` full-width.
///
/// # Panics
/// When the layout has no place for some of the number.
pub(crate) fn fill(layout: &str, number: &str) -> String {
    let mut rest = number.chars();
    let mut out = String::new();
    for place in layout.chars() {
        match place {
            '*' => out.extend(rest.by_ref()),
            '_' => out.extend(rest.next()),
            '□' => out.extend(rest.next().into_iter().flat_map(|char| [char, '\u{fe0f}', '\u{20e3}'])),
            '＿' => out.extend(rest.next().and_then(|char| char::from_u32(u32::from(char) + 0xfee0))),
            '~' => out.push_str(spelled(rest.next(), &SPANISH)),
            '^' => out.push_str(spelled(rest.next(), &PORTUGUESE)),
            other => out.push(other),
        }
    }
    assert_eq!(rest.as_str(), "", "{layout} is too short for {number}");
    out
}

fn spelled(digit: Option<char>, words: &[&'static str; 10]) -> &'static str {
    digit.and_then(|char| char.to_digit(10)).map_or("", |digit| words[digit as usize])
}

/// The forms of a country's rows. A row whose layout begins with the number itself has no cue word
/// of its own and stands in a sentence of `cued`; the others stand in any.
pub(crate) fn forms(
    kind: Kind,
    country: Country,
    rows: &'static [Row],
    frames: &'static [&'static str],
    cued: &'static [&'static str],
) -> impl Iterator<Item = Form> {
    rows.iter().map(move |&(name, draw, layout)| Form {
        kind,
        country,
        name,
        frames: if layout.starts_with('‹') { cued } else { frames },
        write: Box::new(move |rng| fill(layout, &draw(rng))),
    })
}

#[test]
fn layouts_are_filled() {
    assert_eq!(fill("RUT ‹_.___-*›", "1234K"), "RUT ‹1.234-K›");
    assert_eq!(fill("~ ^ □ ＿", "3134"), "tres um 3\u{fe0f}\u{20e3} ４");
}
