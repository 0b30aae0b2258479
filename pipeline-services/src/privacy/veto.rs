//! What stands around a number and makes it something other than personal data.
//!
//! Prices, counts, dates, codes: the finders of numbers ask the same questions here, so that one
//! does not remove what another keeps.

use std::sync::LazyLock;

use super::{
    Words,
    view::{View, is_barrier},
    words,
};

/// Words before a number that say what it counts or names.
static NAMES: LazyLock<Words> = LazyLock::new(|| {
    words(
        "iso nom ntc nbr norma ley lei decreto resolucion resolucao circular acuerdo articulo art expediente \
        exp ref referencia codigo cod code id ids jobid aviso vacante vacantes vaga vagas requisicion req \
        job oferta folio lote lotes lot serie serial modelo parte pieza pn sn sku ean gtin upc isbn issn \
        barras partida ncm ciiu sap oc po op orden ordem pedido pedidos factura facturas fatura remision \
        guia material ticket contrato contratos convenio convocatoria concurso licitacion proceso processo \
        proyecto projeto solicitud solicitacao caso radicado inventario activo patrimonio registro matricula \
        ficha snies cnae cbo cas version build release commit token hash md5 sha1 uuid guid puerto ip mac \
        cep cp postal presupuesto ventas venta ingresos facturacion faturamento cartera meta metas monto \
        valor capital credito cupo salario salarios sueldo sueldos remuneracion renta basico honorarios bono \
        pretension anuncio busqueda publicacion legajo acta catalogo item producto modulo poliza placa chasis motor invima",
    )
});

/// Currencies, which stand before and behind amounts.
static CURRENCIES: LazyLock<Words> = LazyLock::new(|| {
    words(
        "usd us cop mxn mx ars ar clp pen brl eur pesos peso dolares dolar euros soles reales reais colones \
        quetzales guaranies bolivianos mn",
    )
});

/// Words behind a number that say what it counts.
static UNITS: LazyLock<Words> = LazyLock::new(|| {
    words(
        "millones millon milhoes mil mm mensuales mensual mensais brutos bruto netos neto liquidos liquido \
        anuales anual quincenales semanales diarios unidades uds piezas registros usuarios clientes personas \
        empleados colaboradores visitas visitantes seguidores lineas transacciones operaciones habitantes \
        toneladas ton kg kilos g km kms m m2 mts metros cm litros l hectareas ha horas hs hrs anos dias \
        meses rpm mhz ghz hz gb mb tb ml mm kv v kw hp barriles puntos",
    )
});

/// Returns whether one of the `most` words right before a place, in its sentence, names something
/// else.
pub(super) fn stands(view: &View<'_>, at: usize, most: usize) -> bool {
    let words = view.words_before(at, 40);
    let mut end = at;
    for word in words.iter().take(most) {
        let gap = &view.text()[word.end..end];
        // The full stop of a short word is that of an abbreviation.
        if gap.contains('\n') || gap.contains(". ") && word.text.len() > 4 {
            return false;
        }
        // "responsable del proceso 12.345.678-5" is a person's number.
        if is_name(word.text) && word.text != "proceso" {
            return true;
        }
        end = word.start;
    }
    is_money(view, at)
}

/// Returns whether a word names a number that is not personal.
pub(super) fn is_name(word: &str) -> bool {
    NAMES.contains(word) || CURRENCIES.contains(word)
}

/// A currency's sign or name right before a place.
pub(super) fn is_money(view: &View<'_>, at: usize) -> bool {
    let before = view.behind(at, 12).trim_end();
    before.ends_with(['$', '€', '£', '¢', '₡', '=', '~'])
        || ["s/", "s/.", "r$", "gs.", "q."].iter().any(|sign| before.ends_with(sign))
        || view.words_before(at, 12).first().is_some_and(|word| CURRENCIES.contains(word.text))
}

