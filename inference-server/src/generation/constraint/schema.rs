//! JSON schemas as the grammar library gets them.

use anyhow::{Result, bail};
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

/// Numbers are at most this large where the schema has no bound: a model that may go on with digits sometimes does so
/// to the end, and beyond 15 digits readers disagree on the value.
const LARGEST: i64 = 999_999_999_999_999;
/// Numbers have at most eight digits behind the point where the schema says nothing of multiples, for the same reason.
const FINEST: f64 = 1e-8;
const LOW: [&str; 2] = ["minimum", "exclusiveMinimum"];
const HIGH: [&str; 2] = ["maximum", "exclusiveMaximum"];
const MULTIPLES: &str = "multipleOf";
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
    if !speaks_of_multiples(&schema) {
        round(&mut schema);
    }
    let Some(map) = schema.as_object_mut() else {
        bail!("a schema is an object or true");
    };
    let options = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    map.insert("x-guidance".to_owned(), options);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// Does this to every schema in a schema.
fn each(schema: &mut Value, change: &impl Fn(&mut Map<String, Value>)) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, change)),
        Value::Object(map) => {
            change(map);
            let schemas = map.iter_mut().filter(|(key, _)| !VALUES.contains(&key.as_str()));
            schemas.for_each(|(_, value)| each(value, change));
        }
        _ => {}
    }
}

/// Sets bounds to all numbers without.
fn bound(schema: &mut Value) {
    each(schema, &|map| {
        if is_of(map, &["number", "integer"]) {
            bound_side(map, LOW, HIGH, -1);
            bound_side(map, HIGH, LOW, 1);
        }
    });
}

/// Sets the digits behind the point of all numbers that have room for them.
fn round(schema: &mut Value) {
    each(schema, &|map| {
        let end = |side: [&str; 2]| side.iter().filter_map(|key| map.get(*key)).find_map(Value::as_f64);
        let wide = |(low, high): (f64, f64)| high - low >= 4.0 * FINEST;
        if is_of(map, &["number"]) && end(LOW).zip(end(HIGH)).is_none_or(wide) {
            map.insert(MULTIPLES.to_owned(), json!(FINEST));
        }
    });
}

/// Whether it does anywhere: the grammar library joins multiples of several schemas in 32 bits.
fn speaks_of_multiples(schema: &Value) -> bool {
    match schema {
        Value::Array(items) => items.iter().any(speaks_of_multiples),
        Value::Object(map) => map.iter().any(|(key, value)| key == MULTIPLES || speaks_of_multiples(value)),
        _ => false,
    }
}

fn is_of(map: &Map<String, Value>, wanted: &[&str]) -> bool {
    let is = |kind: &Value| kind.as_str().is_some_and(|kind| wanted.contains(&kind));
    map.get("type").is_some_and(|kind| is(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is)))
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
    fn numbers_get_a_last_digit() {
        fn check(schema: Value, expected: Value) {
            let mut got = schema;
            round(&mut got);
            assert_eq!(got, expected);
        }
        check(json!({"type": "integer"}), json!({"type": "integer"}));
        check(json!({"type": "number"}), json!({"type": "number", "multipleOf": FINEST}));
        check(
            json!({"items": {"type": ["null", "number"], "minimum": 0, "exclusiveMaximum": 1}}),
            json!({"items": {"type": ["null", "number"], "minimum": 0, "exclusiveMaximum": 1, "multipleOf": FINEST}}),
        );
        let narrow = json!({"type": "number", "minimum": 0, "maximum": 1e-8});
        check(narrow.clone(), narrow);
        assert!(speaks_of_multiples(&json!({"allOf": [{"type": "number"}, {"multipleOf": 300}]})));
        assert!(!speaks_of_multiples(&json!({"type": "number", "enum": ["multipleOf"]})));
    }

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
