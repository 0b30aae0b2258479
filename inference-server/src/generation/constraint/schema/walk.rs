//! A walk over all schemas in a JSON schema.
//!
//! Keywords decide which values are schemas: values of `const` or `enum` that look like schemas are
//! not, and names of properties are not keywords.

use anyhow::Result;
use serde_json::{Map, Value};

/// Keywords whose values are not schemas.
const VALUE_KEYWORDS: [&str; 5] = ["const", "enum", "default", "examples", "x-guidance"];
/// Keywords whose values are maps of schemas, by names of the caller's.
const MAP_KEYWORDS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Applies `change` to a schema and every schema in it.
pub(super) fn for_each_schema(
    schema: &mut Value,
    change: &mut impl FnMut(&mut Map<String, Value>) -> Result<()>,
) -> Result<()> {
    match schema {
        Value::Array(items) => items.iter_mut().try_for_each(|item| for_each_schema(item, change)),
        Value::Object(map) => {
            change(map)?;
            map.iter_mut().try_for_each(|(key, value)| match value {
                _ if VALUE_KEYWORDS.contains(&key.as_str()) => Ok(()),
                // The names in the map are not keywords.
                Value::Object(named) if MAP_KEYWORDS.contains(&key.as_str()) => {
                    named.values_mut().try_for_each(|value| for_each_schema(value, change))
                }
                value => for_each_schema(value, change),
            })
        }
        _ => Ok(()),
    }
}
