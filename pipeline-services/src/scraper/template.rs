//! Texts with placeholders: addresses, headers and request bodies of portal files.
//!
//! Filters are checked when the file is read. A value is written as its place needs it
//! (percent-encoded, inside JSON, as a slug), and a missing one names itself instead of leaving a
//! hole.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// `{name}`, `{name:filter}` or `{name:filter:prefix}`; any other brace stands for itself, so that
/// a JSON body needs no escapes.
static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{([A-Za-z_]+)(?::([a-z]*))?(?::([^{}]*))?\}").expect("a valid pattern"));

/// Way to write a value into a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Raw,
    /// Lower case, without accents, words joined by `-`.
    Slug,
    /// Percent-encoded.
    Url,
    /// Escaped for the inside of a JSON text.
    Json,
}

impl Filter {
    /// The filter of this name; none is raw.
    fn named(name: &str) -> Result<Self, String> {
        match name {
            "" => Ok(Self::Raw),
            "slug" => Ok(Self::Slug),
            "url" => Ok(Self::Url),
            "json" => Ok(Self::Json),
            other => Err(format!("unknown filter `{other}`; known are slug, url, json")),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value { name: String, filter: Filter, prefix: Option<String> },
}

/// A text with placeholders. A value with a prefix may be absent and then leaves nothing behind;
/// any other value must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// If a filter does not exist; the text names it and those that do.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut end = 0;
        for found in PLACEHOLDER.captures_iter(text) {
            let whole = found.get(0).expect("group 0 is the match");
            if whole.start() > end {
                pieces.push(Piece::Literal(text[end..whole.start()].to_owned()));
            }
            let filter = Filter::named(found.get(2).map_or("", |filter| filter.as_str()))?;
            let prefix = found.get(3).map(|prefix| prefix.as_str().to_owned());
            pieces.push(Piece::Value { name: found[1].to_owned(), filter, prefix });
            end = whole.end();
        }
        if end < text.len() {
            pieces.push(Piece::Literal(text[end..].to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Names of the placeholders.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value { name, .. } => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// The text with its values; the name of the first value that is missing otherwise.
    ///
    /// # Errors
    /// If a value without a prefix is absent or empty.
    pub(super) fn render<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value { name, filter, prefix } => {
                    match value(name).filter(|value| !value.is_empty()) {
                        Some(value) => {
                            text.push_str(prefix.as_deref().unwrap_or_default());
                            text.push_str(&filter.apply(value));
                        }
                        // A query may be empty: the portal then lists everything.
                        None if prefix.is_some() || name == "query" => {}
                        None => return Err(name.clone()),
                    }
                }
            }
        }
        Ok(text)
    }
}

impl Filter {
    fn apply(self, value: &str) -> String {
        match self {
            Self::Raw => value.to_owned(),
            Self::Slug => slug(value),
            Self::Url => percent_encoded(value),
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
        }
    }
}

/// Lower case, accents dropped, everything but letters and digits joined by single hyphens.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    let folded = text.nfd().filter(|c| !unicode_normalization::char::is_combining_mark(*c));
    for c in folded.flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

fn percent_encoded(text: &str) -> String {
    // A plus sign is a blank in queries only, and templates fill paths too.
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders() {
        let check = |template: &str, expected: Result<&str, &str>| {
            let values = |name: &str| match name {
                "base" => Some("https://x.example"),
                "title" => Some("Diseñador/a Gráfico (C++) "),
                "empty" => Some(""),
                "quoted" => Some("a \"b\" ñ"),
                _ => None,
            };
            let rendered = Template::parse(template).expect("valid").render(values);
            assert_eq!(rendered.as_deref().map_err(String::as_str), expected);
        };
        check(
            "{base}/empleos/{title:slug}{company:slug:-}-1.html",
            Ok("https://x.example/empleos/disenador-a-grafico-c-1.html"),
        );
        check("{base}/{company}", Err("company"));
        check("{base}{empty:slug:trabajo-}/", Ok("https://x.example/"));
        check("?q={query:url}", Ok("?q="));
        check("?q={quoted:url}", Ok("?q=a%20%22b%22%20%C3%B1"));
        check(
            r#"{"filtros":[],"query":"{quoted:json}","x":{}}"#,
            Ok(r#"{"filtros":[],"query":"a \"b\" ñ","x":{}}"#),
        );
    }

    #[test]
    fn an_unknown_filter_is_an_error() {
        assert_eq!(
            Template::parse("{a:slugg}"),
            Err("unknown filter `slugg`; known are slug, url, json".into())
        );
    }
}
