//! Invented numbers of every document, with the right check digits and without separators.

use fastrand::Rng;

use crate::{check_digits, layout::digits, people::pick};

fn letters(rng: &mut Rng, count: usize, alphabet: &str) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    (0..count).map(|_| alphabet[rng.usize(..alphabet.len())]).collect()
}

const CONSONANTS: &str = "BCDFGHJKLMNPQRSTVWXYZ";
const VOWELS: &str = "AEIOU";
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// A date of birth or founding as Mexican keys hold it: `yymmdd`.
fn date(rng: &mut Rng) -> String {
    format!("{:02}{:02}{:02}", rng.u8(60..100), rng.u8(1..13), rng.u8(1..29))
}

/// A Colombian cédula of ten digits.
pub(crate) fn cedula(rng: &mut Rng) -> String {
    digits(rng, "10_______9")
}

/// A Colombian cédula of eight digits, as older people have.
pub(crate) fn old_cedula(rng: &mut Rng) -> String {
    digits(rng, "52______")
}

/// A foreigner's identity card of Colombia: six digits.
pub(crate) fn foreigner_co(rng: &mut Rng) -> String {
    digits(rng, "3_____")
}

/// A temporary protection permit of Colombia: seven digits.
pub(crate) fn permit(rng: &mut Rng) -> String {
    digits(rng, "5______")
}

/// A Colombian passport: two letters and six digits.
pub(crate) fn passport(rng: &mut Rng) -> String {
    letters(rng, 2, CONSONANTS) + &digits(rng, "______")
}

/// A Mexican passport: a letter and eight digits.
pub(crate) fn passport_mx(rng: &mut Rng) -> String {
    digits(rng, "G________")
}

/// An Argentine passport: three letters and six digits.
pub(crate) fn passport_ar(rng: &mut Rng) -> String {
    digits(rng, "AA") + &letters(rng, 1, CONSONANTS) + &digits(rng, "______")
}

/// A Peruvian passport: nine digits.
pub(crate) fn passport_pe(rng: &mut Rng) -> String {
    digits(rng, "11_______")
}

/// The thirteen digits that machines read on the back of an INE card.
pub(crate) fn ocr(rng: &mut Rng) -> String {
    digits(rng, "0____________")
}

/// A CURP.
pub(crate) fn curp(rng: &mut Rng) -> String {
    const STATES: [&str; 8] = ["DF", "JC", "NL", "MC", "PL", "VZ", "GT", "QT"];
    let body = [
        letters(rng, 1, CONSONANTS),
        letters(rng, 1, VOWELS),
        letters(rng, 2, CONSONANTS),
        date(rng),
        letters(rng, 1, "HM"),
        pick(rng, &STATES).to_owned(),
        letters(rng, 3, CONSONANTS),
        "0".to_owned(),
    ]
    .concat();
    let check = check_digits::curp(&body);
    format!("{body}{check}")
}

/// The voter's key of Mexico's INE: six consonants, date, state, sex, three digits.
pub(crate) fn voter_key(rng: &mut Rng) -> String {
    let state = rng.u8(1..33);
    letters(rng, 6, CONSONANTS)
        + &date(rng)
        + &format!("{state:02}")
        + &letters(rng, 1, "HM")
        + &digits(rng, "_00")
}

/// A Mexican social security number.
pub(crate) fn nss(rng: &mut Rng) -> String {
    let body = digits(rng, "__________");
    format!("{body}{}", check_digits::luhn(&body))
}

/// An Argentine DNI of eight digits.
pub(crate) fn dni(rng: &mut Rng) -> String {
    digits(rng, "3_______")
}

/// An Argentine civic booklet: seven digits.
pub(crate) fn booklet(rng: &mut Rng) -> String {
    digits(rng, "5______")
}

/// A RUN of Chile: eight digits and the check character.
pub(crate) fn run(rng: &mut Rng) -> String {
    with_rut_digit(digits(rng, "1_______"))
}

/// A RUN of seven digits and the check character.
pub(crate) fn short_run(rng: &mut Rng) -> String {
    with_rut_digit(digits(rng, "9______"))
}

/// A RUN whose check character is `K`.
pub(crate) fn run_k(rng: &mut Rng) -> String {
    std::iter::repeat_with(|| run(rng)).find(|run| run.ends_with('K')).expect("one in eleven ends in K")
}

/// A company's RUT: they begin at 50 million.
pub(crate) fn company_rut(rng: &mut Rng) -> String {
    with_rut_digit(digits(rng, "7_______"))
}

