//! Bounds of numbers that the grammar library keeps to.
//!
//! It reads them as f64 and writes them as patterns of digits. Where that would let another number
//! through than the schema does, the bound is moved inwards or the schema refused: what is written
//! is valid, or nothing is.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Number, Value, json};

use super::each;

/// Numbers are at most this large where the schema speaks of no larger one: a model that may go on
/// with digits sometimes does so to the end, and beyond 15 digits readers disagree on the value.
const LARGEST: f64 = 999_999_999_999_999.0;
/// Numbers have at most eight digits behind the point where the schema says nothing of multiples,
/// for the same reason.
const FINEST: f64 = 1e-8;
/// Digits behind the point of [`FINEST`].
const DIGITS: usize = 8;
/// Whole numbers are exact up to here.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// The grammar library counts up to here.
const MOST: f64 = 9.2e18;
const MULTIPLES: &str = "multipleOf";

/// One side of a range.
#[derive(Clone, Copy)]
struct Side {
    inclusive: &'static str,
    exclusive: &'static str,
    /// 1 where larger numbers are further inside.
    inwards: f64,
}

const LOW: Side = Side { inclusive: "minimum", exclusive: "exclusiveMinimum", inwards: 1.0 };
const HIGH: Side = Side { inclusive: "maximum", exclusive: "exclusiveMaximum", inwards: -1.0 };

/// Moves bounds to where they are kept, and sets those that keep a number short.
///
/// # Errors
/// Names what cannot be kept to.
pub(super) fn settle(schema: &mut Value) -> Result<()> {
    let mut spoken = Spoken::default();
    each(schema, &mut |map| spoken.hear(map))?;
    spoken.check()?;
    each(schema, &mut close)?;
    each(schema, &mut |map| {
        spoken.bound(map);
        Ok(())
    })?;
    if spoken.multiples.is_empty() && spoken.digits <= DIGITS {
        each(schema, &mut |map| {
            round(map);
            Ok(())
        })?;
    }
    Ok(())
}

/// What a whole schema says of numbers.
#[derive(Debug, Default)]
struct Spoken {
    /// The largest one.
    largest: f64,
    /// Most digits behind the point of one that is asked for itself.
    digits: usize,
    multiples: Vec<f64>,
    /// Whether schemas are joined, which joins their multiples.
    joins: bool,
}

impl Spoken {
    fn hear(&mut self, map: &Map<String, Value>) -> Result<()> {
        for side in [LOW, HIGH] {
            for key in [side.inclusive, side.exclusive] {
                if let Some(value) = map.get(key).and_then(Value::as_f64) {
                    self.largest = self.largest.max(value.abs());
                }
            }
        }
        if let Some(multiple) = map.get(MULTIPLES).and_then(Value::as_f64) {
            self.multiples.push(multiple.abs());
        }
        self.joins |= ["allOf", "anyOf", "oneOf", "$ref"].iter().any(|key| map.contains_key(*key));
        for key in ["const", "enum"] {
            map.get(key).map_or(Ok(()), |value| self.hear_value(value))?;
        }
        Ok(())
    }

