//! Written forms of the numbers of taxpayers.

use crate::{
    case::{Country, Form, Kind},
    layout::{self, Row},
    numbers::{
        ampersand_rfc, cnpj, company_cuit, company_rfc, company_rut, cuit, lettered_cnpj, nit, person_nit,
        person_ruc, rfc, ruc,
    },
};

const FRAMES: &[&str] = &[
    "Facturar a {} antes del cierre de mes.",
    "Razón social registrada, {}, con sede en la ciudad.",
    "Aviso publicado por el empleador ({}), turno mañana.",
    "Contrata directamente la empresa {} sin intermediarios.",
    "Empresa formal. {}\nPrestaciones de ley.",
];

const BRAZILIAN_FRAMES: &[&str] = &[
    "Nota fiscal para {} até o fim do mês.",
    "Vaga anunciada pelo empregador ({}), turno da manhã.",
    "Empresa registrada, {}, com sede na capital.",
];

const COLOMBIA: &[Row] = &[
    ("NIT with dots", nit, "NIT ‹___.___.___-_›"),
    ("NIT colon", nit, "NIT: ‹_________-_›"),
    ("Nit., blank before digit", nit, "Nit. ‹_________ _›"),
    ("N.I.T.", nit, "N.I.T. ‹___.___.___-_›"),
    ("NIT No.", nit, "NIT No. ‹___.___.___ - _›"),
    ("NIT, DV", nit, "NIT ‹_________› DV _"),
    ("NIT, check digit glued", nit, "NIT ‹*›"),
    ("NIT glued", nit, "NIT.‹_________-_›"),
    ("NIT, blanks", nit, "Nit: ‹___ ___ ___-_›"),
    ("NIT, commas", nit, "NIT ‹___,___,___-_›"),
    ("NIT, en dash", nit, "NIT ‹___.___.___–_›"),
    ("identificada con NIT", nit, "identificada con NIT número ‹_________-_›"),
    ("NIT of a person", person_nit, "NIT ‹__.___.___-_›"),
    ("RUT", nit, "RUT ‹_________-_›"),
    ("bare with dots", nit, "‹___.___.___-_›"),
    ("bare without dots", nit, "‹_________-_›"),
];

const MEXICO: &[Row] = &[
    ("person, bare", rfc, "‹*›"),
    ("company, bare", company_rfc, "‹*›"),
    ("RFC of a person", rfc, "RFC ‹*›"),
    ("RFC of a company", company_rfc, "RFC ‹*›"),
    ("RFC colon", rfc, "RFC: ‹*›"),
    ("R.F.C.", company_rfc, "R.F.C. ‹*›"),
    ("RFC glued", rfc, "RFC:‹*›"),
    ("RFC, hyphens", rfc, "RFC ‹____-______-___›"),
    ("RFC, blanks", rfc, "RFC ‹____ ______ ___›"),
    ("company, hyphens", company_rfc, "RFC ‹___-______-___›"),
    ("company, blanks", company_rfc, "R.F.C.: ‹___ ______ ___›"),
    ("company, ampersand", ampersand_rfc, "RFC ‹*›"),
    ("in full", rfc, "Registro Federal de Contribuyentes ‹*›"),
    ("bare, hyphens", rfc, "‹____-______-___›"),
    ("con RFC", company_rfc, "con RFC número ‹*›"),
];

const ARGENTINA: &[Row] = &[
    ("CUIT, hyphens", company_cuit, "CUIT ‹__-________-_›"),
    ("CUIT, digits", company_cuit, "CUIT ‹*›"),
    ("CUIT colon", cuit, "CUIT: ‹__-________-_›"),
    ("C.U.I.T.", company_cuit, "C.U.I.T. ‹__-________-_›"),
    ("C.U.I.T. Nº", company_cuit, "C.U.I.T. Nº ‹*›"),
    ("CUIL", cuit, "CUIL ‹__-________-_›"),
    ("CUIL/CUIT", cuit, "CUIL/CUIT: ‹*›"),
    ("C.U.I.L.", cuit, "C.U.I.L. ‹__-________-_›"),
    ("CUIT, dots inside", company_cuit, "CUIT ‹__-__.___.___-_›"),
    ("CUIT, dots", cuit, "CUIT ‹__.________._›"),
    ("CUIT, blanks", cuit, "CUIT ‹__ ________ _›"),
    ("CUIT, slashes", company_cuit, "cuit ‹__/________/_›"),
    ("CUIT glued", company_cuit, "CUIT‹*›"),
    ("bare, hyphens", company_cuit, "‹__-________-_›"),
    ("bare, digits", cuit, "‹*›"),
];

