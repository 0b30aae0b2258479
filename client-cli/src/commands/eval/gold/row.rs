//! A line of gold: one JSON object, whose fields are read by name.
//!
//! Promises errors that name the field. Absent and null are the same.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The object of a line.
#[derive(Debug)]
pub(super) struct Row<'a> {
    object: &'a Map<String, Value>,
}

impl<'a> Row<'a> {
    /// Reads from this object.
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object }
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// If it is absent or of another type.
    pub(super) fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// A field that may be absent.
    ///
    /// # Errors
    /// If it is of another type.
    pub(super) fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let value = self.object.get(name).filter(|value| !value.is_null());
        let read = value.map(|value| serde_json::from_value(value.clone())).transpose();
        read.map_err(|error| format!("`{name}`: {error}"))
    }

    /// An id: a text or a number.
    ///
    /// # Errors
    /// If it is absent or anything else.
    pub(super) fn id(&self, name: &str) -> Result<String, String> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(format!("`{name}` must be a text or a number")),
        }
    }
}
