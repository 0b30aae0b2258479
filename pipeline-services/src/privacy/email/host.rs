//! The part of an address behind its sign.
//!
//! Says where a domain ends, also when its dots are words, its letters stand apart or the next
//! sentence is glued to it, and how likely it is to be one.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::super::{compiled, view::View};

/// Endings of names in the region and everywhere (IANA's root zone, those that advertisements use),
/// and those of RFC 2606 for examples.
const ENDS: &str = "com|net|org|edu|gob|gov|gub|info|biz|jobs|work|tech|dev|app|online|site|store|club|xyz|cloud|\
    coop|mil|int|example|test|ar|bo|br|cl|co|cr|cu|do|ec|es|eu|gt|hn|io|la|lat|me|mx|ni|pa|pe|pr|pt|py|sv|us|uy|ve|ai";

/// Mail hosts that a text names for no other reason than an address, and how they are mistyped.
const TELLING: &str = "gmail|gmai|gmal|gmial|gimail|gamil|hotmail|hotmai|hotmial|hotmal|hormail|outlook|outlok|\
    yahoo|yaho|yahooo|icloud|protonmail|ymail|rocketmail";
/// Mail hosts whose names end other names too.
const OTHERS: &str = "live|msn|aol|prodigy|uol|bol|terra|ig|globo|zoho|proton|mail|gmx|fibertel|speedy|arnet|\
    ciudad|vtr|une|etb|latinmail|infinitum";

static DOMAIN: LazyLock<Regex> = LazyLock::new(|| {
    let label = r"[\p{L}\p{N}][\p{L}\p{N}-]*";
    let open = r#"(?: ?[\[({<*"'/-] ?| )"#;
    let close = r#"(?: ?[\])}>*"'/-] ?| )"#;
    let spelt = format!(r"{open}?(?:punto|ponto|dot|pto|point){close}?");
    let loose = format!(r"(?:{spelt}|{open}\.{close}?| ?, ?| ?\. ?)");
    compiled(&format!(
        r"^[ \n]{{0,2}}\.?({label}(?:\.{label})*)((?:{spelt}{label}){{0,2}}(?:{loose}(?:{ENDS})\b){{1,3}})?"
    ))
});
static APART: LazyLock<Regex> = LazyLock::new(|| compiled(r"^ ?(?:[\p{L}\p{N}.-] ){4,60}[\p{L}\p{N}]?"));
static END: LazyLock<Regex> = LazyLock::new(|| compiled(&format!(r"^(?:{ENDS})$")));
static HOST: LazyLock<Regex> = LazyLock::new(|| {
    compiled(&format!(r"^(?:{TELLING}|{OTHERS})(?:$|[.,]|com$| ?[^a-z0-9@ ]?(?:punto|ponto|dot|\.))"))
});
static BARE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(&format!(
        r"(?:{TELLING}|{OTHERS})(?:\.| ?[\[(]?\bpunto\b[\])]? ?)(?:(?:com|net)(?:\.(?:ar|br|co|mx|pe|ve|ec|uy|cl|py|bo)\b)?|es|co|cl|ar|mx)\b"
    ))
});
static TELLING_HOST: LazyLock<Regex> = LazyLock::new(|| compiled(&format!("^(?:{TELLING})")));

/// A domain in the text.
pub(super) struct Domain {
    /// Its end.
    pub(super) end: usize,
    /// True if it has labels at all, with a dot in some form between them.
    pub(super) has_dot: bool,
    /// True if its dots are words.
    pub(super) is_spelt: bool,
    /// True if its last label is a known one.
    pub(super) has_known_end: bool,
    /// True if everybody has addresses there.
    pub(super) is_mail_host: bool,
}

/// Returns whether a folded text begins with a mail host.
pub(super) fn is_mail_host(text: &str) -> bool {
    HOST.is_match(text)
}

/// Returns whether the mail host at a place is one that no other name ends with.
pub(super) fn is_telling(view: &View<'_>, at: usize) -> bool {
    TELLING_HOST.is_match(view.ahead(at, 16))
}

/// Mail hosts with their endings, wherever they stand.
pub(super) fn bare(view: &View<'_>) -> Vec<Range<usize>> {
    BARE.find_iter(view.text()).map(|host| host.range()).collect()
}

/// Longest domain that is read (RFC 1035, 2.3.4, with room for spelt dots).
const LONGEST: usize = 280;

