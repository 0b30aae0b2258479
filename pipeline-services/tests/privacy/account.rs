//! Written forms of bank accounts and payment keys.

use fastrand::Rng;

use crate::{
    case::{Country, Form, Kind},
    layout::{self, Row, digits},
    numbers::{
        card, cbu, cci, clabe, cpf, cvu, iban_br, iban_cr, iban_do, iban_es, iban_gt, iban_sv, pix_key, run,
    },
    people::{mailbox, pick, reserved_host},
};

const FRAMES: &[&str] = &[
    "Pagar el examen médico a {} y enviar soporte.",
    "Depositar a {} antes de la entrevista.",
    "Pagos por transferencia: {} (guardar comprobante).",
    "La nómina se dispersa desde {} cada quincena.",
    "Curso previo con costo. {}\nCupos limitados.",
];

const BRAZILIAN_FRAMES: &[&str] = &[
    "Pagamento do curso: {} (guardar comprovante).",
    "Depositar em {} antes da entrevista.",
    "Taxa do exame médico. {}\nVagas limitadas.",
];

fn eleven(rng: &mut Rng) -> String {
    digits(rng, "_________01")
}

fn ten(rng: &mut Rng) -> String {
    digits(rng, "__________")
}

fn co_mobile(rng: &mut Rng) -> String {
    digits(rng, "31_555____")
}

fn thirteen(rng: &mut Rng) -> String {
    digits(rng, "191_________2")
}

fn pe_mobile(rng: &mut Rng) -> String {
    digits(rng, "9__555___")
}

fn br_mobile(rng: &mut Rng) -> String {
    digits(rng, "119_555____")
}

/// BancoEstado numbers a CuentaRUT as its owner's RUN without the check digit.
fn cuenta_rut(rng: &mut Rng) -> String {
    digits(rng, "1_______")
}

/// An alias of an Argentine account: three words, dots between them.
fn alias(rng: &mut Rng) -> String {
    const WORDS: [&str; 8] = ["TUCAN", "GAMBA", "PLUMA", "NARDO", "FAROL", "BRUMA", "TRIGO", "CHALE"];
    format!("{}.{}.{}", pick(rng, &WORDS), pick(rng, &WORDS), pick(rng, &WORDS))
}

fn mail_key(rng: &mut Rng) -> String {
    format!("‹{}›@‹{}›", mailbox(rng), reserved_host(rng))
}

const COLOMBIA: &[Row] = &[
    ("cuenta de ahorros", eleven, "cuenta de ahorros Bancolombia ‹*›"),
    ("cuenta de ahorros, hyphens", eleven, "cuenta de ahorros No. ‹___-______-__›"),
    ("cuenta corriente", ten, "cuenta corriente Davivienda ‹*›"),
    ("cuenta corriente, blanks", ten, "Cuenta corriente N° ‹___ ___ ____›"),
    ("Cta.", eleven, "Cta. ahorros Bancolombia ‹___-______-__›"),
    ("Cta. Cte.", ten, "Cta. Cte. ‹*›"),
    ("cta number sign", eleven, "cta # ‹*›"),
    ("cuenta bancaria", ten, "cuenta bancaria: ‹*›"),
    ("número de cuenta", eleven, "número de cuenta ‹*›"),
    ("AV Villas", ten, "Ahorros AV Villas ‹_________-_›"),
    ("Nequi", co_mobile, "Nequi ‹*›"),
    ("Nequi, blanks", co_mobile, "Nequi: ‹___ ___ ____›"),
    ("Daviplata", co_mobile, "Daviplata ‹*›"),
];

const MEXICO: &[Row] = &[
    ("CLABE bare", clabe, "‹*›"),
    ("CLABE bare, blanks", clabe, "‹___ ___ ___________ _›"),
    ("CLABE", clabe, "CLABE ‹*›"),
    ("CLABE colon", clabe, "CLABE: ‹*›"),
    ("CLABE interbancaria", clabe, "CLABE interbancaria ‹*›"),
    ("clabe, blanks", clabe, "clabe ‹___ ___ ___________ _›"),
    ("CLABE, fours", clabe, "CLABE ‹____ ____ ____ ____ __›"),
    ("CLABE, hyphens", clabe, "CLABE ‹___-___-___________-_›"),
    ("CLABE glued", clabe, "CLABE:‹*›"),
    ("SPEI", clabe, "SPEI a la cuenta ‹*›"),
    ("cuenta BBVA", ten, "cuenta BBVA ‹*›"),
    ("no. de cuenta", ten, "No. de cuenta Banorte ‹*›"),
    ("tarjeta, fours", card, "tarjeta de débito ‹____ ____ ____ ____›"),
    ("tarjeta", card, "tarjeta ‹*›"),
    ("OXXO", card, "depósito en OXXO a la tarjeta ‹____-____-____-____›"),
];

const ARGENTINA: &[Row] = &[
    ("CBU bare", cbu, "‹*›"),
    ("CBU bare, two blocks", cbu, "‹________ ______________›"),
    ("CBU", cbu, "CBU ‹*›"),
    ("CBU colon", cbu, "CBU: ‹*›"),
    ("C.B.U.", cbu, "C.B.U. ‹*›"),
    ("CBU Nº", cbu, "CBU Nº ‹*›"),
    ("CBU, two blocks", cbu, "CBU ‹________ ______________›"),
    ("CBU, hyphens", cbu, "CBU ‹_______-_ _____________-_›"),
    ("CBU, fours", cbu, "cbu ‹____ ____ ____ ____ ____ __›"),
    ("CBU glued", cbu, "CBU:‹*›"),
    ("CVU", cvu, "CVU ‹*›"),
    ("CVU bare", cvu, "‹*›"),
    ("alias", alias, "alias: ‹*›"),
    ("alias CBU", alias, "alias CBU ‹*›"),
    ("caja de ahorro", ten, "caja de ahorro en pesos Nº ‹____-___/___›"),
];

