//! E-mail addresses, plain and in disguise: from the sign to the left and to the right.
//!
//! The less a sign says by itself, the more the words around it must. Reading takes time linear in
//! the text, also where every word is a sign.

mod host;

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    Found, Kind, Words, compiled,
    view::{View, is_barrier},
    words,
};
use host::domain;

/// Possible signs of an address.
static SIGN: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"[\[({<] ?(?:@|at|ar+oba|arrova|a|en) ?[\])}>]|[_/|*"'~-](?:ar+oba|at)[_/|*"'~-]|@|\b(?:ar+oba|arrova|a r r o b a|at)\b"#,
    )
});

/// Strength of a sign by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// `@`, `(arroba)`, `[at]`: what looks like an address around it is one.
    Sure,
    /// `at`, `_at_`: a word; the host must be spelt out or the mailbox look like one.
    Word,
    /// `(a)`, which also ends words of two genders: the host must be a mail host.
    Weak,
}

/// Words that stand before a mail host without being a mailbox.
const NO_MAILBOX: [&str; 42] = [
    "a", "al", "con", "correo", "correos", "cuenta", "cuentas", "de", "del", "dominio", "dominios", "e",
    "el", "em", "email", "emails", "en", "es", "la", "los", "mail", "mails", "mailto", "manejo", "ms", "na",
    "no", "o", "ou", "para", "por", "se", "sea", "su", "tu", "un", "una", "uso", "usuario", "via", "www",
    "y",
];

/// Words that announce an address.
static CUES: LazyLock<Words> = LazyLock::new(|| {
    words(
        "correo correos mail mails email cv cvs curriculum curriculo vida hv enviar envia envianos enviarlo \
        escribe escribir escribenos escribinos mandar manda postulaciones postulate remitir contacto",
    )
});

/// Finds addresses.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    for sign in SIGN.find_iter(view.text()) {
        if let Some(range) = around(view, sign.range()) {
            found.push((range, Kind::Email));
        }
    }
    for host in host::bare(view) {
        if let Some(start) = before_host(view, host.start) {
            found.push((start..host.end, Kind::Email));
        }
    }
}

/// The whole address around a sign.
fn around(view: &View<'_>, sign: Range<usize>) -> Option<Range<usize>> {
    let word = &view.text()[sign.clone()];
    let strength = match word.trim_matches(|character: char| "[](){}<> _/|*\"'~-".contains(character)) {
        "a" | "en" => Sign::Weak,
        "at" if word.len() == 2 => Sign::Word,
        _ => Sign::Sure,
    };
    let spaced = is_blank(view.byte(sign.end)) || is_blank(view.byte_before(sign.start));
    let mailbox = mailbox(view, sign.start)?;
    let domain = domain(view, sign.end)?;
    let name = &view.text()[mailbox.clone()];
    let fits = match strength {
        Sign::Weak => domain.is_mail_host,
        Sign::Word => {
            let shaped = name.bytes().any(|byte| byte.is_ascii_digit() || b"._".contains(&byte));
            // "C++ at" and "Node.js at" name a program and its place.
            let program = !name.ends_with(char::is_alphanumeric)
                || [".js", ".net", ".py"].iter().any(|end| name.ends_with(end));
            domain.is_spelt
                || (domain.is_mail_host && domain.has_known_end)
                || (domain.has_known_end && shaped && !program)
        }
        Sign::Sure if !domain.has_dot => {
            let shaped = name.bytes().any(|byte| byte.is_ascii_digit() || b"._".contains(&byte));
            let announced = announced(view, mailbox.start);
            let known =
                domain.is_mail_host && !NO_MAILBOX.contains(&name) && (!spaced || shaped || announced);
            view.byte(domain.end) != b'_' && (known || (!spaced && announced))
        }
        Sign::Sure => {
            let letter = name.len() == 1 && domain.is_mail_host;
            !spaced || (domain.has_known_end && (letter || !NO_MAILBOX.contains(&name)))
        }
    };
    fits.then_some(mailbox.start..domain.end)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n')
}

/// Returns whether the words before say that an address comes.
fn announced(view: &View<'_>, at: usize) -> bool {
    view.words_before(at, 60).iter().take(5).any(|word| CUES.contains(word.text))
}

fn is_mailbox_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || character.is_alphabetic() || "._+-'".contains(character)
}

/// Longest local part (RFC 5321, 4.5.3.1.1).
const LONGEST: usize = 64;
/// Tokens of that length that are joined to a mailbox. Not tuned: names have fewer parts.
const JOINED: usize = 4;

