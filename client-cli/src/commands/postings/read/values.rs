//! Converts the value of a cell to text: numbers, booleans, lists and objects. Values that mean
//! "nothing" are absent.

use serde_json::{Map, Value};

use super::cell::{is_absent, number_text};
use super::fold::fold;
use super::literal;

/// Formula errors of spreadsheets, in English and Spanish.
const FORMULA_ERRORS: [&str; 12] = [
    "#REF!",
    "#¡REF!",
    "#VALUE!",
    "#¡VALOR!",
    "#NAME?",
    "#¿NOMBRE?",
    "#DIV/0!",
    "#¡DIV/0!",
    "#NUM!",
    "#¡NUM!",
    "#NULL!",
    "#¡NULO!",
];

/// Members of an object that can serve as its text, best first.
const NAMING: [&str; 10] = [
    "name",
    "nombre",
    "title",
    "label",
    "display_name",
    "displayName",
    "text",
    "descripcion",
    "description",
    "value",
];

/// Parts of an address, the smallest first.
const ADDRESS: [&[&str]; 3] = [
    &["addressLocality", "city", "ciudad", "locality", "municipio"],
    &["addressRegion", "state", "region", "provincia", "departamento", "province"],
    &["addressCountry", "country", "pais"],
];

/// True if a text is a formula error of a spreadsheet.
pub(super) fn is_formula_error(text: &str) -> bool {
    FORMULA_ERRORS.contains(&text.trim())
}

/// Converts a value to the text of a field; `None` if it means "no value".
///
/// # Errors
/// If an object has no member that can serve as its text; lists its members.
pub(super) fn text_of(field: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if is_absent(text) => Ok(None),
        Value::String(text) => match literal::read(text) {
            Some(list) => text_of(field, &list),
            None => Ok(Some(text.clone())),
        },
        Value::Bool(_) if field == "remote_type" => Ok(remote(&value.to_string())),
        Value::Bool(yes) => Ok(Some(yes.to_string())),
        Value::Number(number) => Ok(Some(number_text(number))),
        Value::Array(items) => {
            let mut texts: Vec<String> = Vec::new();
            for item in items {
                let text = text_of(field, item)?.map(|text| text.trim().to_owned());
                texts.extend(text.filter(|text| !texts.contains(text)));
            }
            let between = if matches!(field, "description" | "requirements") { "\n" } else { ", " };
            Ok(Some(texts.join(between)).filter(|text| !text.is_empty()))
        }
        Value::Object(object) => object_text(field, object),
    }
}

fn object_text(field: &str, object: &Map<String, Value>) -> Result<Option<String>, String> {
    // Typed formats write a missing object as one whose members are all null.
    if object.values().all(Value::is_null) {
        return Ok(None);
    }
    let member =
        |names: &[&str]| names.iter().find_map(|name| object.get(*name).filter(|value| !value.is_null()));
    if field == "country"
        && let Some(country) = member(ADDRESS[2])
    {
        return text_of(field, country);
    }
    if let Some(address) = member(&["address"]).filter(|_| matches!(field, "location" | "country")) {
        return text_of(field, address);
    }
    if field == "salary_raw"
        && let Some(pay) = super::pay::of_object(object)
    {
        return Ok(Some(pay));
    }
    if field == "location" {
        let mut parts: Vec<String> = Vec::new();
        for names in ADDRESS {
            // As a title, which gets no special treatment: `location` would look for an address
            // again.
            let part = member(names).map(|part| text_of("title", part)).transpose()?.flatten();
            parts.extend(part.filter(|part| !parts.contains(part)));
        }
        if !parts.is_empty() {
            return Ok(Some(parts.join(", ")));
        }
    }
    match member(&NAMING) {
        Some(named) => text_of(field, named),
        None => {
            let members: Vec<&str> = object.keys().map(String::as_str).take(6).collect();
            Err(format!("an object without a name (it has {}); expected text", members.join(", ")))
        }
    }
}

/// Interprets yes and no in a column about remote work; other words are kept.
pub(super) fn remote(text: &str) -> Option<String> {
    match fold(text).as_str() {
        // `10` and `00` are 1.0 and 0.0, whose point is lost by folding.
        "true" | "verdadero" | "si" | "yes" | "1" | "10" | "sim" => Some("remote".to_owned()),
        // Work on site is the usual case, for which the field stays empty.
        "false" | "falso" | "no" | "0" | "00" | "nao" => None,
        "telecommute" => Some("remote".to_owned()),
        _ => Some(text.to_owned()),
    }
}

