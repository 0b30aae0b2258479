//! Check digits, from the public definitions.
//!
//! Each function takes the characters of one kind of number and says whether they can be one. None
//! of them knows the text around: what a valid number means is decided by the callers.

/// The digits of a text as numbers.
fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|character| character.to_digit(10)).collect()
}

/// The sum of products with weights that repeat, from the left.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights.iter().cycle()).map(|(digit, weight)| digit * weight).sum()
}

/// ISO/IEC 7812-1, annex B: payment cards, also the two halves of a Peruvian CCI and the Mexican
/// NSS.
pub(super) fn luhn(number: &str) -> bool {
    let sum: u32 = digits(number)
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Argentine CUIT and CUIL (ANSES and AFIP: weights 5 4 3 2 7 6 5 4 3 2, modulo 11, 9 for 10, 0 for
/// 11; the prefix tells persons from companies).
pub(super) fn cuit(number: &str) -> bool {
    const PREFIXES: &[&str] = &["20", "23", "24", "25", "26", "27", "30", "33", "34"];
    PREFIXES.iter().any(|prefix| number.starts_with(prefix)) && modulo_eleven(number, [9, 0])
}

/// Peruvian RUC (SUNAT: the same weights, 0 for 10 and 1 for 11; the prefix names the kind of
/// taxpayer).
pub(super) fn ruc(number: &str) -> bool {
    ["10", "15", "16", "17", "20"].iter().any(|prefix| number.starts_with(prefix))
        && modulo_eleven(number, [0, 1])
}

fn modulo_eleven(number: &str, for_ten_and_eleven: [u32; 2]) -> bool {
    let digits = digits(number);
    let [body @ .., check] = digits.as_slice() else { return false };
    let expected = match 11 - weighted(body, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11 {
        10 => for_ten_and_eleven[0],
        11 => for_ten_and_eleven[1],
        other => other,
    };
    body.len() == 10 && expected == *check
}

/// Chilean RUT and RUN (Servicio de Impuestos Internos: weights 2 to 7 from the right, modulo 11,
/// `k` for 10).
pub(super) fn rut(body: &str, check: u8) -> bool {
    let mut digits = digits(body);
    digits.reverse();
    let expected = match 11 - weighted(&digits, &[2, 3, 4, 5, 6, 7]) % 11 {
        11 => b'0',
        10 => b'k',
        other => b'0' + other as u8,
    };
    expected == check
}

/// Colombian NIT (DIAN, Orden Administrativa 4 of 1989: primes as weights from the right, modulo
/// 11).
pub(super) fn nit(body: &str, check: u8) -> bool {
    let mut digits = digits(body);
    digits.reverse();
    let rest = weighted(&digits, &[3, 7, 13, 17, 19, 23, 29, 37, 41, 43, 47, 53, 59, 67, 71]) % 11;
    check == b'0' + if rest > 1 { 11 - rest } else { rest } as u8
}

/// Brazilian CPF (Receita Federal: two digits, weights falling to 2, modulo 11).
pub(super) fn cpf(number: &str) -> bool {
    let digits = digits(number);
    // Equal digits satisfy the check and are issued to nobody.
    let same = digits.windows(2).all(|pair| pair[0] == pair[1]);
    digits.len() == 11 && !same && checks_cpf(&digits, 9) && checks_cpf(&digits, 10)
}

/// Returns whether the digit behind the first `count` checks them.
fn checks_cpf(digits: &[u32], count: usize) -> bool {
    let weights: Vec<u32> = (2..=count as u32 + 1).rev().collect();
    weighted(&digits[..count], &weights) * 10 % 11 % 10 == digits[count]
}

/// Brazilian CNPJ, also with letters (Receita Federal, IN RFB 2.229 of 2024: a character counts as
/// its ASCII code less 48).
pub(super) fn cnpj(number: &str) -> bool {
    let values: Vec<u32> =
        number.bytes().map(|byte| u32::from(byte.to_ascii_uppercase()).saturating_sub(48)).collect();
    let same = values.windows(2).all(|pair| pair[0] == pair[1]);
    values.len() == 14
        && !same
        // The check digits are digits also where the rest holds letters.
        && values[12..].iter().all(|value| *value < 10)
        && checks_cnpj(&values, 12)
        && checks_cnpj(&values, 13)
}

/// Returns whether the value behind the first `count` checks them.
fn checks_cnpj(values: &[u32], count: usize) -> bool {
    let weights: Vec<u32> = (0..count).rev().map(|place| place as u32 % 8 + 2).collect();
    let rest = weighted(&values[..count], &weights) % 11;
    if rest < 2 { values[count] == 0 } else { values[count] == 11 - rest }
}

/// Mexican CLABE (Banco de México, Circular 3/2012: weights 3 7 1, each product modulo 10).
pub(super) fn clabe(number: &str) -> bool {
    let digits = digits(number);
    let sum: u32 = digits.iter().zip([3, 7, 1].iter().cycle()).take(17).map(|(d, w)| d * w % 10).sum();
    digits.len() == 18 && (10 - sum % 10) % 10 == digits[17]
}

/// Argentine CBU and CVU (Banco Central, Comunicación "A" 2622: two blocks, weights 9 7 1 3 to the
/// right end).
pub(super) fn cbu(number: &str) -> bool {
    let digits = digits(number);
    digits.len() == 22 && checks_block(&digits[..8]) && checks_block(&digits[8..])
}

/// Returns whether the last digit of a block of a CBU checks the others.
fn checks_block(block: &[u32]) -> bool {
    let [body @ .., check] = block else { return false };
    let reversed: Vec<u32> = body.iter().rev().copied().collect();
    (10 - weighted(&reversed, &[3, 1, 7, 9]) % 10) % 10 == *check
}

/// Peruvian CCI (Cámara de Compensación Electrónica: one digit for bank and office, one for the
/// account).
pub(super) fn cci(number: &str) -> bool {
    // The two check digits stand together at the end, each for a part of its own.
    number.len() == 20
        && luhn(&format!("{}{}", &number[..6], &number[18..19]))
        && luhn(&format!("{}{}", &number[6..18], &number[19..]))
}

/// Length of an IBAN by country (ISO 13616, the registry of SWIFT).
pub(super) fn iban_length(country: &str) -> Option<usize> {
    const LENGTHS: [(&str, usize); 32] = [
        ("br", 29),
        ("cr", 22),
        ("do", 28),
        ("sv", 28),
        ("gt", 28),
        ("es", 24),
        ("pt", 25),
        ("it", 27),
        ("fr", 27),
        ("de", 22),
        ("gb", 22),
        ("ch", 21),
        ("be", 16),
        ("nl", 18),
        ("at", 20),
        ("ie", 22),
        ("lu", 20),
        ("ad", 24),
        ("mc", 27),
        ("se", 24),
        ("no", 15),
        ("fi", 18),
        ("dk", 18),
        ("pl", 28),
        ("gr", 27),
        ("ro", 24),
        ("hu", 28),
        ("cz", 24),
        ("lt", 20),
        ("il", 23),
        ("ae", 23),
        ("ni", 28),
    ];
    LENGTHS.iter().find(|(code, _)| *code == country).map(|(_, length)| *length)
}

/// IBAN: country and digits behind the account, modulo 97 (ISO/IEC 7064 MOD 97-10).
pub(super) fn iban(number: &str) -> bool {
    let Some((head, account)) = number.split_at_checked(4) else { return false };
    // Reduced at every step: no integer type holds the whole number.
    let rest = account.bytes().chain(head.bytes()).fold(0, |rest: u32, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_lowercase().saturating_sub(b'a')) + 10) % 97,
    });
    rest == 1
}