fn with_rut_digit(body: String) -> String {
    format!("{body}{}", check_digits::rut(&body))
}

/// A Peruvian DNI.
pub(crate) fn dni_pe(rng: &mut Rng) -> String {
    digits(rng, "4_______")
}

/// A Peruvian DNI with a ninth digit, as the card prints it; the digit is any.
pub(crate) fn long_dni_pe(rng: &mut Rng) -> String {
    digits(rng, "4________")
}

/// A foreigner's card of Peru: nine digits.
pub(crate) fn foreigner_pe(rng: &mut Rng) -> String {
    digits(rng, "00_______")
}

/// A CPF.
pub(crate) fn cpf(rng: &mut Rng) -> String {
    let body = digits(rng, "_________");
    let check = check_digits::cpf(&body);
    body + &check
}

/// A Brazilian RG as São Paulo numbers them; the states share no rule for the last digit.
pub(crate) fn rg(rng: &mut Rng) -> String {
    digits(rng, "2________")
}

/// A PIS, PASEP or NIS.
pub(crate) fn pis(rng: &mut Rng) -> String {
    let body = digits(rng, "12________");
    format!("{body}{}", check_digits::pis(&body))
}

/// Eleven digits: a driver's licence of Brazil.
pub(crate) fn licence_br(rng: &mut Rng) -> String {
    digits(rng, "0__________")
}

/// A company's NIT with its check digit.
pub(crate) fn nit(rng: &mut Rng) -> String {
    with_nit_digit(digits(rng, "90_______"))
}

/// The NIT of a natural person, made from an eight-digit cédula.
pub(crate) fn person_nit(rng: &mut Rng) -> String {
    with_nit_digit(old_cedula(rng))
}

fn with_nit_digit(body: String) -> String {
    format!("{body}{}", check_digits::nit(&body))
}

/// A person's RFC.
pub(crate) fn rfc(rng: &mut Rng) -> String {
    let initials =
        [letters(rng, 1, CONSONANTS), letters(rng, 1, VOWELS), letters(rng, 2, CONSONANTS)].concat();
    with_rfc_digit(initials + &date(rng) + &letters(rng, 2, ALPHANUMERIC))
}

/// A company's RFC.
pub(crate) fn company_rfc(rng: &mut Rng) -> String {
    with_rfc_digit(letters(rng, 3, CONSONANTS) + &date(rng) + &letters(rng, 2, ALPHANUMERIC))
}

/// A company's RFC with an ampersand in its name.
pub(crate) fn ampersand_rfc(rng: &mut Rng) -> String {
    let initials = letters(rng, 1, CONSONANTS) + "&" + &letters(rng, 1, CONSONANTS);
    with_rfc_digit(initials + &date(rng) + &letters(rng, 2, ALPHANUMERIC))
}

fn with_rfc_digit(body: String) -> String {
    format!("{body}{}", check_digits::rfc(&body))
}

/// A person's CUIT or CUIL.
pub(crate) fn cuit(rng: &mut Rng) -> String {
    cuit_with_prefix(rng, ["20", "23", "24", "27"])
}

/// A company's CUIT.
pub(crate) fn company_cuit(rng: &mut Rng) -> String {
    cuit_with_prefix(rng, ["30", "30", "33", "34"])
}

fn cuit_with_prefix(rng: &mut Rng, prefixes: [&str; 4]) -> String {
    loop {
        let body = pick(rng, &prefixes).to_owned() + &digits(rng, "________");
        if let Some(check) = check_digits::cuit(&body) {
            return format!("{body}{check}");
        }
    }
}

/// A company's RUC.
pub(crate) fn ruc(rng: &mut Rng) -> String {
    with_ruc_digit(digits(rng, "20________"))
}

/// A natural person's RUC, which holds the DNI.
pub(crate) fn person_ruc(rng: &mut Rng) -> String {
    with_ruc_digit("10".to_owned() + &dni_pe(rng))
}

fn with_ruc_digit(body: String) -> String {
    format!("{body}{}", check_digits::ruc(&body))
}

/// A CNPJ of digits alone.
pub(crate) fn cnpj(rng: &mut Rng) -> String {
    let body = digits(rng, "________0001");
    let check = check_digits::cnpj(&body);
    body + &check
}

/// A CNPJ with letters, as numbered since July 2026.
pub(crate) fn lettered_cnpj(rng: &mut Rng) -> String {
    let body = digits(rng, "1_")
        + &letters(rng, 3, CONSONANTS)
        + &digits(rng, "___01")
        + &letters(rng, 2, CONSONANTS);
    let check = check_digits::cnpj(&body);
    body + &check
}