    /// A value that is to be written as it is.
    fn hear_value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.hear_value(item)),
            Value::Object(map) => map.values().try_for_each(|value| self.hear_value(value)),
            Value::Number(number) => {
                ensure!(
                    is_exact(number),
                    "the number {number} in const or enum cannot be kept exactly; those up to {EXACT} can, and \
                     beyond them whole numbers that a 64-bit float has"
                );
                let value = number.as_f64().unwrap_or_default();
                let text = value.to_string();
                self.digits = self.digits.max(text.split_once('.').map_or(0, |(_, digits)| digits.len()));
                self.largest = self.largest.max(value.abs());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The grammar library joins multiples of several schemas in 32 bits, and does not notice where
    /// they overflow.
    fn check(&self) -> Result<()> {
        let mut seen: Vec<f64> = self.multiples.clone();
        seen.sort_unstable_by(f64::total_cmp);
        seen.dedup();
        if seen.len() < 2 || !self.joins {
            return Ok(());
        }
        let decimals: Vec<(u128, usize)> = seen.iter().map(|multiple| decimal(*multiple)).collect();
        let digits = decimals.iter().map(|(_, digits)| *digits).max().unwrap_or_default();
        let mut common: u128 = 1;
        for (number, own) in decimals {
            let scale = u32::try_from(digits - own).ok().and_then(|more| 10_u128.checked_pow(more));
            let scaled = scale.and_then(|scale| number.checked_mul(scale)).filter(|scaled| *scaled > 0);
            // The product of two is what it computes on the way.
            let product = scaled.and_then(|scaled| Some((scaled, common.checked_mul(scaled)?)));
            match product {
                Some((scaled, product)) if product <= u128::from(u32::MAX) => {
                    common = product / greatest_common_divisor(common, scaled);
                }
                _ => bail!(
                    "multipleOf has {} different values, which are too many digits together",
                    seen.len()
                ),
            }
        }
        Ok(())
    }

    /// Sets bounds to numbers without.
    fn bound(&self, map: &mut Map<String, Value>) {
        if !is_of(map, &["number", "integer"]) || is_given(map) {
            return;
        }
        let limit = if self.largest <= LARGEST {
            LARGEST
        } else {
            10_f64.powi(self.largest.log10().ceil() as i32 + 1).min(MOST)
        };
        for (side, other) in [(LOW, HIGH), (HIGH, LOW)] {
            let end = -side.inwards * limit;
            let beyond =
                |value: &Value| value.as_f64().is_none_or(|value| (value - end) * side.inwards <= 0.0);
            let given = map.contains_key(side.inclusive);
            if !given && !map.get(other.inclusive).is_some_and(beyond) {
                map.insert(side.inclusive.to_owned(), json!(end as i64));
            }
        }
    }
}

fn greatest_common_divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The digits of a positive number, and how many of them are behind the point.
fn decimal(number: f64) -> (u128, usize) {
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    (format!("{whole}{part}").parse().unwrap_or(u128::MAX), part.len())
}

/// Whether the grammar library writes exactly this number.
fn is_exact(number: &Number) -> bool {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), Some(float)) => float.abs() < MOST && float as i64 == whole,
        (None, Some(float)) => float.abs() < EXACT,
        _ => false,
    }
}

/// Whether the schema lists its values.
fn is_given(map: &Map<String, Value>) -> bool {
    map.contains_key("const") || map.contains_key("enum")
}

fn is_of(map: &Map<String, Value>, wanted: &[&str]) -> bool {
    let is = |kind: &Value| kind.as_str().is_some_and(|kind| wanted.contains(&kind));
    map.get("type").is_some_and(|kind| is(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is)))
}

impl Side {
    /// The bound on this side, rounded inwards, and whether it is itself outside.
    fn of(self, map: &Map<String, Value>) -> Option<(f64, bool)> {
        let number = |key: &str| map.get(key).and_then(Value::as_number).map(|number| self.rounded(number));
        let inclusive = number(self.inclusive);
        let exclusive = match map.get(self.exclusive) {
            // As drafts up to 4 have it.
            Some(Value::Bool(true)) => inclusive,
            _ => number(self.exclusive),
        };
        match (inclusive, exclusive) {
            (Some(inclusive), Some(exclusive)) if (inclusive - exclusive) * self.inwards > 0.0 => {
                Some((inclusive, false))
            }
            (_, Some(exclusive)) => Some((exclusive, true)),
            (inclusive, None) => inclusive.map(|inclusive| (inclusive, false)),
        }
    }

    /// A number as f64, not further out.
    fn rounded(self, number: &Number) -> f64 {
        let float = number.as_f64().unwrap_or_default();
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        let outside = whole.is_some_and(|whole| match self.inwards > 0.0 {
            true => (float as i128) < whole,
            false => (float as i128) > whole,
        });
        if outside { self.next(float) } else { float }
    }

    /// The next f64 inwards.
    fn next(self, float: f64) -> f64 {
        if self.inwards > 0.0 { float.next_up() } else { float.next_down() }
    }

    /// A bound just inside of one that is itself outside; `far` is the other end.
    fn inside(self, bound: f64, far: Option<f64>, whole: bool) -> f64 {
        if whole {
            let next = if self.inwards > 0.0 { bound.floor() + 1.0 } else { bound.ceil() - 1.0 };
            return if bound.abs() < EXACT { next } else { self.next(bound) };
        }
        let width = far.map(|far| (far - bound) * self.inwards).filter(|width| *width > 0.0);
        let fine = |width: f64| 10_f64.powi((width / 1_000.0).log10().floor() as i32);
        let mut step = width.map_or(FINEST, |width| fine(width).min(FINEST));
        while (bound + self.inwards * step) == bound && step < MOST {
            step *= 10.0;
        }
        bound + self.inwards * step
    }
}

