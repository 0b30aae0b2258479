//! Grammars of JSON schemas.
//!
//! A schema is adapted to the grammar library before it is compiled: annotations the library does
//! not know are removed, and bounds of numbers are changed to ones it enforces exactly
//! ([`numbers`]).

mod numbers;
mod walk;

use anyhow::{Result, bail};
use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use walk::for_each_schema;

/// Formats that the grammar library enforces. Any other is an annotation, as JSON Schema specifies
/// for unknown formats.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Builds the grammar of a schema.
///
/// White space is one space after each comma and colon: models that may generate white space
/// sometimes do so up to the limit, and fixed white space is forced, which saves forward passes.
///
/// # Errors
/// If the schema is not JSON, or uses numbers or patterns that are not supported.
pub(super) fn grammar(schema: &str) -> Result<TopLevelGrammar> {
    let mut schema = match serde_json::from_str(schema)? {
        // The two are the same schema, and the library takes objects only.
        Value::Bool(true) => json!({}),
        schema => schema,
    };
    for_each_schema(&mut schema, &mut |map| {
        remove_annotations(map);
        map.get("pattern").and_then(Value::as_str).map_or(Ok(()), super::regex::check_shortest_match)
    })?;
    numbers::bound_numbers(&mut schema)?;
    let Some(map) = schema.as_object_mut() else {
        bail!("expected an object or true");
    };
    let options = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    map.insert("x-guidance".to_owned(), options);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// Removes keywords that constrain nothing and that the grammar library does not know.
fn remove_annotations(map: &mut Map<String, Value>) {
    let format = map.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| !FORMATS.contains(&format)) {
        map.remove("format");
    }
    let one = map.get("maxItems").and_then(Value::as_u64).is_some_and(|most| most <= 1);
    let (has_if, has_contains) = (map.contains_key("if"), map.contains_key("contains"));
    let has_branch = map.contains_key("then") || map.contains_key("else");
    // The library refuses keywords it does not know even where they constrain nothing, as schemas
    // of real programs have them.
    map.retain(|key, value| {
        let is_annotation = match key.as_str() {
            "uniqueItems" => *value == json!(false) || (one && *value == json!(true)),
            "unevaluatedItems" | "unevaluatedProperties" | "propertyNames" => {
                *value == json!(true) || *value == json!({})
            }
            "dependentRequired" | "dependentSchemas" | "dependencies" => *value == json!({}),
            "not" => *value == json!(false),
            "if" => !has_branch,
            "then" | "else" => !has_if,
            "minContains" | "maxContains" => !has_contains,
            "deprecated" | "contentSchema" => true,
            _ => false,
        };
        !is_annotation
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_removed() {
        fn check(schema: Value, expected: Value) {
            let mut got = schema;
            for_each_schema(&mut got, &mut |map| {
                remove_annotations(map);
                Ok(())
            })
            .unwrap();
            assert_eq!(got, expected);
        }
        for format in ["binary", "password", "path", "regex", "ipvanyaddress", "uri-reference"] {
            check(json!({"type": "string", "format": format}), json!({"type": "string"}));
        }
        for schema in [
            json!({"type": "string", "format": "date-time"}),
            json!({"type": "string", "format": 7}),
            json!({"type": "array", "uniqueItems": true}),
            json!({"not": {"type": "string"}}),
            json!({"if": {"type": "string"}, "then": {"minLength": 1}}),
            json!({"properties": {"format": {"type": "string"}, "not": false, "deprecated": true}}),
            json!({"enum": [{"format": "binary", "uniqueItems": false}]}),
        ] {
            check(schema.clone(), schema);
        }
        check(
            json!({"items": {"anyOf": [{"uniqueItems": false, "deprecated": true}]}}),
            json!({"items": {"anyOf": [{}]}}),
        );
        check(json!({"uniqueItems": true, "maxItems": 1}), json!({"maxItems": 1}));
        check(json!({"unevaluatedProperties": true, "dependentRequired": {}, "not": false}), json!({}));
        check(json!({"then": {"minLength": 1}, "minContains": 2}), json!({}));
        check(json!({"if": {"minLength": 1}}), json!({}));
    }
}
