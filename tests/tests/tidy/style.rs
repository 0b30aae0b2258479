//! One hand: the width of comments, the order of derives, the field of errors in logs, documented
//! items, module docs that say something, and tests that move out when they grow.
//!
//! Each rule takes a file and says what is wrong with it.

use crate::rust::{Source, line_of, tests_start};

/// Columns of a comment: rustfmt does not wrap them, and two files stand side by side at this
/// width.
const COMMENT_WIDTH: usize = 100;

/// Lines of tests inside a file: above it they have a file of their own.
const MOST_TEST_LINES: usize = 100;

/// Derives in their order; serde's come next, all others last.
const DERIVES: [&str; 11] = [
    "Debug",
    "Clone",
    "Copy",
    "PartialEq",
    "Eq",
    "PartialOrd",
    "Ord",
    "Hash",
    "Default",
    "Serialize",
    "Deserialize",
];

/// Comments wider than they may be. A link and the row of a table cannot be broken.
pub(crate) fn wide_comments(text: &str) -> Vec<String> {
    let is_wide = |line: &&str| line.trim_start().starts_with("//") && line.chars().count() > COMMENT_WIDTH;
    let can_break = |line: &str| {
        let said = line.trim_start().trim_start_matches(['/', '!']).trim();
        said.contains(' ') && !said.starts_with('|')
    };
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if is_wide(&line) && can_break(line) && !line.contains("://") {
            wrong.push(format!("line {}: a comment of {} columns", index + 1, line.chars().count()));
        }
    }
    wrong
}

/// Derives in another order than everywhere else.
pub(crate) fn mixed_derives(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, _) in source.code.match_indices("#[derive(") {
        let list = &source.code[at + "#[derive(".len()..];
        let Some((list, _)) = list.split_once(')') else { continue };
        let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let place = |name: &&str| {
            let last = name.rsplit("::").next().unwrap_or(name);
            DERIVES.iter().position(|known| *known == last).unwrap_or(DERIVES.len())
        };
        if !names.is_sorted_by_key(place) {
            wrong.push(format!(
                "line {}: derive({list}) is not in the order of style.rs",
                line_of(&source.code, at)
            ));
        }
    }
    wrong
}

/// Errors in logs under another field than `error.message`.
pub(crate) fn other_error_fields(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for macro_name in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
        for (at, _) in source.code.match_indices(macro_name) {
            let arguments = &source.code[at + macro_name.len()..];
            let arguments = &arguments[..arguments.find(';').unwrap_or(arguments.len())];
            let other = ["error.text", "error.msg", "err =", "error ="];
            let field = other.iter().find(|field| {
                arguments.match_indices(**field).any(|(place, _)| {
                    let before = arguments[..place].trim_end();
                    before.is_empty() || before.ends_with(',')
                })
            });
            if let Some(field) = field {
                wrong.push(format!("line {}: {field} instead of error.message", line_of(&source.code, at)));
            }
        }
    }
    wrong
}

/// A file whose module docs are shorter than two lines of text.
pub(crate) fn thin_module_docs(text: &str) -> Option<String> {
    let docs = text.lines().take_while(|line| line.starts_with("//!"));
    let lines = docs.filter(|line| line.trim_start_matches("//!").trim().len() > 1).count();
    (lines < 2).then(|| format!("{lines} lines of module docs: say what it hides and what it promises"))
}

/// Items that other modules see and that nobody documented. `missing_docs` of the compiler sees
/// only what other crates see.
pub(crate) fn undocumented(text: &str) -> Vec<String> {
    const ITEMS: [&str; 9] =
        ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "static ", "async fn ", "unsafe fn "];
    let mut wrong = Vec::new();
    let lines: Vec<&str> = text[..tests_start(text)].lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        let Some(item) = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")) else {
            continue;
        };
        let item = item.strip_prefix("const fn ").map_or(item, |_| "fn ");
        // A macro hands its items the documentation that it is given.
        let is_template = line.contains('$');
        if ITEMS.iter().any(|kind| item.starts_with(kind)) && !is_template && !is_documented(&lines[..index])
        {
            wrong.push(format!("line {}: `{line}` has no documentation", index + 1));
        }
    }
    wrong
}

