//! A single cell: whether it holds anything, and numbers as people write them.
//!
//! Shared by everything that looks at cells, whatever the format of the file.

use serde_json::Value;

/// Values that programs write for "no value": most are among the defaults of `read_csv` in pandas;
/// `#N/D` is the `#N/A` of a Spanish spreadsheet.
const ABSENT: [&str; 14] = [
    "nan", "NaN", "NAN", "NaT", "None", "none", "null", "NULL", "Null", "<NA>", "N/A", "n/a", "#N/A", "#N/D",
];

/// True if a text means "no value".
pub(super) fn is_absent(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || ABSENT.contains(&text)
}

/// True if a cell has no value.
pub(super) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => is_absent(text),
        Some(_) => false,
    }
}

/// Formats a number without the `.0` that spreadsheets and pandas add to integers.
pub(super) fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        // From 2^53 (9.007e15) on, not every integer is a double: digits would be made up.
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9.0e15 => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}