/// Makes bounds that are themselves outside such that are inside.
fn close(map: &mut Map<String, Value>) -> Result<()> {
    let ends = [LOW, HIGH].map(|side| side.of(map));
    let whole = is_of(map, &["integer"]) && !is_of(map, &["number"]);
    for (index, side) in [LOW, HIGH].into_iter().enumerate() {
        let Some((bound, outside)) = ends[index] else { continue };
        let far = ends[1 - index].map(|(far, _)| far);
        let end = if outside { side.inside(bound, far, whole) } else { bound };
        let given = map.get(side.inclusive).and_then(Value::as_f64);
        let crossed = far.is_some_and(|far| (far - end) * side.inwards < 0.0);
        ensure!(
            !(outside && crossed),
            "no number lies between {} {bound} and the other end of its range",
            side.exclusive
        );
        ensure!(
            end.abs() <= MOST || end * side.inwards < 0.0,
            "{} is {bound}; allowed is what 64 bits hold",
            side.inclusive
        );
        map.remove(side.exclusive);
        if end.abs() > MOST {
            map.remove(side.inclusive);
        } else if outside || given != Some(end) || !is_short(map.get(side.inclusive)) {
            map.insert(side.inclusive.to_owned(), json!(end));
        }
    }
    Ok(())
}

/// Whether a number is the same as f64.
fn is_short(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_number)
        .is_none_or(|number| !number.is_u64() && !number.is_i64() || is_exact(number))
}

/// Sets the digits behind the point of a number that has room for them.
fn round(map: &mut Map<String, Value>) {
    let end = |side: Side| map.get(side.inclusive).and_then(Value::as_f64);
    let wide = |(low, high): (f64, f64)| high - low >= 4.0 * FINEST;
    if is_of(map, &["number"]) && !is_given(map) && end(LOW).zip(end(HIGH)).is_none_or(wide) {
        map.insert(MULTIPLES.to_owned(), json!(FINEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, expected: Value) {
        let mut got = schema;
        settle(&mut got).unwrap();
        assert_eq!(got, expected);
    }

    fn refused(schema: Value, part: &str) {
        let mut schema = schema;
        let error = settle(&mut schema).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn numbers_get_a_last_digit() {
        let (low, high) = (-999_999_999_999_999_i64, 999_999_999_999_999_i64);
        check(json!({"type": "integer"}), json!({"type": "integer", "minimum": low, "maximum": high}));
        check(
            json!({"type": "number"}),
            json!({"type": "number", "minimum": low, "maximum": high, "multipleOf": FINEST}),
        );
        check(
            json!({"items": {"type": ["null", "number"], "minimum": 0, "exclusiveMaximum": 1}}),
            json!({"items": {"type": ["null", "number"], "minimum": 0, "maximum": 0.999_999_99, "multipleOf": FINEST}}),
        );
        let narrow = json!({"type": "number", "minimum": 0, "maximum": 1e-8});
        check(narrow.clone(), narrow);
        let multiples =
            json!({"allOf": [{"type": "number", "minimum": 0, "maximum": 9}, {"multipleOf": 300}]});
        check(multiples.clone(), multiples);
        let fine = json!({"properties": {"a": {"type": "number", "minimum": 0, "maximum": 1}, "b": {"const": 1e-9}}});
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
        refused(json!({"type": "integer", "minimum": 1e19}), "minimum is 1");
        refused(json!({"const": 1_234_567_890_123_456_789_i64}), "1234567890123456789 in const or enum");
        refused(json!({"enum": [{"a": [18_446_744_073_709_551_615_u64]}]}), "18446744073709551615");
    }

    #[test]
    fn exclusive_bounds_move_inwards() {
        fn moved(schema: Value, low: f64, high: f64) {
            let mut got = schema;
            each(&mut got, &mut close).unwrap();
            assert!(got.get("exclusiveMinimum").is_none() && got.get("exclusiveMaximum").is_none());
            assert_eq!(
                [&got["minimum"], &got["maximum"]].map(|end| end.as_f64().unwrap()),
                [low, high],
                "{got}"
            );
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
}