/// Returns true if the lines above an item end with its documentation; attributes may stand
/// between.
fn is_documented(above: &[&str]) -> bool {
    let mut depth = 0_i32;
    for line in above.iter().rev().map(|line| line.trim()) {
        if depth > 0 || line.ends_with(")]") || line.ends_with("]") {
            // An attribute, which may have several lines; read from its end to its beginning.
            depth += line.matches([')', ']']).count() as i32 - line.matches(['(', '[']).count() as i32;
            continue;
        }
        return line.starts_with("///") || line.starts_with("#[doc");
    }
    false
}

/// Tests inside a file that have grown out of it.
pub(crate) fn long_inline_tests(path: &str, text: &str) -> Option<String> {
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return None;
    }
    let lines = text[tests_start(text)..].lines().count();
    (lines > MOST_TEST_LINES)
        .then(|| format!("{lines} lines of tests, {MOST_TEST_LINES} allowed: move them to tests.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_comments_are_noticed() {
        let check = |text: String, count: usize| assert_eq!(wide_comments(&text).len(), count, "{text}");
        check(format!("// {}", "a b ".repeat(24)), 0);
        check(format!("    /// {}", "a b ".repeat(30)), 1);
        check(format!("let a = \"{}\";", "a b ".repeat(30)), 0);
        check(format!("//! | {} |", "a b ".repeat(30)), 0);
        check(format!("// see https://example.org/{}", "a".repeat(100)), 0);
    }

    #[test]
    fn mixed_derives_are_noticed() {
        let check = |text: &str, count: usize| {
            assert_eq!(mixed_derives(&Source::new(text)).len(), count, "{text}");
        };
        check("#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)] struct A;", 0);
        check("#[derive(Debug, Deserialize, clap::Args)] struct A;", 0);
        check("#[derive(Clone, Debug)] struct A;", 1);
        check("#[derive(\n    Debug,\n    Eq,\n    PartialEq,\n)] struct A;", 1);
        check("#[derive(thiserror::Error, Debug)] enum A {}", 1);
    }

    #[test]
    fn other_names_of_an_error_are_noticed() {
        let check = |text: &str, count: usize| {
            assert_eq!(other_error_fields(&Source::new(text)).len(), count, "{text}");
        };
        check("tracing::warn!(error.message = %error, \"a\");", 0);
        check("tracing::warn!(run.id = id, error.text = %error, \"a\");", 1);
        check("tracing::warn!(error = %error, \"a\");", 1);
        check("let error = f(); tracing::info!(a = 1);", 0);
    }

    #[test]
    fn thin_module_docs_are_noticed() {
        assert!(thin_module_docs("//! One line.\n\nuse a::b;").is_some());
        assert!(thin_module_docs("use a::b;").is_some());
        assert!(thin_module_docs("//! One line.\n//!\n//! And another.\n").is_none());
    }

    #[test]
    fn undocumented_items_are_noticed() {
        let check = |text: &str, count: usize| assert_eq!(undocumented(text).len(), count, "{text}");
        check("/// Says.\npub fn a() {}", 0);
        check("pub fn a() {}", 1);
        check("pub(crate) struct A;", 1);
        check("/// Says.\n#[derive(Debug)]\npub(crate) struct A;", 0);
        check("/// Says.\n#[allow(\n    dead_code,\n    reason = \"a\"\n)]\npub struct A;", 0);
        check("pub(super) fn a() {}\nfn b() {}\npub mod c;\npub use d::e;", 0);
        check("#[cfg(test)]\nmod tests {\n    pub fn a() {}\n}", 0);
    }

    #[test]
    fn tests_that_have_grown_are_noticed() {
        let tests =
            |lines: usize| format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(lines));
        assert!(long_inline_tests("a/src/b.rs", &tests(90)).is_none());
        assert!(long_inline_tests("a/src/b.rs", &tests(100)).is_some());
        assert!(long_inline_tests("a/tests/b.rs", &tests(100)).is_none());
    }
}
