//! Bounds of numbers in JSON schemas, as the grammar library enforces them.
//!
//! The library reads bounds as f64 and turns them into patterns of digits. If that would admit a
//! number that the schema does not, the bound is moved inwards or the schema refused: a generated
//! number is valid, or none is generated.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Number, Value, json};

use super::walk::for_each_schema;

/// Bound of numbers if the schema mentions no larger one: models that may generate digits sometimes
/// do so up to the limit, and beyond 15 digits an f64 is not exact.
const DEFAULT_BOUND: f64 = 999_999_999_999_999.0;
/// Step of numbers if the schema has no `multipleOf`, for the same reason: eight decimals.
const DEFAULT_STEP: f64 = 1e-8;
/// Decimals of [`DEFAULT_STEP`].
const DEFAULT_DECIMALS: usize = 8;
/// Largest integer up to which an f64 is exact: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// Largest number that the grammar library supports: it counts in i64.
const MAX_SUPPORTED: f64 = 9.2e18;
const MULTIPLE_OF: &str = "multipleOf";

/// One side of a range.
#[derive(Clone, Copy)]
struct Side {
    inclusive: &'static str,
    exclusive: &'static str,
    /// 1 if larger numbers lie further inside the range, else -1.
    inwards: f64,
}

const LOW: Side = Side { inclusive: "minimum", exclusive: "exclusiveMinimum", inwards: 1.0 };
const HIGH: Side = Side { inclusive: "maximum", exclusive: "exclusiveMaximum", inwards: -1.0 };

/// Moves bounds to values that are enforced exactly, and adds bounds that keep numbers short.
///
/// # Errors
/// If the schema asks for numbers that cannot be enforced.
pub(super) fn bound_numbers(schema: &mut Value) -> Result<()> {
    // Three walks: what is added to one schema depends on the numbers of all, since schemas are
    // combined.
    let mut usage = NumberUsage::default();
    for_each_schema(schema, &mut |map| usage.visit(map))?;
    usage.check_multiples()?;
    for_each_schema(schema, &mut close_bounds)?;
    for_each_schema(schema, &mut |map| {
        usage.add_bounds(map);
        Ok(())
    })?;
    // A step in one schema would be joined with the multiples of another.
    if usage.multiples.is_empty() && usage.decimals <= DEFAULT_DECIMALS {
        for_each_schema(schema, &mut |map| {
            add_step(map);
            Ok(())
        })?;
    }
    Ok(())
}

/// Use of numbers in a whole schema.
#[derive(Debug, Default)]
struct NumberUsage {
    /// Largest absolute value.
    largest: f64,
    /// Most decimals of a number in `const` or `enum`.
    decimals: usize,
    /// Values of `multipleOf`.
    multiples: Vec<f64>,
    /// True if schemas are combined, which combines their multiples.
    combines: bool,
}

impl NumberUsage {
    fn visit(&mut self, map: &Map<String, Value>) -> Result<()> {
        for side in [LOW, HIGH] {
            for key in [side.inclusive, side.exclusive] {
                if let Some(value) = map.get(key).and_then(Value::as_f64) {
                    self.largest = self.largest.max(value.abs());
                }
            }
        }
        if let Some(multiple) = map.get(MULTIPLE_OF).and_then(Value::as_f64) {
            self.multiples.push(multiple.abs());
        }
        self.combines |= ["allOf", "anyOf", "oneOf", "$ref"].iter().any(|key| map.contains_key(*key));
        for key in ["const", "enum"] {
            map.get(key).map_or(Ok(()), |value| self.visit_value(value))?;
        }
        Ok(())
    }

