//! Written forms of the numbers of identity papers, social security and licences.

use crate::{
    case::{Country, Form, Kind},
    layout::{self, Row},
    numbers::{
        booklet, cedula, cpf, curp, dni, dni_pe, foreigner_co, foreigner_pe, licence_br, long_dni_pe, nss,
        ocr, old_cedula, passport, passport_ar, passport_mx, passport_pe, permit, pis, rg, run, run_k,
        short_run, voter_key,
    },
};

const FRAMES: &[&str] = &[
    "El contrato lo firma el representante, {}, en la oficina central.",
    "Presentar copia del documento en portería: {} (original).",
    "Aviso publicado por el empleador ({}), turno mañana.",
    "Persona responsable del proceso {} para cualquier duda.",
    "Preguntar en recepción por el titular, {}.\nJornada completa.",
];

const BRAZILIAN_FRAMES: &[&str] = &[
    "O contrato será assinado pelo responsável, {}, no escritório central.",
    "Vaga anunciada pelo empregador ({}), turno da manhã.",
    "Apresentar na portaria: {} (original).",
];

const COLOMBIA: &[Row] = &[
    ("C.C. with dots", cedula, "C.C. ‹_.___.___.___›"),
    ("CC bare", cedula, "CC ‹*›"),
    ("CC colon", old_cedula, "CC: ‹*›"),
    ("CC number sign", cedula, "CC # ‹*›"),
    ("c.c. No, blanks", old_cedula, "c.c. No ‹__ ___ ___›"),
    ("C.C glued", cedula, "C.C‹*›"),
    ("cédula, dots", old_cedula, "cédula ‹__.___.___›"),
    ("cédula in full", cedula, "identificado con cédula de ciudadanía No. ‹_.___.___.___›"),
    ("cédula in full, de Bogotá", old_cedula, "con cédula de ciudadanía número ‹*› de Bogotá"),
    ("cedula without accent", cedula, "cedula ‹_ ___ ___ ___›"),
    ("documento de identidad", cedula, "documento de identidad ‹_.___.___.___›"),
    ("tarjeta de identidad", cedula, "T.I. ‹*›"),
    ("C.E.", foreigner_co, "C.E. ‹*›"),
    ("cédula de extranjería", foreigner_co, "cédula de extranjería No. ‹___.___›"),
    ("PPT", permit, "PPT ‹*›"),
    ("PPT in full", permit, "Permiso por Protección Temporal N° ‹_.___.___›"),
    ("passport", passport, "pasaporte ‹*›"),
    ("passport, No.", passport, "Pasaporte No. ‹*›"),
];

const MEXICO: &[Row] = &[
    ("CURP bare", curp, "‹*›"),
    ("CURP with cue", curp, "CURP ‹*›"),
    ("CURP with colon", curp, "CURP: ‹*›"),
    ("C.U.R.P.", curp, "C.U.R.P. ‹*›"),
    ("CURP glued", curp, "CURP:‹*›"),
    ("CURP in groups", curp, "CURP ‹____ ______ ______ __›"),
    ("CURP in groups, hyphens", curp, "CURP ‹____-______-______-__›"),
    ("clave de elector bare", voter_key, "‹*›"),
    ("clave de elector", voter_key, "clave de elector ‹*›"),
    ("INE", voter_key, "INE: ‹*›"),
    ("INE, OCR", ocr, "INE ‹*›"),
    ("IFE in full", voter_key, "credencial para votar, clave ‹*›"),
    ("NSS", nss, "NSS ‹*›"),
    ("NSS colon", nss, "NSS: ‹*›"),
    ("NSS hyphens", nss, "NSS ‹__-__-__-____-_›"),
    ("N.S.S. blanks", nss, "N.S.S. ‹__ __ __ ____ _›"),
    ("IMSS", nss, "IMSS ‹*›"),
    ("seguro social in full", nss, "número de seguridad social ‹*›"),
    ("passport", passport_mx, "pasaporte ‹*›"),
];

const ARGENTINA: &[Row] = &[
    ("DNI with dots", dni, "DNI ‹__.___.___›"),
    ("DNI bare", dni, "DNI ‹*›"),
    ("DNI colon", dni, "DNI: ‹*›"),
    ("DNI Nº", dni, "DNI Nº ‹__.___.___›"),
    ("D.N.I.", dni, "D.N.I. ‹*›"),
    ("D.N.I. N°", dni, "D.N.I. N° ‹__.___.___›"),
    ("dni, blanks", dni, "dni ‹__ ___ ___›"),
    ("DNI, hyphens", dni, "DNI: ‹__-___-___›"),
    ("DNI glued", dni, "DNI‹*›"),
    ("DNI nro.", dni, "dni nro. ‹*›"),
    ("documento", dni, "documento ‹__.___.___›"),
    ("documento in full", dni, "documento nacional de identidad ‹__.___.___›"),
    ("D.U.", dni, "D.U. ‹*›"),
    ("L.E.", booklet, "L.E. ‹_.___.___›"),
    ("L.C.", booklet, "L.C. ‹*›"),
    ("passport", passport_ar, "pasaporte ‹*›"),
];