/// A CBU: a bank's block and an account's block, each with its digit.
pub(crate) fn cbu(rng: &mut Rng) -> String {
    let banks = ["011", "014", "017", "072", "285"];
    let bank = pick(rng, &banks).to_owned() + &digits(rng, "____");
    with_cbu_digits(&bank, &digits(rng, "400_________0"))
}

/// A CVU, the CBU of a virtual wallet: the bank is 000.
pub(crate) fn cvu(rng: &mut Rng) -> String {
    with_cbu_digits("0000003", &digits(rng, "1000_________"))
}

fn with_cbu_digits(bank: &str, account: &str) -> String {
    format!("{bank}{}{account}{}", check_digits::cbu_block(bank), check_digits::cbu_block(account))
}

/// A CLABE of one of the large banks.
pub(crate) fn clabe(rng: &mut Rng) -> String {
    let banks = ["002", "012", "014", "021", "032", "072"];
    let body = pick(rng, &banks).to_owned() + &digits(rng, "180___________");
    format!("{body}{}", check_digits::clabe(&body))
}

/// A payment card of sixteen digits.
pub(crate) fn card(rng: &mut Rng) -> String {
    let body = digits(rng, "4152313________");
    format!("{body}{}", check_digits::luhn(&body))
}

/// A Peruvian CCI: bank, office, account and their two check digits.
pub(crate) fn cci(rng: &mut Rng) -> String {
    let banks = ["002", "003", "009", "011"];
    let office = pick(rng, &banks).to_owned() + &digits(rng, "1__");
    let account = digits(rng, "00__________");
    format!("{office}{account}{}{}", check_digits::luhn(&office), check_digits::luhn(&account))
}

/// A random payment key of Brazil's Pix: a UUID of version 4 without hyphens.
pub(crate) fn pix_key(rng: &mut Rng) -> String {
    let hex = |rng: &mut Rng, count| letters(rng, count, "0123456789abcdef");
    hex(rng, 12) + "4" + &hex(rng, 3) + "a" + &hex(rng, 15)
}

/// An IBAN of Brazil: bank, branch, account, kind and owner.
pub(crate) fn iban_br(rng: &mut Rng) -> String {
    with_iban_digits("BR", digits(rng, "0036030500001__________C1"))
}

/// An IBAN of Spain; the two digits of the older CCC inside it are any.
pub(crate) fn iban_es(rng: &mut Rng) -> String {
    with_iban_digits("ES", digits(rng, "2100________________"))
}

/// An IBAN of Costa Rica.
pub(crate) fn iban_cr(rng: &mut Rng) -> String {
    with_iban_digits("CR", digits(rng, "0152______________"))
}

/// An IBAN of the Dominican Republic.
pub(crate) fn iban_do(rng: &mut Rng) -> String {
    with_iban_digits("DO", digits(rng, "BAGR0000000_____________"))
}

/// An IBAN of El Salvador.
pub(crate) fn iban_sv(rng: &mut Rng) -> String {
    with_iban_digits("SV", digits(rng, "CENR0000000_____________"))
}

/// An IBAN of Guatemala.
pub(crate) fn iban_gt(rng: &mut Rng) -> String {
    with_iban_digits("GT", digits(rng, "TRAJ0102000000__________"))
}

fn with_iban_digits(country: &str, account: String) -> String {
    format!("{country}{}{account}", check_digits::iban(country, &account))
}

#[test]
fn numbers_have_their_lengths() {
    use crate::layout::Draw;

    let lengths: [(Draw, usize); 22] = [
        (curp, 18),
        (voter_key, 18),
        (nss, 11),
        (run, 9),
        (cpf, 11),
        (pis, 11),
        (nit, 10),
        (rfc, 13),
        (company_rfc, 12),
        (cuit, 11),
        (ruc, 11),
        (cnpj, 14),
        (lettered_cnpj, 14),
        (cbu, 22),
        (clabe, 18),
        (cci, 20),
        (iban_br, 29),
        (iban_es, 24),
        (iban_cr, 22),
        (iban_do, 28),
        (iban_sv, 28),
        (iban_gt, 28),
    ];
    let mut rng = Rng::with_seed(5);
    for (draw, length) in lengths {
        let number = draw(&mut rng);
        assert_eq!(number.chars().count(), length, "{number}");
    }
}