/// Restores an id as its portal wrote it, from a cell that may have been converted to a number.
///
/// # Errors
/// If digits were lost.
pub(super) fn id(value: &Value) -> Result<Option<String>, String> {
    const LOST: &str = "lost digits because it was saved as a number";
    if let Value::Number(number) = value
        && number.is_f64()
        // Spreadsheets keep fifteen digits (Excel specifications and limits).
        && number.as_f64().is_some_and(|float| float.abs() >= 1.0e15 || float.fract() != 0.0)
    {
        return Err(LOST.to_owned());
    }
    let value = match value {
        // A schema.org identifier names its scheme and has the id as its value.
        Value::Object(object) => {
            ["value", "id", "@id"].iter().find_map(|name| object.get(*name)).unwrap_or(value)
        }
        value => value,
    };
    let Some(text) = text_of("id", value)?.map(|text| text.trim().to_owned()) else { return Ok(None) };
    // pandas turns a column of whole numbers with gaps into floating-point numbers.
    if let Some(whole) = text.strip_suffix(".0").filter(|whole| are_digits(whole)) {
        return Ok(Some(whole.to_owned()));
    }
    // 8.1E+15 is what a spreadsheet saves of a long id that it shows like that.
    let scientific = text.split_once(['E', 'e']).is_some_and(|(mantissa, exponent)| {
        let mantissa = mantissa.replacen([',', '.'], "", 1);
        are_digits(&mantissa) && exponent.strip_prefix('+').is_some_and(are_digits)
    });
    if scientific { Err(LOST.to_owned()) } else { Ok(Some(text)) }
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_text() {
        let check = |field: &str, value: Value, expected: Option<&str>| {
            assert_eq!(text_of(field, &value).expect("text").as_deref(), expected, "{field} {value}");
        };
        check("salary_raw", json!(2_500_000), Some("2500000"));
        check("salary_raw", json!(2_500_000.0), Some("2500000"));
        check("salary_raw", json!(1200.5), Some("1200.5"));
        check("remote_type", json!(true), Some("remote"));
        check("remote_type", json!(false), None);
        check("contract_type", json!(true), Some("true"));
        check("company", json!({ "name": "ACME" }), Some("ACME"));
        check("company", json!({ "id": 3, "display_name": "ACME" }), Some("ACME"));
        check("company", json!([{ "name": "A" }, { "name": "B" }]), Some("A, B"));
        check("company", json!("{'name': 'ACME', 'id': 3}"), Some("ACME"));
        check("company", json!({ "name": null }), None);
        check("requirements", json!(["Excel", "SAP", null, "Excel"]), Some("Excel\nSAP"));
        check("requirements", json!("['Excel', 'SAP']"), Some("Excel\nSAP"));
        check("requirements", json!("[\"Excel\"]"), Some("Excel"));
        check("requirements", json!("[Excel] avanzado"), Some("[Excel] avanzado"));
        check("requirements", json!([]), None);
        check(
            "location",
            json!({ "city": "Cali", "country": { "name": "Colombia" } }),
            Some("Cali, Colombia"),
        );
        check(
            "location",
            json!({ "area": ["México", "Jalisco"], "display_name": "Jalisco" }),
            Some("Jalisco"),
        );
        check("country", json!({ "name": "Colombia" }), Some("Colombia"));
        check("title", json!("NaN"), None);
        check("title", json!(" <NA> "), None);
        check("title", json!("Nan Madol"), Some("Nan Madol"));
    }

    #[test]
    fn objects_without_a_name_are_refused() {
        let message = text_of("company", &json!({ "id": 3, "rating": 4 })).expect_err("refused");
        assert_eq!(message, "an object without a name (it has id, rating); expected text");
    }

    #[test]
    fn ids_keep_their_digits() {
        let check = |value: Value, expected: Result<Option<&str>, ()>| {
            let found = id(&value).map_err(|_| ());
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().map(|id| *id), "{value}");
        };
        check(json!(1_116_979_466), Ok(Some("1116979466")));
        check(json!(1_116_979_466.0), Ok(Some("1116979466")));
        check(json!("1116979466.0"), Ok(Some("1116979466")));
        check(json!("in-3f2a"), Ok(Some("in-3f2a")));
        check(json!("00123"), Ok(Some("00123")));
        check(json!("1,11698E+09"), Err(()));
        check(json!("1.11698E+09"), Err(()));
        check(json!(1.234_567_890_123_456_7e19), Err(()));
        check(json!("8E2"), Ok(Some("8E2")));
        check(json!({ "@type": "PropertyValue", "name": "ACME", "value": 77 }), Ok(Some("77")));
        check(json!(null), Ok(None));
    }

    #[test]
    fn yes_and_no_to_remote_work() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(remote(text).as_deref(), expected, "{text}");
        check("True", Some("remote"));
        check("Sí", Some("remote"));
        check("VERDADERO", Some("remote"));
        check("False", None);
        check("No", None);
        check("Híbrido", Some("Híbrido"));
        check("TELECOMMUTE", Some("remote"));
    }
}