/// A unit or currency right behind a place.
pub(super) fn is_counted(view: &View<'_>, end: usize) -> bool {
    let next = view.ahead(end, 3).trim_start();
    if next.starts_with(['%', '$', '€', '°']) {
        return true;
    }
    let words = view.words_after(end, 30);
    let word = words.first().filter(|word| word.start <= end + 2).map(|word| word.text);
    let word = word
        // In "3.000.000 de pesos" the unit is the second word.
        .filter(|word| *word != "de")
        .or_else(|| words.get(1).filter(|_| word == Some("de")).map(|word| word.text));
    word.is_some_and(|word| UNITS.contains(word) || CURRENCIES.contains(word))
}

/// Returns whether a number begins inside a word, a path, a code or a price.
pub(super) fn is_attached(view: &View<'_>, start: usize) -> bool {
    let before = view.text()[..start].chars().next_back().unwrap_or('\n');
    let removed = before.is_ascii() && is_barrier(before as u8);
    let glued =
        before.is_alphanumeric() || matches!(before, '$' | '€' | '/' | '=' | ',' | '_' | '-' | '.' | '&');
    glued && !removed
}

/// A date, or years side by side. Of day and month either may come first.
pub(super) fn is_date(digits: &str, lengths: &[usize]) -> bool {
    let parts: Vec<u32> = {
        let mut at = 0;
        lengths
            .iter()
            .map(|length| {
                at += length;
                digits[at - length..at].parse().unwrap_or(u32::MAX)
            })
            .collect()
    };
    match (lengths, parts.as_slice()) {
        ([1 | 2, 1 | 2, 4], [a, b, c]) => is_day_of_year(*a, *b) && is_year(*c),
        ([4, 1 | 2, 1 | 2], [a, b, c]) => is_year(*a) && is_day_of_year(*b, *c),
        ([4, 4], [a, b]) => is_year(*a) && is_year(*b),
        // A time follows, and with it the order of ISO 8601.
        ([4, 1 | 2, 1 | 2, ..], [a, b, c, ..]) => is_year(*a) && is_month(*b) && is_day(*c),
        ([1 | 2, 1 | 2, 4, 1 | 2, ..], [a, b, c, ..]) => is_day_of_year(*a, *b) && is_year(*c),
        ([8], _) => {
            is_recent_day(&digits[..4], &digits[4..6], &digits[6..8])
                || is_recent_day(&digits[4..8], &digits[2..4], &digits[..2])
        }
        _ => false,
    }
}

fn is_day_of_year(one: u32, other: u32) -> bool {
    (is_day(one) && is_month(other)) || (is_month(one) && is_day(other))
}

fn is_year(value: u32) -> bool {
    (1900..2100).contains(&value)
}

fn is_month(value: u32) -> bool {
    (1..=12).contains(&value)
}

fn is_day(value: u32) -> bool {
    (1..=31).contains(&value)
}

/// A day without signs between its parts: of few years, since any eight digits could be one.
fn is_recent_day(year: &str, month: &str, day: &str) -> bool {
    let [year, month, day] = [year, month, day].map(|part| part.parse::<u32>().unwrap_or(0));
    (2000..2040).contains(&year) && is_month(month) && is_day(day)
}

/// `2.500.000`, `2,500,000`, `2 500 000`: thousands.
pub(super) fn is_thousands(lengths: &[usize]) -> bool {
    lengths.len() > 1 && (1..=3).contains(&lengths[0]) && lengths[1..].iter().all(|length| *length == 3)
}

#[cfg(test)]
mod tests {
    use super::is_date;

    #[test]
    fn a_date_has_a_month_in_one_of_two_orders() {
        let cases = [
            ("20243131", &[4, 2, 2][..], false),
            ("20241331", &[4, 2, 2], false),
            ("20243112", &[4, 2, 2], true),
            ("20241231", &[4, 2, 2], true),
            ("31312024", &[2, 2, 4], false),
            ("12312024", &[2, 2, 4], true),
            ("31122024", &[2, 2, 4], true),
            ("313120240930", &[2, 2, 4, 2, 2], false),
            ("202431121030", &[4, 2, 2, 2, 2], false),
            ("20232024", &[4, 4], true),
        ];
        for (digits, lengths, expected) in cases {
            assert_eq!(is_date(digits, lengths), expected, "{digits} {lengths:?}");
        }
    }
}
