//! Stages of pipeline-services call no function that writes rows.
//!
//! A row is written by the worker alone, on the transaction that checks the task's fence; a stage
//! that wrote one by itself would write it also after another worker took its task over. Which
//! functions write is read from their source: the SQL they hold and the functions they call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use crate::rust::{Source, is_word, line_of};
use crate::tree::File;

const SOURCES: &str = "pipeline-services/src/";

/// The rooms whose functions may write.
const WRITERS: [&str; 2] = ["store", "intake"];

const STAGES: [&str; 6] = ["scraper", "extractor", "enhancer", "embedder", "analyzer", "reporter"];

/// Beginnings of statements that write, and functions of the migrations that do.
static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)"\s*(?:with\b[^"]*\W)?(?:insert into|update \w+(?: \w+)? set|delete from|copy \w+|create|alter|drop|truncate|merge into)\b|\b(?:ensure_embedding_index|enable_country)\("#,
    )
    .expect("a pattern")
});

/// The head of a function with its name.
static HEAD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:async )?fn (\w+)").expect("a pattern"));

/// An import with its tree.
static IMPORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\buse\s+([^;]+);").expect("a pattern"));

/// A function by the file that holds it, without its folders, and its name.
type Function = (String, String);

/// The functions that write, found in the files of the rooms that may.
pub(crate) fn writers<'a>(files: impl Iterator<Item = &'a File>) -> BTreeSet<Function> {
    let mut bodies: BTreeMap<Function, String> = BTreeMap::new();
    for file in files.filter(|file| room(&file.path).is_some_and(|room| WRITERS.contains(&room))) {
        for (name, body) in functions(&file.text) {
            bodies.entry((module(&file.path), name)).or_default().push_str(&body);
        }
    }
    let mut found: BTreeSet<Function> = bodies
        .iter()
        .filter(|(_, body)| STATEMENT.is_match(body))
        .map(|(function, _)| function.clone())
        .collect();
    let calls: BTreeMap<&Function, BTreeSet<Function>> =
        bodies.iter().map(|(function, body)| (function, called(&function.0, body))).collect();
    loop {
        let more: Vec<Function> = calls
            .iter()
            .filter(|(function, called)| !found.contains(**function) && !found.is_disjoint(called))
            .map(|(function, _)| (*function).clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Returns true if the rule looks at this file: one of a stage, outside of tests.
pub(crate) fn covers(file: &File) -> bool {
    let test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    room(&file.path).is_some_and(|room| STAGES.contains(&room)) && !test
}

/// Uses of functions that write.
pub(crate) fn uses(text: &str, writers: &BTreeSet<Function>) -> Vec<String> {
    let source = Source::new(text);
    let code = source.code_without_tests();
    let imports: BTreeMap<String, Vec<String>> =
        imports(code).into_iter().map(|(path, alias)| (alias, path)).collect();
    // What is only imported is not called; lines stay where they are.
    let blank = |found: &regex::Captures<'_>| "\n".repeat(found[0].matches('\n').count());
    let code = &*IMPORT.replace_all(code, blank);
    let mut wrong = Vec::new();
    for (at, module, name) in pairs(code) {
        let real = imports.get(&module).and_then(|path| path.last()).unwrap_or(&module);
        let function = (real.clone(), name);
        if writers.contains(&function) {
            wrong.push((at, function));
        }
    }
    for (at, name) in bare_calls(code) {
        let Some([.., module, name]) = imports.get(&name).map(Vec::as_slice) else { continue };
        let function = (module.clone(), name.clone());
        if writers.contains(&function) {
            wrong.push((at, function));
        }
    }
    wrong
        .into_iter()
        .map(|(at, (module, name))| {
            format!("line {}: a stage must not call {module}::{name}", line_of(code, at))
        })
        .collect()
}

/// The top-level module that a file belongs to.
fn room(path: &str) -> Option<&str> {
    path.strip_prefix(SOURCES)?.strip_suffix(".rs")?.split('/').next()
}

/// The file's own module.
fn module(path: &str) -> String {
    path.trim_end_matches(".rs").rsplit('/').next().unwrap_or_default().to_owned()
}

/// Each function of a formatted file with its text, comments left out.
fn functions(text: &str) -> Vec<(String, String)> {
    let tests = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let mut found: Vec<(String, String)> = Vec::new();
    let mut open: Option<String> = None;
    for line in text[..tests].lines().filter(|line| !line.trim_start().starts_with("//")) {
        match (&open, HEAD.captures(line)) {
            (None, Some(head)) => {
                open = (!line.ends_with('}')).then(|| format!("{}}}", &head[1]));
                found.push((head[2].to_owned(), line.to_owned()));
            }
            (Some(end), _) => {
                let over = line == end;
                if let Some((_, body)) = found.last_mut() {
                    body.push('\n');
                    body.push_str(line);
                }
                if over {
                    open = None;
                }
            }
            (None, None) => {}
        }
    }
    found
}

/// The functions that a function's text calls; in its own module they are named alone.
fn called(module: &str, body: &str) -> BTreeSet<Function> {
    // The head of a function is no call of itself.
    let inside = body.split_once('\n').map_or("", |(_, inside)| inside);
    let own = bare_calls(inside).into_iter().map(|(_, name)| (module.to_owned(), name));
    let others = pairs(inside).into_iter().map(|(_, other, name)| match other.as_str() {
        "Self" | "self" | "super" => (module.to_owned(), name),
        _ => (other, name),
    });
    own.chain(others).collect()
}

/// Words of code with their places.
fn words(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, char) in code.char_indices().chain([(code.len(), ' ')]) {
        match (start, is_word(char)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                found.push((from, &code[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// Each `module::name` with the place of the module.
fn pairs(code: &str) -> Vec<(usize, String, String)> {
    let words = words(code);
    words
        .iter()
        .zip(words.iter().skip(1))
        .filter(|((at, first), (next, _))| code[at + first.len()..*next].trim() == "::")
        .map(|((at, first), (_, second))| (*at, (*first).to_owned(), (*second).to_owned()))
        .collect()
}

/// Calls of a function by its name alone.
fn bare_calls(code: &str) -> Vec<(usize, String)> {
    words(code)
        .into_iter()
        .filter(|(at, name)| {
            let before = code[..*at].trim_end();
            code[at + name.len()..].starts_with('(') && !before.ends_with("::") && !before.ends_with('.')
        })
        .map(|(at, name)| (at, name.to_owned()))
        .collect()
}

/// The imports of a file: each path with the name it has here.
fn imports(code: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    for tree in IMPORT.captures_iter(code) {
        branch(&tree[1], &[], &mut found);
    }
    found
}

/// Follows one branch of a tree of imports.
fn branch(tree: &str, above: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some((path, group)) = tree.split_once('{') {
        let mut above = above.to_vec();
        above.extend(path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let (mut depth, mut start) = (0, 0);
        for (at, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    branch(&group[start..at], &above, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        branch(&group[start..], &above, found);
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias)));
    let mut whole = above.to_vec();
    whole.extend(path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
    if whole.last().is_some_and(|name| name == "self") {
        whole.pop();
    }
    if let Some(last) = whole.last() {
        let alias = alias.map_or_else(|| last.clone(), |alias| alias.trim().to_owned());
        found.push((whole, alias));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = r#"//! Models.

/// The active model; says nothing of "insert into" in a comment.
pub async fn active(connection: &mut PgConnection) -> Model {
    // delete from nowhere
    sqlx::query!("select name from model where active for update skip locked").fetch_one(connection)
}

/// Makes a model the active one.
pub async fn activate(
    connection: &mut PgConnection,
) -> Model {
    active(connection).await;
    sqlx::query!(
        "insert into model (name) values ($1)
         on conflict (name) do nothing"
    )
}

/// Activates a model in another way.
pub(crate) async fn change(connection: &mut PgConnection) {
    activate(connection).await;
}

pub fn indexed(connection: &mut PgConnection) {
    sqlx::query!("select ensure_embedding_index($1)");
}

pub fn claimed(connection: &mut PgConnection) {
    sqlx::query!(
        r"with first as (select 1)
          update task set state = 'running' from first"
    );
}

pub fn updated_at() -> &'static str {
    "select updated from model"
}
"#;

    fn file(path: &str, text: &str) -> File {
        File { path: format!("pipeline-services/src/{path}"), text: text.to_owned() }
    }

    fn sample() -> BTreeSet<Function> {
        let files = [
            file("store/models.rs", STORE),
            file("intake.rs", "pub async fn store_batch() {\n    models::change(connection).await;\n}\n"),
            file("api.rs", "pub async fn post() {\n    query!(\"insert into x\");\n}\n"),
        ];
        writers(files.iter())
    }

    #[test]
    fn functions_that_write_are_known_by_their_statements_and_calls() {
        let found = sample();
        let found: Vec<String> = found.iter().map(|(module, name)| format!("{module}::{name}")).collect();
        let expected = [
            "intake::store_batch",
            "models::activate",
            "models::change",
            "models::claimed",
            "models::indexed",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_stage_that_writes_is_noticed() {
        let writers = sample();
        let check = |code: &str, count: usize| {
            let wrong = uses(code, &writers);
            assert_eq!(wrong.len(), count, "{code}: {wrong:?}");
        };
        check("use crate::store::models;\nfn f() { models::active(c) }", 0);
        check("use crate::store::models;\nfn f() { models::activate(c) }", 1);
        check("use crate::store::{Pool, models::{self as m, Model}};\nfn f() { m::change(c) }", 1);
        check("use crate::store::models::{activate, active};\nfn f() { active(activate(c)) }", 1);
        check("use crate::store::models::activate as go;\nfn f() { go(c) }", 1);
        check("fn f() { crate::store::models::activate(c) }", 1);
        check("use crate::intake;\nfn f() { intake::store_batch(c) }", 1);
        check("fn f() { portals::activate(c); \"models::activate(c)\" } // models::activate", 0);
        check("fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { models::activate(c) }\n}\n", 0);
    }

    #[test]
    fn stages_are_looked_at_without_their_tests() {
        let check = |path: &str, expected| assert_eq!(covers(&file(path, "")), expected, "{path}");
        check("embedder.rs", true);
        check("enhancer/stage.rs", true);
        check("scraper/tests/files.rs", false);
        check("reporter/tests.rs", false);
        check("worker/effects.rs", false);
    }
}
