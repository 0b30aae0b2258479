//! Telephone numbers, and the other bare numbers that their own form gives away.
//!
//! Weighs the words around a number against its form: the plainer the form, the more the words must
//! say. Amounts, dates, codes and numbers of other things stay.

mod plan;
mod spelt;

use std::{ops::Range, sync::LazyLock};

use super::{
    Found, Kind, Words, account, identity,
    number::{Number, runs},
    veto,
    view::{View, Word, barrier},
    words,
};

/// Words that a telephone number follows at once.
static STRONG: LazyLock<Words> = LazyLock::new(|| {
    words(
        "tel tels telf telfs telef telefono telefonos telefone telefones tfno tfn tlf tlfn tlfno fono fonos \
        fone fones fijo fijos fixo cel cels celu celular celulares movil moviles movel mob whatsapp whatsap \
        whatssap whatapp whasapp watsapp watsap wasap guasap whats wats wasapp wsp wpp wp wa wapp wap wsap \
        zap zapzap pbx conmutador phone mobile rpc rpm sms",
    )
});

/// Words that say that one may call or write to what comes.
static WEAK: LazyLock<Words> = LazyLock::new(|| {
    words(
        "llamar llama llamanos llamame llame llamen llamando llamada llamadas marcar marca marque comunicarse \
        comunicate comunicarte comunicar comuniquese comunicarme contacto contactos contactar contactarse \
        contactate contactanos contactenos contate contato contatos contatar telefonico telefonicos \
        telefonica linea lineas linha central ligar ligue ligando liga informes informacion informaciones \
        info consultas call mensaje mensajes escribir escribenos escribinos escribe escribi escribeme \
        escriba escribanos escribirnos escribele mandar manda mande mandanos mandame enviar envia envie \
        envianos audio texto agenda agendar interesados interesadas interessados extension atencion chatear",
    )
});

/// Words behind a number that make it a telephone number.
static BEHIND: LazyLock<Words> = LazyLock::new(|| {
    words("ext extension anexo anx interno int ramal whatsapp whats wsp wpp wp cel celular zap movil")
});

/// Strength of the words around a number as a hint that it is a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cue {
    /// They say that it is something else.
    Against,
    /// They say nothing.
    None,
    /// They speak of calling.
    Weak,
    /// "Tel." stands right before it.
    Strong,
}

/// Finds telephone numbers, and papers and accounts without a label.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    for run in runs(view) {
        let mut first = 0;
        while first < run.groups.len() {
            // Papers first: a check digit says more than the form of a telephone number.
            let next = paper_at(view, &run, first, found).or_else(|| phone_at(view, &run, first, found));
            first = next.unwrap_or(first + 1);
        }
    }
    spelt::find(view, found);
}

/// Most groups that one number has: a telephone number has at most 15 digits (ITU-T E.164), and
/// they may stand apart.
const MOST_GROUPS: usize = 15;

/// A paper or an account that begins with a group; gives the group behind it.
fn paper_at(view: &View<'_>, run: &Number, first: usize, found: &mut Found) -> Option<usize> {
    let start = run.groups[first].start;
    if !view.has_bare_numbers() && run.groups.len() == 1 {
        return None;
    }
    if veto::is_attached(view, start) && !behind_sign(view, start) {
        return None;
    }
    let last = run.groups.len().min(first + 8);
    // The longest first: of a shorter one the rest would stay in the text.
    for end in (first + 1..=last).rev() {
        // No paper or account that is known without a label has another length.
        if !matches!(run.count(first..end), 8..=11 | 14..=16 | 18 | 20 | 22) {
            continue;
        }
        let number = run.part(view, first..end)?;
        let paper = account::bare(view, &number).or_else(|| identity::bare(view, &number));
        if let Some((range, kind)) = paper
            && !ends_attached(view, range.end)
            && !(is_plain(&number) && veto::stands(view, start, 2))
            && !veto::is_counted(view, range.end)
        {
            found.push((range, kind));
            return Some(end);
        }
    }
    None
}

/// Returns whether a number has too few signs to be told by its form: then a word before it counts
/// more.
fn is_plain(number: &Number) -> bool {
    number.groups.len() < 3
}

/// `:` and brackets may stand right before a number, and so may the hyphen of a list.
fn behind_sign(view: &View<'_>, start: usize) -> bool {
    matches!(view.byte_before(start), b'-' | b',')
        && matches!(view.byte_before(start.saturating_sub(1)), b'\n' | b' ')
}

