//! Structured data of a page: the JSON-LD blocks with their `@graph`s opened.
//!
//! Tolerates what portals write in practice (comments, bare line breaks, trailing commas); a block
//! that still is not JSON is left out, never an error.

use scraper::{Html, Selector};
use serde_json::Value;

/// The objects of a page's JSON-LD blocks.
#[derive(Debug, Default)]
pub(super) struct JsonLd {
    objects: Vec<Value>,
}

impl JsonLd {
    /// Reads every block of a page; a block that is not JSON is left out.
    pub(super) fn of(page: &Html) -> Self {
        let selector = Selector::parse(r#"script[type="application/ld+json"]"#).expect("a valid selector");
        let mut objects = Vec::new();
        for block in page.select(&selector) {
            if let Some(value) = parse(&block.text().collect::<String>()) {
                open(value, &mut objects);
            }
        }
        Self { objects }
    }

    /// A value below the first object of a type that has it. Where the path meets a list, its first
    /// element with the name counts.
    pub(super) fn find(&self, kind: &str, path: &[String]) -> Option<&Value> {
        self.objects.iter().filter(|object| is_of(object, kind)).find_map(|object| walk(object, path))
    }
}

/// Lists and graphs, flattened.
fn open(value: Value, objects: &mut Vec<Value>) {
    match value {
        Value::Array(list) => list.into_iter().for_each(|item| open(item, objects)),
        Value::Object(mut object) => {
            if let Some(graph) = object.remove("@graph") {
                open(graph, objects);
            }
            objects.push(Value::Object(object));
        }
        _ => {}
    }
}

fn is_of(object: &Value, kind: &str) -> bool {
    match object.get("@type") {
        Some(Value::String(name)) => name == kind,
        Some(Value::Array(names)) => names.iter().any(|name| name == kind),
        _ => false,
    }
}

fn walk<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let Some((name, rest)) = path.split_first() else { return Some(value).filter(|value| !value.is_null()) };
    match value {
        Value::Array(list) => list.iter().find_map(|item| walk(item, path)),
        value => walk(value.get(name)?, rest),
    }
}

/// Reads JSON as pages hold it: in comments or CDATA, with bare line breaks in texts, with commas
/// before a closing bracket.
pub(super) fn parse(text: &str) -> Option<Value> {
    let text = text.trim().trim_start_matches("<!--").trim_start_matches("//").trim_start();
    let text = text.trim_start_matches("<![CDATA[").trim_end_matches("-->").trim_end();
    let text = text.trim_end_matches("]]>").trim_end_matches("//").trim();
    // Repaired only when it must be: sound JSON must not pass through a guess.
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&repaired(text)).ok())
}

/// Control characters inside texts become blanks; commas before `}` or `]` go.
fn repaired(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for c in text.chars() {
        if inside {
            (inside, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            out.push(if c.is_control() { ' ' } else { c });
            continue;
        }
        inside = c == '"';
        if matches!(c, '}' | ']') && out.trim_end().ends_with(',') {
            out.truncate(out.trim_end().len() - 1);
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let page = r#"<script type="application/ld+json">{"@context":"x","@graph":[{"@type":"ItemList"},
            {"@type":["JobPosting","Thing"],"title":"T","jobLocation":[{"address":{"addressLocality":"Cali"}}],"none":null}]}</script>
            <script type="application/ld+json">broken {</script>
            <script type="application/ld+json">[{"@type":"JobPosting","title":"U","salary":{"value":3}}]</script>"#;
        let found = JsonLd::of(&Html::parse_document(page));
        let check = |path: &str, expected: Option<Value>| {
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            assert_eq!(found.find("JobPosting", &path), expected.as_ref(), "{path:?}");
        };
        check("title", Some("T".into()));
        check("jobLocation/address/addressLocality", Some("Cali".into()));
        check("salary/value", Some(3.into()));
        check("none", None);
        check("title/deeper", None);
    }

    #[test]
    fn json_is_repaired() {
        let check = |text: &str, good: bool| assert_eq!(parse(text).is_some(), good, "{text}");
        check("{\"a\": \"x\ny\"}", true);
        check("{\"a\": [1, 2,], }", true);
        check("<!-- {\"a\": \"b\\\",}\"} -->", true);
        check("//<![CDATA[\n{\"a\":1}\n//]]>", true);
        check("{\"a\":", false);
        check("", false);
        check(&"[".repeat(100_000), false);
    }
}
