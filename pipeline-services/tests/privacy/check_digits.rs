//! Check digits of the identity, tax and account numbers of the region, each from its public rule.

/// The value of a digit or letter, `A` being 10.
fn value(character: char) -> u32 {
    character.to_digit(36).unwrap_or_default()
}

/// The sum of the digits, each times the weight of its place.
fn weighted(digits: &str, weights: &[u32]) -> u32 {
    digits.chars().zip(weights).map(|(digit, weight)| value(digit) * weight).sum()
}

/// The same with the weights counted from the right and begun again when they are used up.
fn weighted_from_right(digits: &str, weights: &[u32]) -> u32 {
    digits.chars().rev().zip(weights.iter().cycle()).map(|(digit, weight)| value(digit) * weight).sum()
}

/// ISO/IEC 7812-1, annex B: payment cards, the Mexican NSS and the two digits of the Peruvian CCI.
pub(crate) fn luhn(digits: &str) -> u32 {
    let doubled = |(place, digit): (usize, char)| match value(digit) * if place % 2 == 0 { 2 } else { 1 } {
        large @ 10.. => large - 9,
        small => small,
    };
    (10 - digits.chars().rev().enumerate().map(doubled).sum::<u32>() % 10) % 10
}

/// Weights of the Argentine CUIT and the Peruvian RUC.
const CUIT_WEIGHTS: [u32; 10] = [5, 4, 3, 2, 7, 6, 5, 4, 3, 2];

/// CUIT and CUIL (AFIP); none where the rule gives 10, which AFIP avoids by another prefix.
pub(crate) fn cuit(ten: &str) -> Option<u32> {
    match 11 - weighted(ten, &CUIT_WEIGHTS) % 11 {
        11 => Some(0),
        10 => None,
        digit => Some(digit),
    }
}

/// RUC (SUNAT).
pub(crate) fn ruc(ten: &str) -> u32 {
    (11 - weighted(ten, &CUIT_WEIGHTS) % 11) % 10
}

/// RUN and RUT (Servicio de Impuestos Internos): modulus 11, `K` for 10.
pub(crate) fn rut(body: &str) -> char {
    match 11 - weighted_from_right(body, &[2, 3, 4, 5, 6, 7]) % 11 {
        11 => '0',
        10 => 'K',
        digit => char::from_digit(digit, 10).unwrap_or_default(),
    }
}

/// NIT (DIAN, Orden Administrativa 4 of 1989): the weights are primes, from the right.
pub(crate) fn nit(body: &str) -> u32 {
    match weighted_from_right(body, &[3, 7, 13, 17, 19, 23, 29, 37, 41, 43, 47, 53, 59, 67, 71]) % 11 {
        small @ 0..=1 => small,
        rest => 11 - rest,
    }
}

/// What a sum gives by the rule of the Receita Federal that CPF, CNPJ and PIS share.
fn receita(sum: u32) -> u32 {
    match sum % 11 {
        0..=1 => 0,
        rest => 11 - rest,
    }
}

/// The two digits of a CPF (Receita Federal).
pub(crate) fn cpf(nine: &str) -> String {
    let first = receita(weighted(nine, &[10, 9, 8, 7, 6, 5, 4, 3, 2]));
    let second = receita(weighted(&format!("{nine}{first}"), &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]));
    format!("{first}{second}")
}

/// The two digits of a CNPJ; letters, allowed since July 2026, count as their ASCII code less 48
/// (Instrução Normativa RFB 2.229/2024).
pub(crate) fn cnpj(twelve: &str) -> String {
    let digit = |body: &str| {
        let weights = [2, 3, 4, 5, 6, 7, 8, 9].into_iter().cycle();
        receita(body.bytes().rev().zip(weights).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum())
    };
    let first = digit(twelve);
    format!("{first}{}", digit(&format!("{twelve}{first}")))
}

/// PIS, PASEP and NIS (Caixa Econômica Federal).
pub(crate) fn pis(ten: &str) -> u32 {
    receita(weighted(ten, &[3, 2, 9, 8, 7, 6, 5, 4, 3, 2]))
}

