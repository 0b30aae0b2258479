//! Bank accounts, cards and payment keys: behind their labels, or bare when their check digits
//! tell.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    Found, Kind, Words, check, compiled,
    label::{Label, labels},
    number::{Number, skip, written_at},
    veto,
    view::View,
    words,
};

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"\b(?:(?:numero|no\.|nro\.|n°) de cuenta|cuentas?(?: ?rut| corriente| vista| de ahorros?| ahorros?| bancarias?| maestra| de nomina| interbancaria| iban)?|cta\.?s?(?: ?\.?(?:cte|ahorros?|vista|rut)\.?)?|conta(?: (?:corrente|poupanca|salario|de pagamento))?|ag(?:encia|\.)|c/c|poupanca|cajas? de ahorros?|chequera electronica|ahorros|ahorro a la mano|c\.?b\.?u\.?|c\.?v\.?u\.?|c\.?c\.?i\.?|clabe|codigo de cuenta interbancari[oa]|spei|tarjetas?(?: de (?:debito|credito|nomina))?|cartao(?: de (?:debito|credito))?|nequi|daviplata|transfiya|bre-?b|llave|yape|plin|tunki|bizum|(?:chave )?pix|chave(?: aleatoria)?|mercado ?pago|alias|iban|sinpe(?: movil)?|tigo money|zelle|movii|rappipay|dale!?)",
    )
});

/// Banks and other words between a label and its number.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    words(
        "ahorro ahorros corriente vista bancaria rut cbu cvu clabe interbancaria interbancario iban cci \
        cuenta cta cte tarjeta debito credito nomina pesos soles dolares en banco bancolombia davivienda \
        bbva bancomer banorte santander bcp interbank scotiabank bogota estado bancoestado chile nacion \
        galicia macro itau bradesco caixa nubank nu hsbc banamex citibanamex azteca av villas colpatria \
        popular occidente caja social bci falabella pichincha agrario brasil inter cpf cnpj celular telefone \
        telefono movil aleatoria corrente poupanca coppel oxxo mp",
    )
});

/// Finds accounts behind labels, and IBANs wherever they stand.
pub(super) fn find(view: &View<'_>, found: &mut Found) {
    for iban in IBAN.find_iter(view.text()) {
        found.extend(iban_at(view, iban.range()).map(|range| (range, Kind::Account)));
    }
    for label in labels(view, &LABEL) {
        found.extend(labelled(view, &label).map(|range| (range, Kind::Account)));
    }
}

/// The number or key behind a label.
fn labelled(view: &View<'_>, label: &Label<'_>) -> Option<Range<usize>> {
    let name = label.name.as_str();
    let at = label.value(&WORDS);
    let between = &view.text()[label.range.end..at];
    if name == "alias" {
        return alias(view, at);
    }
    if matches!(name, "pix" | "chave pix" | "chave" | "chave aleatoria" | "llave" | "bre-b" | "breb")
        && let Some(key) = random_key(view, at)
    {
        return Some(key);
    }
    // "la empresa cuenta con 1200000000": a verb.
    let verb = matches!(name, "cuenta" | "cuentas" | "conta")
        && between.split_whitespace().any(|word| word == "con");
    let plus = usize::from(view.byte(at) == b'+');
    let bracket = usize::from(view.byte_before(at) == b'(');
    let (least, most) = lengths(name, between);
    let number = if bracket + plus > 0 || is_wallet(name) {
        wallet_number(view, at + plus, most)?
    } else {
        written_at(view, at, most)?
    };
    let short =
        number.digits.len() < least && !(number.digits.len() + 1 >= 5 && is_suffixed(view, &number, name));
    let odd = verb
        || short
        || veto::is_date(&number.digits, &number.lengths())
        || veto::is_counted(view, number.range.end);
    let end = number.range.end + suffix(view, number.range.end);
    let closed = view.text()[at..end].contains(')');
    (!odd && !view.byte(end).is_ascii_alphanumeric()).then_some(at - bracket * usize::from(closed)..end)
}

/// Brazilian accounts are short and end in a digit behind a hyphen.
fn is_suffixed(view: &View<'_>, number: &Number, name: &str) -> bool {
    let brazilian = name.starts_with("conta") || matches!(name, "c/c" | "poupanca" | "ag" | "agencia");
    let count = number.groups.len();
    let hyphen = count > 1 && number.gap(view, count - 1) == "-" && number.groups[count - 1].len() == 1;
    brazilian && (hyphen || suffix(view, number.range.end) > 0)
}

/// `-x` or `-k` behind an account.
fn suffix(view: &View<'_>, end: usize) -> usize {
    let letter = view.byte(end) == b'-' && matches!(view.byte(end + 1), b'x' | b'k');
    if letter && !view.byte(end + 2).is_ascii_alphanumeric() { 2 } else { 0 }
}