const CHILE: &[Row] = &[
    ("RUT with dots", run, "RUT ‹__.___.___-_›"),
    ("RUT colon", run, "RUT: ‹________-_›"),
    ("RUN", run, "RUN ‹__.___.___-_›"),
    ("RUN colon, no dots", run, "RUN: ‹________-_›"),
    ("R.U.T.", run, "R.U.T. ‹__.___.___-_›"),
    ("R.U.N. N°", run, "R.U.N. N° ‹__.___.___-_›"),
    ("bare with dots", run, "‹__.___.___-_›"),
    ("bare with K", run_k, "‹__.___.___-_›"),
    ("bare without dots", run, "‹________-_›"),
    ("K, no dots", run_k, "Rut: ‹________-_›"),
    ("no hyphen", run, "RUN ‹*›"),
    ("blanks around hyphen", run, "rut ‹__.___.___ - _›"),
    ("en dash", run, "RUT ‹__.___.___–_›"),
    ("glued", run, "RUT‹________-_›"),
    ("seven digits", short_run, "RUT ‹_.___.___-_›"),
    ("cédula de identidad", run, "cédula de identidad N° ‹__.___.___-_›"),
    ("C.I.", short_run, "C.I. ‹_.___.___-_›"),
    ("commas", run, "RUT ‹__,___,___-_›"),
];

const PERU: &[Row] = &[
    ("DNI bare", dni_pe, "DNI ‹*›"),
    ("DNI colon", dni_pe, "DNI: ‹*›"),
    ("DNI N°", dni_pe, "DNI N° ‹*›"),
    ("D.N.I.", dni_pe, "D.N.I. ‹*›"),
    ("D.N.I. Nro.", dni_pe, "D.N.I. Nro. ‹*›"),
    ("DNI with check digit", long_dni_pe, "DNI ‹________-_›"),
    ("DNI, pairs", dni_pe, "DNI ‹__ __ __ __›"),
    ("DNI glued", dni_pe, "DNI:‹*›"),
    ("dni in full", dni_pe, "documento nacional de identidad ‹*›"),
    ("doc. de identidad", dni_pe, "doc. de identidad ‹*›"),
    ("identificado con DNI", dni_pe, "identificada con DNI número ‹*›"),
    ("C.E.", foreigner_pe, "C.E. ‹*›"),
    ("CE N°", foreigner_pe, "CE N° ‹*›"),
    ("carné de extranjería", foreigner_pe, "carné de extranjería ‹*›"),
    ("carnet de extranjeria", foreigner_pe, "carnet de extranjeria N° ‹*›"),
    ("PTP", foreigner_pe, "PTP ‹*›"),
    ("passport", passport_pe, "pasaporte ‹*›"),
];

const BRAZIL: &[Row] = &[
    ("CPF bare with dots", cpf, "‹___.___.___-__›"),
    ("CPF bare digits", cpf, "‹*›"),
    ("CPF", cpf, "CPF ‹___.___.___-__›"),
    ("CPF colon, digits", cpf, "CPF: ‹*›"),
    ("CPF nº", cpf, "CPF nº ‹___.___.___-__›"),
    ("C.P.F.", cpf, "C.P.F. ‹___.___.___-__›"),
    ("CPF/MF", cpf, "CPF/MF ‹___.___.___-__›"),
    ("CPF, blanks", cpf, "CPF ‹___ ___ ___ __›"),
    ("CPF, slash", cpf, "CPF ‹___.___.___/__›"),
    ("CPF glued", cpf, "CPF:‹_________-__›"),
    ("RG with dots", rg, "RG ‹__.___.___-_›"),
    ("RG nº", rg, "RG nº ‹________-_›"),
    ("R.G.", rg, "R.G. ‹__.___.___-_›"),
    ("RG with issuer", rg, "RG ‹*› SSP/SP"),
    ("identidade", rg, "carteira de identidade ‹__.___.___-_›"),
    ("CNH", licence_br, "CNH ‹*›"),
    ("PIS", pis, "PIS ‹___._____.__-_›"),
    ("PIS/PASEP", pis, "PIS/PASEP: ‹*›"),
];

/// The forms of identity numbers.
pub(crate) fn forms() -> impl Iterator<Item = Form> {
    [
        (Country::Co, COLOMBIA, FRAMES),
        (Country::Mx, MEXICO, FRAMES),
        (Country::Ar, ARGENTINA, FRAMES),
        (Country::Cl, CHILE, FRAMES),
        (Country::Pe, PERU, FRAMES),
        (Country::Br, BRAZIL, BRAZILIAN_FRAMES),
    ]
    .into_iter()
    .flat_map(|(country, rows, frames)| layout::forms(Kind::NationalId, country, rows, frames, frames))
}