/// CLABE (Asociación de Bancos de México): every product counts by its last digit.
pub(crate) fn clabe(seventeen: &str) -> u32 {
    let weights = [3, 7, 1].into_iter().cycle();
    (10 - seventeen.chars().zip(weights).map(|(digit, weight)| value(digit) * weight % 10).sum::<u32>() % 10)
        % 10
}

/// One block of a CBU or CVU (Banco Central de la República Argentina, Comunicación "A" 2622).
pub(crate) fn cbu_block(digits: &str) -> u32 {
    (10 - weighted_from_right(digits, &[3, 1, 7, 9]) % 10) % 10
}

/// The two check digits of an IBAN (ISO 13616-1, by ISO/IEC 7064 MOD 97-10).
pub(crate) fn iban(country: &str, account: &str) -> String {
    let rest = format!("{account}{country}00").chars().fold(0, |rest, character| {
        let value = value(character);
        (rest * if value < 10 { 10 } else { 100 } + value) % 97
    });
    format!("{:02}", 98 - rest)
}

/// The last character of an RFC (SAT, the rule for its homoclave): a company's eleven
/// characters count as if a blank stood before them.
pub(crate) fn rfc(body: &str) -> char {
    const ALPHABET: &str = "0123456789ABCDEFGHIJKLMN&OPQRSTUVWXYZ Ñ";
    let place = |character| ALPHABET.chars().position(|other| other == character).unwrap_or_default();
    let sum: usize = format!("{body:>12}")
        .chars()
        .zip((2..=13).rev())
        .map(|(letter, weight)| place(letter) * weight)
        .sum();
    match (11 - sum % 11) % 11 {
        10 => 'A',
        digit => char::from(b'0' + digit as u8),
    }
}

/// The last digit of a CURP (RENAPO, Instructivo normativo para la asignación de la CURP).
pub(crate) fn curp(seventeen: &str) -> usize {
    const ALPHABET: &str = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ";
    let place = |character| ALPHABET.chars().position(|other| other == character).unwrap_or_default();
    let sum: usize =
        seventeen.chars().zip((2..=18).rev()).map(|(letter, weight)| place(letter) * weight).sum();
    (10 - sum % 10) % 10
}

#[test]
fn check_digits_agree_with_published_numbers() {
    assert_eq!(luhn("411111111111111"), 1);
    assert_eq!(luhn("7992739871"), 3);
    assert_eq!((luhn("011366"), luhn("000100032542")), (2, 1), "CCI 011-366-000100032542-21");
    assert_eq!(cuit("2012345678"), Some(6));
    assert_eq!(ruc("2013131295"), 5, "the RUC of SUNAT itself");
    assert_eq!((rut("12345678"), rut("6"), rut("60805000")), ('5', 'K', '0'));
    assert_eq!((nit("900123456"), nit("890903938"), nit("899999068")), (8, 8, 1));
    assert_eq!(cpf("111444777"), "35");
    assert_eq!((cnpj("112223330001"), cnpj("12ABC34501DE")), ("81".to_owned(), "35".to_owned()));
    assert_eq!(pis("1201234567"), 2, "no published number: the sum is 119 by hand");
    assert_eq!(clabe("03218000011835971"), 9);
    assert_eq!((cbu_block("2850590"), cbu_block("4009041813520")), (9, 1));
    assert_eq!((rfc("GODE561231GR"), rfc("SAT970701NN")), ('8', '3'));
    assert_eq!(curp("HEGG560427MVZRRL0"), 4);
}

#[test]
fn iban_digits_agree_with_the_registry() {
    for example in [
        "ES9121000418450200051332",
        "BR1800360305000010009795493C1",
        "CR05015202001026284066",
        "DO28BAGR00000001212453611324",
        "SV62CENR00000000000000700025",
        "GT82TRAJ01020000001210029690",
    ] {
        assert_eq!(iban(&example[..2], &example[4..]), example[2..4], "{example}");
    }
}
