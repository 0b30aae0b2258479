//! Schemas before and after their numbers are bounded.
//!
//! Bounds are written as the grammar library gets them, so floats appear among integers.

use super::*;

fn check(schema: Value, expected: Value) {
    let mut got = schema;
    bound_numbers(&mut got).unwrap();
    assert_eq!(got, expected);
}

fn refused(schema: Value, part: &str) {
    let mut schema = schema;
    let error = bound_numbers(&mut schema).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn numbers_get_a_last_digit() {
    let (low, high) = (-999_999_999_999_999_i64, 999_999_999_999_999_i64);
    check(json!({"type": "integer"}), json!({"type": "integer", "minimum": low, "maximum": high}));
    check(
        json!({"type": "number"}),
        json!({"type": "number", "minimum": low, "maximum": high, "multipleOf": DEFAULT_STEP}),
    );
    check(
        json!({"items": {"type": ["null", "number"], "minimum": 0, "exclusiveMaximum": 1}}),
        json!({"items": {"type": ["null", "number"], "minimum": 0, "maximum": 0.999_999_99, "multipleOf": DEFAULT_STEP}}),
    );
    let narrow = json!({"type": "number", "minimum": 0, "maximum": 1e-8});
    check(narrow.clone(), narrow);
    let multiples = json!({"allOf": [{"type": "number", "minimum": 0, "maximum": 9}, {"multipleOf": 300}]});
    check(multiples.clone(), multiples);
    let fine =
        json!({"properties": {"a": {"type": "number", "minimum": 0, "maximum": 1}, "b": {"const": 1e-9}}});
    check(fine.clone(), fine);
}

#[test]
fn numbers_get_bounds() {
    let (low, high) = (-999_999_999_999_999_i64, 999_999_999_999_999_i64);
    check(json!({"type": "string"}), json!({"type": "string"}));
    check(
        json!({"items": {"type": ["null", "integer"], "exclusiveMinimum": 0}}),
        json!({"items": {"type": ["null", "integer"], "minimum": 1.0, "maximum": high}}),
    );
    check(
        json!({"type": "integer", "minimum": 2e15}),
        json!({"type": "integer", "minimum": 2e15, "maximum": 100_000_000_000_000_000_i64}),
    );
    let most = 9_200_000_000_000_000_000_i64;
    check(
        json!({"type": "integer", "minimum": 1e18}),
        json!({"type": "integer", "minimum": 1e18, "maximum": most}),
    );
    check(
        json!({"type": "integer", "maximum": 1e19}),
        json!({"type": "integer", "minimum": -most, "maximum": most}),
    );
    let value = json!({"const": {"type": "integer"}, "enum": [{"type": "number"}]});
    check(value.clone(), value);
    let ids = json!({"type": "integer", "enum": [1_700_000_000_000_000_i64, 1_i64 << 60]});
    check(ids.clone(), ids);
    check(
        json!({"properties": {"type": {"type": "integer", "maximum": 1, "minimum": 0}, "minimum": {"type": "integer"}}}),
        json!({"properties": {
            "type": {"type": "integer", "maximum": 1, "minimum": 0},
            "minimum": {"type": "integer", "minimum": low, "maximum": high}
        }}),
    );
    refused(json!({"type": "integer", "minimum": 1e19}), "invalid minimum `1");
    refused(json!({"const": 1_234_567_890_123_456_789_i64}), "1234567890123456789 in const or enum");
    refused(json!({"enum": [{"a": [18_446_744_073_709_551_615_u64]}]}), "18446744073709551615");
}

#[test]
fn exclusive_bounds_move_inwards() {
    fn moved(schema: Value, low: f64, high: f64) {
        let mut got = schema;
        for_each_schema(&mut got, &mut close_bounds).unwrap();
        assert!(got.get("exclusiveMinimum").is_none() && got.get("exclusiveMaximum").is_none());
        assert_eq!([&got["minimum"], &got["maximum"]].map(|end| end.as_f64().unwrap()), [low, high], "{got}");
    }
    moved(json!({"exclusiveMinimum": 0, "maximum": 0.5}), 1e-8, 0.5);
    moved(json!({"exclusiveMinimum": 0, "exclusiveMaximum": 1e-9}), 1e-12, 1e-9 - 1e-12);
    moved(json!({"minimum": -1.5, "exclusiveMaximum": -1}), -1.5, -1.000_000_01);
    moved(json!({"minimum": 3, "exclusiveMinimum": 2, "maximum": 4}), 3.0, 4.0);
    moved(json!({"minimum": 2, "exclusiveMinimum": true, "maximum": 4}), 2.000_000_01, 4.0);
    moved(json!({"type": "integer", "exclusiveMinimum": 0.5, "exclusiveMaximum": 3}), 1.0, 2.0);
    let large = 9_007_199_254_740_993_i64;
    moved(json!({"minimum": large, "maximum": large + 4}), large as f64 + 2.0, large as f64 + 4.0);
    refused(json!({"exclusiveMinimum": 1, "exclusiveMaximum": 1}), "no number lies between");
}

#[test]
fn multiples_that_overflow_are_refused() {
    refused(json!({"allOf": [{"multipleOf": 65_537}, {"multipleOf": 65_539}]}), "different values");
    refused(json!({"allOf": [{"multipleOf": 0.000_001}, {"multipleOf": 3_000_000}]}), "different values");
    for fine in [
        json!({"allOf": [{"multipleOf": 0.5}, {"multipleOf": 3}]}),
        json!({"properties": {"a": {"multipleOf": 65_537}, "b": {"multipleOf": 65_539}}}),
    ] {
        check(fine.clone(), fine);
    }
}