    /// Visits a value of `const` or `enum`, which is generated as it is.
    fn visit_value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.visit_value(item)),
            Value::Object(map) => map.values().try_for_each(|value| self.visit_value(value)),
            Value::Number(number) => {
                ensure!(
                    is_exact(number),
                    "unsupported number {number} in const or enum: expected one below {MAX_EXACT}, or an integer \
                     that a 64-bit float represents exactly"
                );
                let value = number.as_f64().unwrap_or_default();
                let text = value.to_string();
                self.decimals = self.decimals.max(text.split_once('.').map_or(0, |(_, digits)| digits.len()));
                self.largest = self.largest.max(value.abs());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Checks that multiples can be combined. The grammar library combines those of several schemas
    /// in 32 bits, and does not notice an overflow.
    fn check_multiples(&self) -> Result<()> {
        let mut seen: Vec<f64> = self.multiples.clone();
        seen.sort_unstable_by(f64::total_cmp);
        // Equal steps have themselves as their common multiple.
        seen.dedup();
        if seen.len() < 2 || !self.combines {
            return Ok(());
        }
        let decimals: Vec<(u128, usize)> = seen.iter().map(|multiple| decimal(*multiple)).collect();
        let digits = decimals.iter().map(|(_, digits)| *digits).max().unwrap_or_default();
        let mut common: u128 = 1;
        for (number, own) in decimals {
            let scale = u32::try_from(digits - own).ok().and_then(|more| 10_u128.checked_pow(more));
            let scaled = scale.and_then(|scale| number.checked_mul(scale)).filter(|scaled| *scaled > 0);
            // The library computes the product of two on its way to their least common multiple.
            let product = scaled.and_then(|scaled| Some((scaled, common.checked_mul(scaled)?)));
            match product {
                Some((scaled, product)) if product <= u128::from(u32::MAX) => {
                    common = product / greatest_common_divisor(common, scaled);
                }
                _ => bail!(
                    "multipleOf has {} different values, which together have too many digits",
                    seen.len()
                ),
            }
        }
        Ok(())
    }

    /// Adds bounds to a number schema that has none.
    fn add_bounds(&self, map: &mut Map<String, Value>) {
        if !has_type(map, &["number", "integer"]) || lists_values(map) {
            return;
        }
        // Beyond the largest number of the schema, so that no bound of its own is cut.
        let limit = if self.largest <= DEFAULT_BOUND {
            DEFAULT_BOUND
        } else {
            10_f64.powi(self.largest.log10().ceil() as i32 + 1).min(MAX_SUPPORTED)
        };
        for (side, other) in [(LOW, HIGH), (HIGH, LOW)] {
            let end = -side.inwards * limit;
            let given = map.contains_key(side.inclusive);
            // A bound beyond the other one would leave no number.
            let crossed = map
                .get(other.inclusive)
                .is_some_and(|value| value.as_f64().is_none_or(|value| (value - end) * side.inwards <= 0.0));
            if !given && !crossed {
                map.insert(side.inclusive.to_owned(), json!(end as i64));
            }
        }
    }
}

fn greatest_common_divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Digits of a positive number, and how many of them are decimals.
fn decimal(number: f64) -> (u128, usize) {
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    (format!("{whole}{part}").parse().unwrap_or(u128::MAX), part.len())
}

/// Returns true if the grammar library generates exactly this number.
fn is_exact(number: &Number) -> bool {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), Some(float)) => float.abs() < MAX_SUPPORTED && float as i64 == whole,
        (None, Some(float)) => float.abs() < MAX_EXACT,
        _ => false,
    }
}

/// Returns true if the schema lists its values.
fn lists_values(map: &Map<String, Value>) -> bool {
    map.contains_key("const") || map.contains_key("enum")
}

/// Returns true if the schema allows one of these types.
fn has_type(map: &Map<String, Value>, wanted: &[&str]) -> bool {
    match map.get("type") {
        Some(Value::String(kind)) => wanted.contains(&kind.as_str()),
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).any(|kind| wanted.contains(&kind))
        }
        _ => false,
    }
}

impl Side {
    /// Bound on this side, rounded inwards, and whether it is exclusive.
    fn of(self, map: &Map<String, Value>) -> Option<(f64, bool)> {
        let inclusive = self.number(map, self.inclusive);
        let exclusive = match map.get(self.exclusive) {
            // A boolean in drafts up to 4.
            Some(Value::Bool(true)) => inclusive,
            _ => self.number(map, self.exclusive),
        };
        match (inclusive, exclusive) {
            (Some(inclusive), Some(exclusive)) if (inclusive - exclusive) * self.inwards > 0.0 => {
                Some((inclusive, false))
            }
            (_, Some(exclusive)) => Some((exclusive, true)),
            (inclusive, None) => inclusive.map(|inclusive| (inclusive, false)),
        }
    }