const CHILE: &[Row] = &[
    ("RUT with dots", company_rut, "RUT ‹__.___.___-_›"),
    ("RUT colon, no dots", company_rut, "RUT: ‹________-_›"),
    ("R.U.T.", company_rut, "R.U.T.: ‹__.___.___-_›"),
    ("RUT N°", company_rut, "RUT N° ‹__.___.___-_›"),
    ("Rut empresa", company_rut, "Rut empresa ‹__.___.___-_›"),
    ("no hyphen", company_rut, "RUT ‹*›"),
    ("blanks", company_rut, "RUT ‹__ ___ ___-_›"),
    ("blanks around hyphen", company_rut, "rut ‹__.___.___ - _›"),
    ("en dash", company_rut, "RUT: ‹__.___.___–_›"),
    ("glued", company_rut, "RUT:‹________-_›"),
    ("in full", company_rut, "Rol Único Tributario ‹__.___.___-_›"),
    ("bare with dots", company_rut, "‹__.___.___-_›"),
    ("bare without dots", company_rut, "‹________-_›"),
];

const PERU: &[Row] = &[
    ("RUC", ruc, "RUC ‹*›"),
    ("RUC colon", ruc, "RUC: ‹*›"),
    ("R.U.C.", ruc, "R.U.C. ‹*›"),
    ("RUC N°", ruc, "RUC N° ‹*›"),
    ("Nro. de RUC", ruc, "Nro. de RUC ‹*›"),
    ("con RUC", ruc, "con RUC número ‹*›"),
    ("RUC of a person", person_ruc, "RUC ‹*›"),
    ("RUC, hyphens", person_ruc, "RUC ‹__-________-_›"),
    ("RUC, blanks", ruc, "RUC ‹__ ________ _›"),
    ("RUC glued", ruc, "RUC‹*›"),
    ("ruc in lower case", person_ruc, "ruc: ‹*›"),
    ("in full", ruc, "Registro Único de Contribuyentes ‹*›"),
    ("bare", ruc, "‹*›"),
    ("bare, person", person_ruc, "‹*›"),
];

const BRAZIL: &[Row] = &[
    ("bare", cnpj, "‹__.___.___/____-__›"),
    ("bare, digits", cnpj, "‹*›"),
    ("CNPJ", cnpj, "CNPJ ‹__.___.___/____-__›"),
    ("CNPJ colon, digits", cnpj, "CNPJ: ‹*›"),
    ("C.N.P.J.", cnpj, "C.N.P.J. ‹__.___.___/____-__›"),
    ("CNPJ nº", cnpj, "CNPJ nº ‹__.___.___/____-__›"),
    ("CNPJ/MF", cnpj, "CNPJ/MF ‹__.___.___/____-__›"),
    ("CNPJ, blanks", cnpj, "CNPJ ‹__ ___ ___ ____ __›"),
    ("CNPJ, blanks around slash", cnpj, "CNPJ ‹__.___.___ / ____-__›"),
    ("CNPJ, en dash", cnpj, "CNPJ ‹__.___.___/____–__›"),
    ("CNPJ glued", cnpj, "CNPJ:‹________/____-__›"),
    ("MEI", cnpj, "MEI, CNPJ ‹__.___.___/____-__›"),
    ("CNPJ with letters", lettered_cnpj, "CNPJ ‹__.___.___/____-__›"),
    ("CNPJ with letters, bare", lettered_cnpj, "‹__.___.___/____-__›"),
];

/// The forms of tax numbers.
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
    .flat_map(|(country, rows, frames)| layout::forms(Kind::TaxId, country, rows, frames, frames))
}