fn ends_attached(view: &View<'_>, end: usize) -> bool {
    let next = view.byte(end);
    next.is_ascii_alphanumeric()
        || matches!(next, b'%' | b'_')
        || (next == b'-' && view.byte(end + 1).is_ascii_alphanumeric())
}

/// A telephone number that begins with a group; gives the group behind it.
fn phone_at(view: &View<'_>, run: &Number, first: usize, found: &mut Found) -> Option<usize> {
    let start = run.groups[first].start;
    let lead = lead(view, start);
    let listed = follows_phone(view, start - lead, found);
    let cue = if listed { Cue::Weak } else { cue(view, start - lead) };
    if cue == Cue::Against || (!listed && begins_attached(view, start - lead, cue)) {
        return None;
    }
    let last = next_number(view, run, first).min(first + MOST_GROUPS);
    for end in (first + 1..=last).rev() {
        if !(6..=15).contains(&run.count(first..end)) {
            continue;
        }
        let number = run.part(view, first..end)?;
        let behind = number.range.end;
        let cue = cue.max(cue_behind(view, behind));
        if is_phone(view, &number, lead, cue) {
            let opens = view.text()[start - lead..start].contains('(');
            let closed = view.text()[start..behind].contains(')');
            // A bracket around the whole number stays.
            let bracket = usize::from(opens && !closed && view.byte(start - lead) == b'(');
            let open = view.text()[start - lead..behind].matches('(').count();
            let last = usize::from(open > 1 && view.byte(behind) == b')');
            found.push((start - lead + bracket..behind + last, Kind::Phone));
            return Some(end);
        }
    }
    None
}

/// The group with which the next number of a list begins: a whole number stands on either side of
/// the sign.
fn next_number(view: &View<'_>, run: &Number, first: usize) -> usize {
    let most = run.groups.len().min(first + MOST_GROUPS + 7);
    (first + 1..most)
        .find(|index| {
            parts(run.gap(view, *index))
                && run.count(first..*index) >= 7
                && run.count(*index..most.min(index + 7)) >= 7
        })
        .unwrap_or(run.groups.len())
}

/// Returns whether what stands between two groups can part two numbers of a list.
fn parts(gap: &str) -> bool {
    gap.contains(['/', '|', ',', '\n']) || gap.contains(" -") || gap.contains("- ") || gap.contains("  ")
}

/// Number of bytes before the first digit that belong to the number: `+`, `(`, `(0xx`.
fn lead(view: &View<'_>, start: usize) -> usize {
    let before = view.behind(start, 5);
    if let Some(operator) = ["(0xx", "0xx", "(xx"].into_iter().find(|operator| before.ends_with(operator)) {
        return operator.len();
    }
    ["(+ ", "(+", "+(", "+ ", "+", "( ", "("]
        .into_iter()
        .find(|sign| before.ends_with(sign))
        .map_or(0, str::len)
}

/// Returns whether a number continues a list of telephone numbers: `Tel. 4555-2115 / 4555-2116`.
fn follows_phone(view: &View<'_>, start: usize, found: &Found) -> bool {
    let before = view.behind(start, 9);
    let rest = before.trim_end_matches(|sign: char| " /-,;|\n".contains(sign));
    let rest = ["y", "o", "e", "ou", "u", "and"]
        .into_iter()
        .find_map(|word| rest.strip_suffix(&format!(" {word}")))
        .unwrap_or(rest);
    let end = start - before.len() + rest.len();
    end < start
        && (rest.ends_with(barrier(Kind::Phone))
            || found.last().is_some_and(|(range, kind)| *kind == Kind::Phone && range.end == end))
}

/// The hint of the words before a number: the nearest that says anything.
fn cue(view: &View<'_>, start: usize) -> Cue {
    let mut end = start;
    for (index, word) in view.words_before(start, 64).iter().take(9).enumerate() {
        let gap = &view.text()[word.end..end];
        // A new line or sentence is about something else, unless its number stands alone there.
        if index > 0 && (gap.contains('\n') || gap.contains(". ") && !is_short(word)) {
            break;
        }
        if STRONG.contains(word.text) {
            return if index <= 2 { Cue::Strong } else { Cue::Weak };
        }
        if WEAK.contains(word.text) {
            return Cue::Weak;
        }
        if index < 4 && veto::is_name(word.text) && !(word.text == "id" && index > 0) {
            return Cue::Against;
        }
        end = word.start;
    }
    let direct = ["al", "ao"].iter().any(|word| view.behind(start, 4).ends_with(&format!(" {word} ")));
    let numbered =
        view.words_before(start, 10).first().is_some_and(|word| matches!(word.text, "no" | "nro" | "n"));
    match (veto::is_money(view, start) || numbered, direct) {
        (true, _) => Cue::Against,
        (_, true) => Cue::Weak,
        _ => Cue::None,
    }
}

