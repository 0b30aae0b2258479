//! A single cell: whether it holds anything, and numbers as people write them.
//!
//! Shared by everything that looks at cells, whatever the format of the file.

use serde_json::Value;

/// What programs write where there is no value.
const ABSENT: [&str; 14] = [
    "nan", "NaN", "NAN", "NaT", "None", "none", "null", "NULL", "Null", "<NA>", "N/A", "n/a", "#N/A", "#N/D",
];

/// Whether a text says that there is nothing.
pub(super) fn is_absent(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || ABSENT.contains(&text)
}

/// Whether a cell says nothing.
pub(super) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => is_absent(text),
        Some(_) => false,
    }
}

/// A number without the `.0` that tables and pandas give whole ones.
pub(super) fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9.0e15 => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}
