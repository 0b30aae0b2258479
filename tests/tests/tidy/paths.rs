//! Paths in documents: a file or folder that a document names in backticks exists in the tree.
//!
//! A path starts at the root, at the folder of a crate or at its `src`; a file name alone may be
//! that of any file. Braces list alternatives, `*` and NAME stand for any part of a name.

use std::collections::BTreeSet;

/// The documents that explain the tree.
pub(crate) const DOCUMENTS: [&str; 4] =
    ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "scripts/README.md"];

/// Paths that something makes, and what makes them.
const MADE: [(&str, &str); 2] = [("data/vocabularies", "`make test`"), ("data/wheels", "`make setup`")];

/// Endings of file names that a document may give without their folder.
const ENDINGS: [&str; 7] = [".rs", ".toml", ".sql", ".proto", ".sh", ".py", ".md"];

/// The files and folders of the tree.
pub(crate) struct Places {
    /// Their paths from the root.
    paths: BTreeSet<String>,
    /// Folders that a path may start at, with a slash at the end; the root is empty.
    starts: Vec<String>,
}

impl Places {
    /// The places of a tree with these files.
    pub(crate) fn new<'a>(files: impl Iterator<Item = &'a str>) -> Self {
        let (mut paths, mut starts) = (BTreeSet::new(), vec![String::new()]);
        for file in files {
            paths.insert(file.to_owned());
            paths.extend(file.match_indices('/').map(|(at, _)| file[..at].to_owned()));
            if let Some(folder) = file.strip_suffix("/Cargo.toml") {
                starts.extend([format!("{folder}/"), format!("{folder}/src/")]);
            }
        }
        Self { paths, starts }
    }

    fn have(&self, wanted: &str) -> bool {
        if !wanted.contains('*') && wanted.contains('/') {
            return self.starts.iter().any(|start| self.paths.contains(&format!("{start}{wanted}")));
        }
        self.paths.iter().any(|path| match wanted.contains('/') {
            true => self.starts.iter().any(|start| fits(path, &format!("{start}{wanted}"))),
            false => fits(path.rsplit('/').next().unwrap_or(path), wanted),
        })
    }
}

/// Returns true if a path fits a pattern, part by part.
fn fits(path: &str, pattern: &str) -> bool {
    let (parts, patterns): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), pattern.split('/').collect());
    parts.len() == patterns.len()
        && parts.iter().zip(patterns).all(|(part, pattern)| part_fits(part, pattern))
}

fn part_fits(part: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return part == pattern };
    let Some(left) = part.strip_prefix(first) else { return false };
    (0..=left.len()).any(|at| left.is_char_boundary(at) && part_fits(&left[at..], rest))
}

/// The paths in backticks, with the numbers of their lines; of a command its program.
fn named(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for span in line.split('`').skip(1).step_by(2) {
            let name = span.split_whitespace().next().unwrap_or_default();
            // Options, variables, addresses and paths of the reader's machine are not of the tree.
            let is_other = name.starts_with(['/', '-', '$', '~']) || name.contains("://");
            let has_ending = ENDINGS.iter().any(|ending| name.ends_with(ending) && name != *ending);
            if (name.contains('/') || has_ending) && !is_other {
                found.push((index + 1, name.trim_end_matches('/')));
            }
        }
    }
    found
}

/// The alternatives of a name with braces.
fn alternatives(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((list, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    list.split(',').flat_map(|one| alternatives(&format!("{before}{one}{after}"))).collect()
}

/// Paths of a document that are not in the tree.
pub(crate) fn stale(text: &str, places: &Places) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, name) in named(text) {
        if MADE.iter().any(|(made, _)| *made == name) {
            continue;
        }
        for path in alternatives(&name.replace("NAME", "*")) {
            if !places.have(&path) {
                wrong.push(format!("line {line}: `{path}` is not in the tree"));
            }
        }
    }
    wrong
}

/// Exceptions that no document needs any more.
pub(crate) fn unused_exceptions(documents: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (made, by) in MADE {
        if !documents.iter().any(|text| named(text).iter().any(|(_, name)| *name == made)) {
            wrong.push(format!("no document names {made}, which {by} makes: delete it from MADE"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let files =
            ["Makefile", "docs/a.md", "one/Cargo.toml", "one/src/room/door.rs", "one/tests/make_x.py"];
        Places::new(files.into_iter())
    }

    #[test]
    fn stale_paths_are_noticed() {
        let check = |text: &str, count: usize| assert_eq!(stale(text, &places()).len(), count, "{text}");
        check("`docs/`, `one/src/room/door.rs`, `room/door.rs`, `tests/make_x.py`, `door.rs`", 0);
        check("`room/gate.rs`", 1);
        check("`gate.rs` and `door.rs`", 1);
        check("`src/room/door.rs` is fine, `deep/door.rs` is not", 1);
        check("`one/src/room/{door,gate}.rs`", 1);
        check("`one/tests/make_*.py`, `one/src/NAME/door.rs`", 0);
        check("`one/tests/test_*.py`", 1);
        check("`scripts/gone --option`", 1);
        check(
            "`--out/x`, `$OUT/x`, `/v1/models`, `~/x`, `https://host/x`, `a.b`, `.rs`, plain one/gone.rs",
            0,
        );
        check("`data/wheels`", 0);
    }

    #[test]
    fn exceptions_that_nobody_needs_are_noticed() {
        assert_eq!(unused_exceptions(&["see `data/wheels`", "`data/vocabularies`"]), Vec::<String>::new());
        assert_eq!(unused_exceptions(&["nothing"]).len(), MADE.len());
    }
}