const CHILE: &[Row] = &[
    ("cuenta RUT", cuenta_rut, "Cuenta RUT ‹*›"),
    ("CuentaRUT", run, "CuentaRUT N° ‹________-_›"),
    ("cuenta RUT, dots", run, "cuenta rut ‹__.___.___-_›"),
    ("cuenta RUT, bank", run, "Banco Estado, cuenta RUT ‹*›"),
    ("cuenta corriente", ten, "cuenta corriente Banco de Chile ‹*›"),
    ("cuenta corriente, hyphens", ten, "Cuenta corriente N° ‹__-___-_____›"),
    ("cuenta vista", eleven, "cuenta vista ‹*›"),
    ("Cta. Cte.", ten, "Cta. Cte. ‹__-___-_____›"),
    ("cta vista", eleven, "cta. vista Santander ‹*›"),
    ("cuenta de ahorro", eleven, "cuenta de ahorro N° ‹*›"),
    ("número de cuenta", ten, "número de cuenta: ‹*›"),
    ("chequera electrónica", eleven, "chequera electrónica ‹*›"),
];

const PERU: &[Row] = &[
    ("CCI", cci, "CCI ‹*›"),
    ("CCI colon", cci, "CCI: ‹*›"),
    ("CCI, hyphens", cci, "CCI ‹___-___-____________-__›"),
    ("CCI, blanks", cci, "CCI: ‹___ ___ ____________ __›"),
    ("C.C.I.", cci, "C.C.I. ‹*›"),
    ("CCI N°", cci, "CCI N° ‹*›"),
    ("CCI in full", cci, "código de cuenta interbancario ‹*›"),
    ("CCI bare, hyphens", cci, "‹___-___-____________-__›"),
    ("BCP soles", thirteen, "cuenta BCP soles ‹___-_______-_-__›"),
    ("Cta. BCP", thirteen, "Cta. BCP ‹*›"),
    ("cuenta de ahorros", thirteen, "cuenta de ahorros ‹*›"),
    ("Yape", pe_mobile, "Yape ‹*›"),
    ("Plin", pe_mobile, "Plin: ‹___ ___ ___›"),
];

const BRAZIL: &[Row] = &[
    ("Pix, CPF", cpf, "Pix ‹___.___.___-__›"),
    ("Pix, CPF digits", cpf, "chave Pix CPF ‹*›"),
    ("Pix, mobile", br_mobile, "PIX: ‹(__) _____-____›"),
    ("Pix, mobile with +55", br_mobile, "chave pix ‹+55*›"),
    ("Pix, mail", mail_key, "chave Pix: *"),
    ("Pix, random key", pix_key, "Pix ‹________-____-____-____-____________›"),
    ("Pix, chave aleatória", pix_key, "chave aleatória ‹________-____-____-____-____________›"),
    ("agência e conta", ten, "agência ____, conta corrente ‹_____-_›"),
    ("Ag. C/C", ten, "Ag. ____ C/C ‹_____-_›"),
    ("conta poupança", ten, "conta poupança ‹_________-_›"),
    ("IBAN", iban_br, "IBAN ‹*›"),
    ("IBAN, fours", iban_br, "IBAN: ‹____ ____ ____ ____ ____ ____ ____ _›"),
    ("IBAN bare", iban_br, "‹*›"),
];

const OTHERS: &[Row] = &[
    ("ES bare", iban_es, "‹*›"),
    ("ES bare, fours", iban_es, "‹____ ____ ____ ____ ____ ____›"),
    ("ES colon", iban_es, "IBAN: ‹*›"),
    ("ES, hyphens", iban_es, "IBAN ‹____-____-____-____-____-____›"),
    ("CR bare", iban_cr, "‹*›"),
    ("CR, fours", iban_cr, "IBAN ‹____ ____ ____ ____ ____ __›"),
    ("CR, cuenta", iban_cr, "cuenta IBAN ‹*›"),
    ("DO bare", iban_do, "‹*›"),
    ("DO, fours", iban_do, "IBAN ‹____ ____ ____ ____ ____ ____ ____›"),
    ("SV bare", iban_sv, "‹*›"),
    ("SV, fours", iban_sv, "IBAN: ‹____ ____ ____ ____ ____ ____ ____›"),
    ("GT bare", iban_gt, "‹*›"),
    ("GT, fours", iban_gt, "cuenta ‹____ ____ ____ ____ ____ ____ ____›"),
];

/// The forms of accounts.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    [
        (Country::Co, COLOMBIA, FRAMES),
        (Country::Mx, MEXICO, FRAMES),
        (Country::Ar, ARGENTINA, FRAMES),
        (Country::Cl, CHILE, FRAMES),
        (Country::Pe, PERU, FRAMES),
        (Country::Br, BRAZIL, BRAZILIAN_FRAMES),
        (Country::Any, OTHERS, FRAMES),
    ]
    .into_iter()
    .flat_map(|(country, rows, frames)| layout::forms(Kind::Account, country, rows, frames, frames))
}
