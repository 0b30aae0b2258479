//! Metadata values of a GGUF file.
//!
//! The format has twelve scalar types; which width a converter chose does not matter to readers, so
//! it is not kept.

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i128),
    /// A floating point number of either width.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A string.
    String(String),
    /// An array.
    Array(Array),
}

/// An array, whose values are of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Integers, each within the range of an i64.
    Integers(Vec<i64>),
    /// Floating point numbers.
    Floats(Vec<f64>),
    /// True or false.
    Bools(Vec<bool>),
    /// Strings.
    Strings(Vec<String>),
}

impl Value {
    /// The value, if it is an integer.
    pub fn integer(&self) -> Option<i128> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// The value, if it is a number of either kind.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The value, if it is a bool.
    pub fn bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The value, if it is a string.
    pub fn string(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The value, if it is an array.
    pub fn array(&self) -> Option<&Array> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }

    /// The value, if it is an array of strings.
    pub fn strings(&self) -> Option<&[String]> {
        if let Some(Array::Strings(strings)) = self.array() { Some(strings) } else { None }
    }

    /// The value in messages: arrays by length, strings by their beginning.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Integer(value) => format!("{value}"),
            Self::Float(value) => format!("{value}"),
            Self::Bool(value) => format!("{value}"),
            Self::String(string) => {
                let short: String = string.chars().take(40).collect();
                format!("{short:?}")
            }
            Self::Array(array) => {
                let (count, kind) = match array {
                    Array::Integers(values) => (values.len(), "integers"),
                    Array::Floats(values) => (values.len(), "floats"),
                    Array::Bools(values) => (values.len(), "bools"),
                    Array::Strings(values) => (values.len(), "strings"),
                };
                format!("of {count} {kind}")
            }
        }
    }
}