    /// The value of a keyword as f64, rounded inwards.
    fn number(self, map: &Map<String, Value>, key: &str) -> Option<f64> {
        map.get(key).and_then(Value::as_number).map(|number| self.rounded(number))
    }

    /// Converts a number to f64, rounded inwards.
    fn rounded(self, number: &Number) -> f64 {
        let float = number.as_f64().unwrap_or_default();
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        let outside = whole.is_some_and(|whole| match self.inwards > 0.0 {
            true => (float as i128) < whole,
            false => (float as i128) > whole,
        });
        if outside { self.next(float) } else { float }
    }

    /// Next f64 inwards.
    fn next(self, float: f64) -> f64 {
        if self.inwards > 0.0 { float.next_up() } else { float.next_down() }
    }

    /// Inclusive bound just inside of an exclusive one; `far` is the other end of the range.
    fn inside(self, bound: f64, far: Option<f64>, integer: bool) -> f64 {
        if integer {
            let next = if self.inwards > 0.0 { bound.floor() + 1.0 } else { bound.ceil() - 1.0 };
            // Beyond 2^53 the next integer may not be an f64.
            return if bound.abs() < MAX_EXACT { next } else { self.next(bound) };
        }
        let width = far.map(|far| (far - bound) * self.inwards).filter(|width| *width > 0.0);
        // A thousandth of the range, rounded down to a power of ten.
        let mut step = width.map_or(DEFAULT_STEP, |width| {
            10_f64.powi((width / 1_000.0).log10().floor() as i32).min(DEFAULT_STEP)
        });
        // A step below the precision of the bound would leave it where it is.
        while (bound + self.inwards * step) == bound && step < MAX_SUPPORTED {
            step *= 10.0;
        }
        bound + self.inwards * step
    }
}

/// Replaces exclusive bounds by inclusive ones.
fn close_bounds(map: &mut Map<String, Value>) -> Result<()> {
    let ends = [LOW, HIGH].map(|side| side.of(map));
    let integer = has_type(map, &["integer"]) && !has_type(map, &["number"]);
    for (index, side) in [LOW, HIGH].into_iter().enumerate() {
        let Some((bound, exclusive)) = ends[index] else { continue };
        // The other side.
        let far = ends[1 - index].map(|(far, _)| far);
        let end = if exclusive { side.inside(bound, far, integer) } else { bound };
        let given = map.get(side.inclusive).and_then(Value::as_f64);
        let crossed = far.is_some_and(|far| (far - end) * side.inwards < 0.0);
        ensure!(
            !(exclusive && crossed),
            "no number lies between {} {bound} and the other end of its range",
            side.exclusive
        );
        ensure!(
            end.abs() <= MAX_SUPPORTED || end * side.inwards < 0.0,
            "invalid {} `{bound}`: expected at most {MAX_SUPPORTED:e} in magnitude",
            side.inclusive
        );
        map.remove(side.exclusive);
        // A bound that no supported number reaches says nothing; `add_bounds` sets one that does.
        if end.abs() > MAX_SUPPORTED {
            map.remove(side.inclusive);
        } else if exclusive || given != Some(end) || !is_f64(map.get(side.inclusive)) {
            map.insert(side.inclusive.to_owned(), json!(end));
        }
    }
    Ok(())
}

/// Returns true if a number stays the same as f64.
fn is_f64(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_number)
        .is_none_or(|number| !number.is_u64() && !number.is_i64() || is_exact(number))
}

/// Limits the decimals of a number schema whose range is wide enough.
fn add_step(map: &mut Map<String, Value>) {
    let [low, high] = [LOW, HIGH].map(|side| map.get(side.inclusive).and_then(Value::as_f64));
    let is_wide = low.zip(high).is_none_or(|(low, high)| high - low >= 4.0 * DEFAULT_STEP);
    if has_type(map, &["number"]) && !lists_values(map) && is_wide {
        map.insert(MULTIPLE_OF.to_owned(), json!(DEFAULT_STEP));
    }
}

#[cfg(test)]
mod tests;
