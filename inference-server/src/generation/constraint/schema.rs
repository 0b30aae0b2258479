//! JSON schemas as the grammar library gets them.

use anyhow::{Result, bail};
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

/// Numbers are at most this large where the schema has no bound: a model that may go on with digits sometimes does so
/// to the end, and beyond 15 digits readers disagree on the value.
const LARGEST: i64 = 999_999_999_999_999;
/// Keywords whose values are not schemas.
const VALUES: [&str; 5] = ["const", "enum", "default", "examples", "x-guidance"];

/// The grammar of a schema.
///
/// White space is one space after each comma and colon: a model that may go on with white space sometimes does so to
/// the end, and what is not left open need not be asked of the model.
pub(super) fn grammar(schema: &str) -> Result<TopLevelGrammar> {
    let mut schema = match serde_json::from_str(schema)? {
        Value::Bool(true) => json!({}),
        schema => schema,
    };
    bound(&mut schema);
    let Some(map) = schema.as_object_mut() else {
        bail!("a schema is an object or true");
    };
    let options = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    map.insert("x-guidance".to_owned(), options);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// Sets bounds to all numbers without.
fn bound(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(map) => {
            if map.get("type").is_some_and(has_numbers) {
                bound_side(map, ["minimum", "exclusiveMinimum"], ["maximum", "exclusiveMaximum"], -1);
                bound_side(map, ["maximum", "exclusiveMaximum"], ["minimum", "exclusiveMinimum"], 1);
            }
            let schemas = map.iter_mut().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            schemas.for_each(|(_, value)| bound(value));
        }
        _ => {}
    }
}

fn has_numbers(kind: &Value) -> bool {
    let number = |kind: &Value| kind == "number" || kind == "integer";
    number(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(number))
}

/// Sets the bound on the side of `sign` unless there is one, or the other side lies beyond it.
fn bound_side(map: &mut Map<String, Value>, side: [&str; 2], other: [&str; 2], sign: i64) {
    let bound = sign * LARGEST;
    let beyond = |value: &Value| value.as_f64().is_none_or(|value| value * sign as f64 >= LARGEST as f64);
    let given = side.iter().any(|key| map.contains_key(*key));
    if !given && !other.iter().filter_map(|key| map.get(*key)).any(beyond) {
        map.insert(side[0].to_owned(), json!(bound));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_get_bounds() {
        fn check(schema: Value, expected: Value) {
            let mut got = schema;
            bound(&mut got);
            assert_eq!(got, expected);
        }
        let (low, high) = (-LARGEST, LARGEST);
        check(json!({"type": "string"}), json!({"type": "string"}));
        check(json!({"type": "integer"}), json!({"type": "integer", "minimum": low, "maximum": high}));
        check(
            json!({"items": {"type": ["null", "number"], "exclusiveMinimum": 0}}),
            json!({"items": {"type": ["null", "number"], "exclusiveMinimum": 0, "maximum": high}}),
        );
        check(json!({"type": "number", "minimum": 1e20}), json!({"type": "number", "minimum": 1e20}));
        let value = json!({"const": {"type": "integer"}, "enum": [{"type": "number"}]});
        check(value.clone(), value);
        check(
            json!({"properties": {"type": {"type": "number", "maximum": 1, "minimum": 0}}}),
            json!({"properties": {"type": {"type": "number", "maximum": 1, "minimum": 0}}}),
        );
    }
}