/// An abbreviation, whose full stop ends no sentence.
fn is_short(word: &Word<'_>) -> bool {
    word.text.len() <= 5
}

fn cue_behind(view: &View<'_>, end: usize) -> Cue {
    let words = view.words_after(end, 24);
    let near =
        words.first().filter(|word| word.start <= end + 3 && !view.text()[end..word.start].contains('\n'));
    let word = near.map(|word| match word.text {
        "solo" | "por" | "via" | "al" | "a" => words.get(1).map_or(word.text, |word| word.text),
        other => other,
    });
    if word.is_some_and(|word| BEHIND.contains(word) || STRONG.contains(word)) {
        Cue::Weak
    } else {
        Cue::None
    }
}

/// Returns whether a number goes on from a word, a path or another number, other than from its cue:
/// `cel3155550142`.
fn begins_attached(view: &View<'_>, start: usize, cue: Cue) -> bool {
    if !veto::is_attached(view, start) {
        return false;
    }
    let sign = view.byte_before(start);
    let cued = cue == Cue::Strong
        && (is_cue_before(view, start)
            || (b".-/=".contains(&sign) && is_cue_before(view, start.saturating_sub(1))));
    !(cued || (b"-.,".contains(&sign) && matches!(view.byte_before(start.saturating_sub(1)), b' ' | b'\n')))
}

/// Returns whether a word such as "Tel" ends at a place.
fn is_cue_before(view: &View<'_>, at: usize) -> bool {
    view.words_before(at, 16).first().is_some_and(|word| word.end == at && STRONG.contains(word.text))
}

fn is_phone(view: &View<'_>, number: &Number, lead: usize, cue: Cue) -> bool {
    let Range { start, end } = number.range;
    let lengths = number.lengths();
    let next = view.byte(end);
    let goes_on = next.is_ascii_alphanumeric() || matches!(next, b'%' | b'_' | b'\\');
    let unlike = veto::is_counted(view, end)
        || veto::is_date(&number.digits, &lengths)
        || (lead == 0 && is_amount(view, number, cue))
        || has_decimals(view, end);
    // Digits behind a sign: without a word before it the number is a piece of a longer code.
    let more = matches!(next, b'-' | b'/' | b'.') && view.byte(end + 1).is_ascii_digit();
    if cue == Cue::None && more {
        return false;
    }
    if goes_on && !glued_word(view, end) || (unlike && !plan::is_mobile_by_thousands(&number.digits, cue)) {
        return false;
    }
    let plus = view.text()[start - lead..start].contains('+');
    plan::fits(view, number, plus, lead > 0, cue)
}

/// One to three digits behind a comma or a full stop.
fn has_decimals(view: &View<'_>, end: usize) -> bool {
    let digits = view.bytes().iter().skip(end + 1).take(4).take_while(|byte| byte.is_ascii_digit()).count();
    matches!(view.byte(end), b'.' | b',') && (1..=3).contains(&digits)
}

/// Thousands, unless the words around speak of calling and blanks or hyphens part them.
fn is_amount(view: &View<'_>, number: &Number, cue: Cue) -> bool {
    let mobile_or_abroad = match number.digits.len() {
        9 => number.digits.starts_with(['9', '0', '6']),
        _ => plan::is_abroad(&number.digits, false),
    };
    let called = cue == Cue::Weak && mobile_or_abroad;
    let parted = number.is_parted_by(view, "-()") || (called && number.is_parted_by(view, " "));
    let round = number.digits.ends_with("000") && cue == Cue::None;
    let thousands = veto::is_thousands(&number.lengths());
    // A Peruvian mobile in threes is one even without a word, if it is not round.
    let mobile =
        number.digits.len() == 9 && number.digits.starts_with('9') && number.is_parted_by(view, " -");
    cue != Cue::Strong && thousands && (round || !(parted || mobile))
}

/// A word glued behind a number, as when a line break was lost: `3155550142Enviar`.
fn glued_word(view: &View<'_>, end: usize) -> bool {
    let word =
        view.words_after(end, 24).first().is_some_and(|word| word.start == end && word.text.len() >= 3);
    let begins = view.is_upper(end) && view.byte(end + 1).is_ascii_lowercase() && !view.is_upper(end + 1);
    begins || (word && view.bytes()[end..end + 3].iter().all(u8::is_ascii_lowercase))
}