fn is_wallet(name: &str) -> bool {
    let wallets = [
        "nequi",
        "daviplata",
        "transfiya",
        "yape",
        "plin",
        "tunki",
        "bizum",
        "pix",
        "chave pix",
        "sinpe",
        "sinpe movil",
        "zelle",
        "tigo money",
        "movii",
        "rappipay",
        "llave",
        "bre-b",
        "breb",
        "mercado pago",
        "mercadopago",
    ];
    wallets.contains(&name)
}

/// Fewest and most digits behind a label: those of the published forms (CLABE 18, CBU and CVU 22,
/// CCI 20, cards 13 to 19), with room for cut ones; the others are not tuned.
fn lengths(name: &str, between: &str) -> (usize, usize) {
    let rut = name.ends_with("rut") || between.contains("rut");
    let pointed = between.contains([':', '#', '°']) || between.len() > 3;
    match name {
        "clabe" | "spei" => (10, 18),
        "cbu" | "cvu" => (18, 22),
        "cci" | "codigo de cuenta interbancario" | "codigo de cuenta interbancaria" => (14, 20),
        _ if name.starts_with("tarjeta") || name.starts_with("cartao") => (13, 19),
        _ if is_wallet(name) => (8, 14),
        // More than any branch has: it counts only with the suffix of an account.
        "ag" | "agencia" => (20, 20),
        _ if rut => (7, 10),
        "cuenta" | "cuentas" | "conta" | "ahorros" | "iban" => (if pointed { 8 } else { 10 }, 22),
        _ => (7, 22),
    }
}

/// A number as telephones are written, brackets and all.
fn wallet_number(view: &View<'_>, at: usize, most: usize) -> Option<Number> {
    let number = written_at(view, at, most)?;
    let behind = skip(view, number.range.end, b") -", 3);
    match written_at(view, behind, most - number.digits.len()) {
        Some(rest) if behind > number.range.end && view.text()[number.range.end..behind].contains(')') => {
            let digits = number.digits + &rest.digits;
            let groups = number.groups.into_iter().chain(rest.groups).collect();
            Some(Number { range: number.range.start..rest.range.end, digits, groups })
        }
        _ => Some(number),
    }
}

/// A UUID, the random key of Pix, or a word behind `@`, that of Bre-B.
fn random_key(view: &View<'_>, at: usize) -> Option<Range<usize>> {
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        compiled(r"^(?:[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|@[a-z0-9]{3,20})")
    });
    Some(at..at + KEY.find(view.ahead(at, 40))?.len())
}

/// The alias of an Argentine account: 6 to 20 letters, digits, dots and hyphens (Banco Central,
/// Comunicación "A" 6044), known here by its dots or capitals.
fn alias(view: &View<'_>, at: usize) -> Option<Range<usize>> {
    static ALIAS: LazyLock<Regex> = LazyLock::new(|| compiled(r"^[a-z0-9]+(?:[.-][a-z0-9]+){0,4}"));
    let length = ALIAS.find(view.ahead(at, 32))?.len();
    let text = &view.text()[at..at + length];
    let capitals =
        (at..at + length).filter(|at| view.byte(*at).is_ascii_lowercase()).all(|at| view.is_upper(at));
    let shaped = text.contains('.') || text.matches('-').count() > 1 || (capitals && text.len() >= 8);
    // What ends like a web address is one.
    ((6..=22).contains(&length) && shaped && !text.ends_with(".com")).then_some(at..at + length)
}

static IBAN: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?"));

/// An IBAN that begins at a match: as long as its country has it, with right digits.
fn iban_at(view: &View<'_>, range: Range<usize>) -> Option<Range<usize>> {
    let wanted = check::iban_length(&view.text()[range.start..range.start + 2])?;
    let start = range.start;
    let mut compact = String::new();
    for at in range {
        let byte = view.byte(at);
        if byte.is_ascii_alphanumeric() {
            compact.push(char::from(byte));
        }
        // The pattern may have run on into the next word; the country's length ends it.
        if compact.len() == wanted {
            let ended = !view.byte(at + 1).is_ascii_alphanumeric();
            return (ended && check::iban(&compact)).then_some(start..at + 1);
        }
    }
    None
}

/// The account that a bare number is, by its length and check digits.
pub(super) fn bare(view: &View<'_>, number: &Number) -> Option<(Range<usize>, Kind)> {
    let digits = number.digits.as_str();
    let lengths = number.lengths();
    let blocks = lengths.len() == 1 || number.is_parted_by(view, " -");
    let fits = match digits.len() {
        22 => check::cbu(digits),
        20 => check::cci(digits),
        18 => check::clabe(digits),
        // Luhn alone is right for one number in ten: a card stands in fours.
        15 | 16 => {
            matches!(lengths.as_slice(), [4, 4, 4, 4] | [4, 6, 5])
                && check::luhn(digits)
                && digits.starts_with(['3', '4', '5', '6'])
        }
        _ => false,
    };
    (blocks && fits).then(|| (number.range.clone(), Kind::Account))
}
