//! Bounds on the work of constraints, and bounds of numbers.
//!
//! Texts are random as in the parent module; what matters here is how long they take.

use std::time::Duration;

use super::*;

/// Any constraint is enforced or refused, and neither takes long.
#[test]
fn work_on_a_constraint_is_bounded() {
    let rig = rig(byte_level());
    let prepared = |constraint: Constraint, left: usize| -> Result<Matcher, ConstraintError> {
        let mut matcher = rig.compiler.compile(&constraint)?;
        matcher.prepare(left, true).map(|()| matcher)
    };
    let regex = |regex: &str| Constraint::Regex(regex.to_owned());
    let schema = |schema: Value| Constraint::JsonSchema(schema.to_string());
    let long = "(a{1000}){1000}";
    for (constraint, part) in [
        (regex(long), "its shortest match has 1000000 bytes"),
        (regex("((a{1000}){1000}){1000}"), "its shortest match has 1000000000 bytes"),
        (regex("x?(á|é){40000}"), "its shortest match has 80000 bytes"),
        (schema(json!({"items": {"type": "string", "pattern": long}})), "its shortest match has"),
        (Constraint::Lark(format!("start: /((a{{1000}}){{1000}}){{50}}/ | /{long}b/")), TOO_MUCH_WORK),
        (schema(json!({"$ref": "#"})), "no tokens of the model"),
        (
            schema(json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})),
            TOO_MUCH_WORK,
        ),
    ] {
        let error = prepared(constraint.clone(), 2_000).unwrap_err().to_string();
        assert!(error.contains(part), "{constraint:?}: {error}");
    }
    for fine in [".*a.{200}", "(a*)*b", "(x+x+)+y", "a{3000}", "(\\w{50}){50}"] {
        let mut matcher = prepared(regex(fine), 300).unwrap_or_else(|error| panic!("{fine}: {error}"));
        matcher.mask(300).unwrap();
    }
}

/// The expensive part follows a choice, so it is reached during generation only.
#[test]
fn work_on_a_text_is_bounded() {
    let rig = rig(byte_level());
    let regex = "b|a((c{1000}){1000}){50}";
    let mut matcher = rig.compiler.compile(&Constraint::Regex(regex.to_owned())).unwrap();
    matcher.prepare(900, true).unwrap();
    assert!(matcher.take_forced_prefix().is_empty());
    let a = rig.tokenizer.token_to_id("a").unwrap();
    let followed = matcher.accept(a, 900).and_then(|_| matcher.accept_forced(&mut 899));
    assert_eq!(followed.unwrap_err(), ConstraintError::Failed(TOO_MUCH_WORK.to_owned()));
    assert!(matcher.processor_time() < Duration::from_secs(10), "{:?}", matcher.processor_time());
    assert!(matcher.mask(800).is_err(), "it stays refused");
}

#[test]
fn numbers_keep_to_their_bounds() {
    let rig = rig(byte_level());
    let exclusive =
        |low: f64, high: Value| json!({"type": "number", "exclusiveMinimum": low, "maximum": high});
    let mut schemas: Vec<Value> =
        [0.5, 0.1, 0.05, 0.01, 0.001, 1e-9].map(|high| exclusive(0.0, json!(high))).to_vec();
    schemas.extend([
        exclusive(1.0, json!(1.5)),
        exclusive(-2.0, json!(-1.25)),
        json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01}),
        json!({"type": "number", "minimum": -0.5, "exclusiveMaximum": 0}),
        json!({"type": "number", "minimum": -7.25, "exclusiveMaximum": -7}),
        json!({"type": "number", "exclusiveMinimum": 0, "maximum": 2, "multipleOf": 0.25}),
        json!({"allOf": [{"type": "number"}, {"exclusiveMinimum": 3}, {"maximum": 3.5}]}),
        json!({"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 2}),
        json!({"type": "integer", "minimum": 9_007_199_254_740_993_i64, "maximum": 9_007_199_254_741_000_i64}),
        json!({"type": "integer", "const": 1_700_000_000_000_000_i64}),
        json!({"type": "integer", "enum": [1_700_000_000_000_001_i64, 1_i64 << 60, -5]}),
        json!({"type": "integer", "minimum": 1_000_000_000_000_000_000_i64}),
    ]);
    for seed in 0..(runs() / 2).max(schemas.len() as u64 * 4) {
        let schema = &schemas[seed as usize % schemas.len()];
        let got = rig.generate(&Constraint::JsonSchema(schema.to_string()), seed, 40, seed % 2 == 0);
        assert!(got.complete, "{seed}: {schema} cut to {}", got.text);
        let value: Value = serde_json::from_str(&got.text).unwrap();
        let validator = jsonschema::validator_for(schema).unwrap();
        assert!(validator.is_valid(&value), "{seed}: {schema} does not allow {}", got.text);
    }
}

#[test]
fn annotations_are_no_constraints() {
    let rig = rig(byte_level());
    for schema in [
        json!({"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}, "uniqueItems": false, "maxItems": 2}),
        json!({"type": "string", "format": "binary", "maxLength": 4}),
        json!({"type": "string", "format": "ipvanyaddress", "deprecated": true, "maxLength": 4}),
    ] {
        let got = rig.generate(&Constraint::JsonSchema(schema.to_string()), 3, 60, true);
        assert!(got.complete, "{schema}");
    }
    let unique = json!({"type": "array", "uniqueItems": true}).to_string();
    let refused = rig.compiler.compile(&Constraint::JsonSchema(unique)).unwrap_err().to_string();
    assert!(refused.contains("uniqueItems"), "{refused}");
}
