//! Values of the metadata.

/// A value; the widths of numbers are not kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i128),
    /// A floating point number of either width.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// Many of one type.
    List(List),
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum List {
    /// Integers, each within the range of an i64.
    Integers(Vec<i64>),
    /// Floating point numbers.
    Floats(Vec<f64>),
    /// True or false.
    Bools(Vec<bool>),
    /// Texts.
    Texts(Vec<String>),
}

impl Value {
    /// An integer.
    pub fn integer(&self) -> Option<i128> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// A number of either kind.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// True or false.
    pub fn bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(value) = self { Some(value) } else { None }
    }

    /// A list.
    pub fn list(&self) -> Option<&List> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// A list of texts.
    pub fn texts(&self) -> Option<&[String]> {
        if let Some(List::Texts(texts)) = self.list() { Some(texts) } else { None }
    }

    /// What it is, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Integer(value) => format!("{value}"),
            Self::Float(value) => format!("{value}"),
            Self::Bool(value) => format!("{value}"),
            Self::Text(text) => {
                let short: String = text.chars().take(40).collect();
                format!("{short:?}")
            }
            Self::List(list) => {
                let (count, kind) = match list {
                    List::Integers(list) => (list.len(), "integers"),
                    List::Floats(list) => (list.len(), "floating point numbers"),
                    List::Bools(list) => (list.len(), "truth values"),
                    List::Texts(list) => (list.len(), "texts"),
                };
                format!("a list of {count} {kind}")
            }
        }
    }
}