/// Mexican RFC (SAT, Anexo of the RFC: a company's eleven characters count as if a blank stood
/// before them).
pub(super) fn rfc(number: &str) -> bool {
    const ALPHABET: &str = "0123456789abcdefghijklmn&opqrstuvwxyz ñ";
    let padded = format!("{number:>13}");
    let values = padded
        .chars()
        .take(12)
        .map(|character| ALPHABET.chars().position(|other| other == character).unwrap_or_default());
    let sum: usize = values.zip((2..=13).rev()).map(|(value, weight)| value * weight).sum();
    let expected = match (11 - sum % 11) % 11 {
        10 => 'a',
        digit => char::from(b'0' + digit as u8),
    };
    padded.ends_with(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> bool;

    #[test]
    fn published_numbers_are_right_and_their_neighbours_wrong() {
        let checks: [(Check, &str); 12] = [
            (luhn, "4111111111111111"),
            (cuit, "20123456786"),
            (ruc, "20131312955"),
            (ruc, "20023772231"),
            (cpf, "11144477735"),
            (cnpj, "11222333000181"),
            (cnpj, "12abc34501de35"),
            (clabe, "032180000118359719"),
            (cbu, "2850590940090418135201"),
            (cci, "01136600010003254221"),
            (iban, "es9121000418450200051332"),
            (iban, "br1800360305000010009795493c1"),
        ];
        for (is_right, number) in checks {
            assert!(is_right(number), "{number}");
            let last = number.as_bytes()[number.len() - 1];
            let other = char::from(if last == b'9' { b'0' } else { last + 1 });
            assert!(!is_right(&format!("{}{other}", &number[..number.len() - 1])), "{number}");
        }
        assert!(rfc("gode561231gr8") && rfc("sat970701nn3") && !rfc("gode561231gr9"));
        assert!(rut("12345678", b'5') && rut("6", b'k') && rut("60805000", b'0') && !rut("12345678", b'6'));
        assert!(nit("900123456", b'8') && nit("899999068", b'1') && !nit("900123456", b'7'));
    }
}
