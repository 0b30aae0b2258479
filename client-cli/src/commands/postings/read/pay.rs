//! Joins the parts of a salary into one text.
//!
//! The parts come from several columns or from an object.

use serde_json::{Map, Value};

use super::cell::{is_absent, number_text};

/// Parts of a salary.
#[derive(Debug, Default)]
pub(super) struct Pay {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) currency: Option<String>,
    pub(super) per: Option<String>,
}

impl Pay {
    /// Formats the salary as `2500000 - 3000000 COP MONTH`; `None` without an amount.
    pub(super) fn text(self) -> Option<String> {
        let amount = match (self.from, self.to) {
            (Some(from), Some(to)) if from != to => format!("{from} - {to}"),
            (Some(amount), _) => amount,
            (None, Some(to)) => format!("≤ {to}"),
            (None, None) => return None,
        };
        let parts = [Some(amount), self.currency, self.per].into_iter().flatten();
        Some(parts.collect::<Vec<_>>().join(" "))
    }
}

/// Reads an amount or a word from a cell.
pub(super) fn part(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Number(number) => Some(number_text(number)),
        Value::String(text) if !is_absent(text) => {
            let text = text.trim();
            // As in `number_text`: text columns of pandas also have numbers with `.0`.
            let whole =
                text.strip_suffix(".0").filter(|whole| whole.bytes().all(|byte| byte.is_ascii_digit()));
            Some(whole.unwrap_or(text).to_owned())
        }
        _ => None,
    }
}

/// Formats the salary in a schema.org `MonetaryAmount` or a similar object.
pub(super) fn of_object(object: &Map<String, Value>) -> Option<String> {
    let amount = match object.get("value") {
        Some(Value::Object(value)) => value,
        _ => object,
    };
    // The currency may be given with the amount, or around it.
    let member = |names: [&str; 3]| {
        names.iter().find_map(|name| part(amount.get(*name)).or_else(|| part(object.get(*name))))
    };
    let single = member(["value", "amount", "median"]);
    let from = member(["minValue", "min", "min_amount"]).or_else(|| single.clone());
    let to = member(["maxValue", "max", "max_amount"]);
    let currency = member(["currency", "currencyCode", "salaryCurrency"]);
    let per = member(["unitText", "interval", "duration"]);
    Pay { from, to, currency, per }.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn salaries_are_one_text() {
        let check = |value: Value, expected: Option<&str>| {
            let found = of_object(value.as_object().expect("an object"));
            assert_eq!(found.as_deref(), expected, "{value}");
        };
        let range = json!({ "minValue": 2_500_000.0, "maxValue": 3_000_000, "unitText": "MONTH" });
        check(json!({ "currency": "COP", "value": range }), Some("2500000 - 3000000 COP MONTH"));
        check(json!({ "currency": "MXN", "value": 12_000 }), Some("12000 MXN"));
        check(
            json!({ "currency": "MXN", "value": { "value": "12000", "unitText": "MONTH" } }),
            Some("12000 MXN MONTH"),
        );
        check(json!({ "min": 5, "max": 5 }), Some("5"));
        check(json!({ "maxValue": 5 }), Some("≤ 5"));
        check(json!({ "currency": "MXN" }), None);
    }
}