/// The domain that begins at a place.
pub(super) fn domain(view: &View<'_>, at: usize) -> Option<Domain> {
    let ahead = view.ahead(at, LONGEST);
    // First: the other pattern would take the first letter alone for a host.
    if let Some(letters) = APART.find(ahead) {
        return apart(at, letters.as_str());
    }
    let found = DOMAIN.captures(ahead)?;
    let tight = found.get(1)?;
    let loose = found.get(2).filter(|_| tight.len() > 1);
    let start = at + tight.start();
    let tight_end = tight_end(view, start, tight.as_str());
    let is_mail_host = is_mail_host(&ahead[tight.start()..]);
    let last = view.text()[start..tight_end].rsplit('.').next().unwrap_or_default();
    let tight_has_end = tight.as_str().contains('.') && END.is_match(last);
    // What is cut off begins the next sentence, so nothing behind it belongs to the domain.
    let cut = tight_end < start + tight.len();
    let loose = loose.filter(|loose| {
        let text = loose.as_str();
        !cut && (!tight_has_end || !text.starts_with([',', '.'])) && !sentence(text, tight_has_end)
    });
    Some(Domain {
        end: loose.map_or(tight_end, |loose| at + loose.end()),
        has_dot: loose.is_some() || view.text()[start..tight_end].contains('.'),
        is_spelt: loose
            .is_some_and(|loose| loose.as_str().contains(char::is_alphabetic) && spelt(loose.as_str())),
        // The pattern of a loose part ends in a known ending.
        has_known_end: loose.is_some() || tight_has_end,
        is_mail_host,
    })
}

fn spelt(loose: &str) -> bool {
    ["punto", "ponto", "dot", "pto", "point"].iter().any(|word| loose.contains(word))
}

/// "yahoo.com . br" goes on; "yahoo.com, co" and "yahoo.com. Net" do not.
fn sentence(loose: &str, ended: bool) -> bool {
    ended && !loose.trim_start().starts_with(['.', '[', '(', '{']) && !spelt(loose)
}

/// End of the domain where the sentence is glued to it: `gmail.com-Tel`, `gmail.comEnviar`,
/// `gmail.com.Enviar`.
fn tight_end(view: &View<'_>, start: usize, tight: &str) -> usize {
    let mut at = start;
    let mut ended = false;
    for (index, label) in tight.split('.').enumerate() {
        if ended
            && !END.is_match(label)
            && label.chars().count() > 2
            && glued_ending(view, at, label).is_none()
        {
            return at - 1;
        }
        if index > 0
            && let Some(length) = glued_ending(view, at, label)
        {
            return at + length;
        }
        ended = index > 0 && END.is_match(label);
        at += label.len() + 1;
    }
    start + tight.len()
}

/// The length of a known ending with which a label begins, where a hyphen, a digit or a capital
/// follows it.
fn glued_ending(view: &View<'_>, at: usize, label: &str) -> Option<usize> {
    (2..label.len()).find(|end| {
        label.is_char_boundary(*end) && turns(view, at + *end, &label[*end..]) && END.is_match(&label[..*end])
    })
}

/// Returns whether the rest of a label begins something else: a sign, a digit or a capital.
fn turns(view: &View<'_>, at: usize, rest: &str) -> bool {
    let word = view.is_upper(at) && rest.chars().nth(1).is_some() && !view.is_upper(at + 1);
    rest.chars().next().is_some_and(|next| !next.is_alphabetic()) || word
}

/// A domain whose letters stand apart: up to the ending that its letters make.
fn apart(at: usize, letters: &str) -> Option<Domain> {
    let compact: Vec<(usize, char)> =
        letters.char_indices().filter(|(_, character)| *character != ' ').collect();
    let text: String = compact.iter().map(|(_, character)| *character).collect();
    let labels: Vec<&str> = text.split('.').collect();
    let mut count = labels.first()?.chars().count();
    let mut ended = false;
    for label in &labels[1..] {
        let end =
            // The longest, since `com` begins with `co`.
            (2..=label.len()).rev().find(|end| label.is_char_boundary(*end) && END.is_match(&label[..*end]));
        match end {
            Some(end) => count += 1 + end,
            None if ended => break,
            None => count += 1 + label.chars().count(),
        }
        ended |= end.is_some();
        if end.is_some_and(|end| end < label.len()) {
            break;
        }
    }
    let (last, character) = compact.get(count.checked_sub(1)?)?;
    let end = at + last + character.len_utf8();
    ended.then(|| Domain {
        end,
        has_dot: true,
        is_spelt: false,
        has_known_end: true,
        is_mail_host: is_mail_host(&text),
    })
}