/// The mailbox before a sign: one token, further ones joined by "punto" or "guion", or letters set
/// apart.
fn mailbox(view: &View<'_>, sign: usize) -> Option<Range<usize>> {
    let end = skip_back(view, sign);
    let mut start = token_start(view, end)?;
    if end - start == 1 && end < sign {
        start = apart_start(view, start);
    }
    // "at punto at punto at …": every one of them is a sign, and the same words stand before it.
    while end - start < JOINED * LONGEST
        && let Some(earlier) = joined_start(view, start)
    {
        start = earlier;
    }
    // A first letter is a must; `-` and `.` before it belong to the sentence.
    let skipped = view.text()[start..end].find(char::is_alphanumeric)?;
    Some(start + skipped..end)
}

/// Over at most two blanks and one line break, to the left.
fn skip_back(view: &View<'_>, at: usize) -> usize {
    let blanks = view.bytes()[..at].iter().rev().take(2).take_while(|byte| b" \n".contains(byte)).count();
    at - blanks
}

/// Start of the token that ends here; none where it would be too long.
fn token_start(view: &View<'_>, end: usize) -> Option<usize> {
    let window = view.behind(end, LONGEST + 1);
    let length: usize =
        window.chars().rev().take_while(|character| is_mailbox_char(*character)).map(char::len_utf8).sum();
    (1..=LONGEST).contains(&length).then(|| end - length)
}

/// The beginning of a mailbox whose letters stand apart: `a n a . r u i z @`.
fn apart_start(view: &View<'_>, mut start: usize) -> usize {
    let first = start;
    while start >= 2
        && view.byte(start - 1) == b' '
        && is_single(view.byte(start - 2))
        && first - start < 2 * LONGEST
    {
        let before = if start >= 3 { view.byte(start - 3) } else { b' ' };
        if !matches!(before, b' ' | b'\n' | b':' | b',' | b'(') {
            break;
        }
        start -= 2;
    }
    // "vida a a n a @": a preposition behind a word is none of the letters.
    let is_preposition = b"aeyo".contains(&view.byte(start))
        && start >= 2
        && view.byte(start - 1) == b' '
        && view.byte(start - 2).is_ascii_alphanumeric();
    if is_preposition && start < first { start + 2 } else { start }
}

/// Returns whether a byte is a whole character of a mailbox: bytes of longer ones are not ASCII.
fn is_single(byte: u8) -> bool {
    is_mailbox_char(char::from(byte)) && byte.is_ascii()
}

static JOINT: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#" ?[\[({<*"'/-]? ?(?:punto|ponto|dot|guion bajo|guion medio|guion|underscore) ?[\])}>*"'/-]? ?$"#,
    )
});

/// The beginning of the token before "punto" or its like.
fn joined_start(view: &View<'_>, start: usize) -> Option<usize> {
    let joint = JOINT.find(view.behind(start, 20))?;
    let joint_start = start - joint.len();
    let spelt = !joint.as_str().starts_with(' ') || joint.as_str().ends_with([' ', ')', ']', '}', '>']);
    let earlier = token_start(view, joint_start)?;
    (spelt && !NO_MAILBOX.contains(&&view.text()[earlier..joint_start])).then_some(earlier)
}

/// The sign between a mailbox and a host, or the last letter of one glued to it, and where the
/// mailbox ends.
fn sign_before(view: &View<'_>, host: usize) -> Option<(char, usize)> {
    let behind = view.behind(host, 8);
    let before = behind.chars().next_back()?;
    if is_mailbox_char(before) && !matches!(before, '-' | '_') {
        return (before != '.').then_some((before, host));
    }
    // One sign with blanks around it, or a blank alone.
    let sign = behind.trim_end_matches(' ');
    let last = sign.chars().next_back()?;
    if is_mailbox_char(last) && !matches!(last, '-' | '_') {
        return (behind.len() - sign.len() == 1).then_some((' ', host - 1));
    }
    let rest = sign[..sign.len() - last.len_utf8()].trim_end_matches(' ');
    let punctuation = "/.:,;@\n()\"'".contains(last) || (last.is_ascii() && is_barrier(last as u8));
    let tight = before == last || !last.is_ascii();
    (tight && !punctuation).then_some((last, host - behind.len() + rest.len()))
}

/// Start of an address whose mail host stands here without a sign that is one.
fn before_host(view: &View<'_>, host: usize) -> Option<usize> {
    let (before, end) = sign_before(view, host)?;
    let start = token_start(view, end)?;
    let name = &view.text()[start..end];
    let long = name.chars().filter(|character| character.is_alphanumeric()).count() >= 3;
    let ends_well = name.ends_with(char::is_alphanumeric);
    let shaped = name.bytes().any(|byte| byte.is_ascii_digit() || b"._".contains(&byte));
    let fits = match before {
        ' ' => shaped || announced(view, start),
        _ if end < host => true,
        // Glued: `olive.com` and `futebol.com.br` end like hosts that few people mean.
        _ => host::is_telling(view, host) || shaped || announced(view, start),
    };
    (long && ends_well && fits && !NO_MAILBOX.contains(&name) && !name.starts_with("www.")).then_some(start)
}
