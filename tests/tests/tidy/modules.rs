//! Module paths that Rust code names, and the files they lead to.
//!
//! Only what an import can look like is read: `crate::…` and `super::…`, in `use` trees and in
//! expressions. A parent that declares its children by `mod` does not name them.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust::{is_word, word_places};

/// Paths from the crate's root that a file names, as written there: modules, then items.
///
/// `inside` is the file's path below `src/`; `code` holds no comments, strings or tests.
pub(crate) fn paths_named(inside: &str, code: &str) -> Vec<Vec<String>> {
    let own: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let own = if ["lib", "main"].contains(&own[0].as_str()) { Vec::new() } else { own };
    let mut found = Vec::new();
    for at in word_places(code, "crate") {
        expand(&[], &code[at + "crate".len()..], &mut found);
    }
    for at in word_places(code, "super").filter(|at| !code[..*at].trim_end().ends_with("::")) {
        let mut rest = &code[at + "super".len()..];
        let mut up = 1;
        while let Some(next) = after_colons(rest).and_then(|next| next.strip_prefix("super")) {
            rest = next;
            up += 1;
        }
        if up <= own.len() {
            expand(&own[..own.len() - up], rest, &mut found);
        }
    }
    found
}

fn after_colons(rest: &str) -> Option<&str> {
    rest.trim_start().strip_prefix("::").map(str::trim_start)
}

/// Adds the paths that follow `prefix`: one, or one for each branch of a group in braces.
fn expand(prefix: &[String], rest: &str, found: &mut Vec<Vec<String>>) {
    let Some(rest) = after_colons(rest) else {
        if !prefix.is_empty() {
            found.push(prefix.to_vec());
        }
        return;
    };
    if let Some(group) = rest.strip_prefix('{') {
        for branch in branches(group) {
            let branch = branch.trim_start();
            let name: String = branch.chars().take_while(|char| is_word(*char)).collect();
            let path: Vec<String> = prefix.iter().cloned().chain([name.clone()]).collect();
            expand(&path, &branch[name.len()..], found);
        }
        return;
    }
    let name: String = rest.chars().take_while(|char| is_word(*char)).collect();
    let path: Vec<String> = prefix.iter().cloned().chain([name.clone()]).collect();
    expand(&path, &rest[name.len()..], found);
}

/// The branches of a group, whose opening brace is gone.
fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|branch| !branch.trim().is_empty());
    found
}

/// Which files of a crate import which, by their paths below `src/`.
pub(crate) struct Files {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Files {
    /// `files` are pairs of a path below `src/` and its code without comments, strings and tests.
    pub(crate) fn new(files: &[(String, String)]) -> Self {
        let known: BTreeSet<&str> = files.iter().map(|(inside, _)| inside.as_str()).collect();
        let mut edges = BTreeMap::new();
        for (inside, code) in files {
            let paths = paths_named(inside, code);
            let mut targets: BTreeSet<String> =
                paths.iter().filter_map(|path| file_of(path, &known)).map(str::to_owned).collect();
            targets.remove(inside);
            // A child that names its parent, or the other way round, is one room with it.
            targets.retain(|target| !is_parent(target, inside) && !is_parent(inside, target));
            edges.insert(inside.clone(), targets);
        }
        Self { edges }
    }

    /// Groups of files each of which reaches all others, largest first.
    pub(crate) fn circles(&self) -> Vec<Vec<&str>> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.edges.keys().map(|file| (file.as_str(), self.reached(file))).collect();
        let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
        for (file, reached) in &reach {
            if reached.contains(file) {
                let members = reached.iter().filter(|other| reach[**other].contains(file));
                circles.insert(members.copied().collect());
            }
        }
        let mut circles: Vec<Vec<&str>> = circles.into_iter().collect();
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }

    fn reached<'a>(&'a self, from: &'a str) -> BTreeSet<&'a str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            let next = self.edges.get(file).into_iter().flatten();
            open.extend(next.map(String::as_str).filter(|next| seen.insert(*next)));
        }
        seen
    }
}

fn is_parent(parent: &str, child: &str) -> bool {
    child.strip_prefix(parent.trim_end_matches(".rs")).is_some_and(|rest| rest.starts_with('/'))
}

/// The file that holds what a path names: the longest beginning of it that is a file.
fn file_of<'k>(path: &[String], known: &BTreeSet<&'k str>) -> Option<&'k str> {
    (1..=path.len())
        .rev()
        .find_map(|length| known.get(format!("{}.rs", path[..length].join("/")).as_str()).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_in_every_form() {
        let check = |inside: &str, code: &str, expected: &[&str]| {
            let paths: Vec<String> = paths_named(inside, code).iter().map(|path| path.join("::")).collect();
            assert_eq!(paths, expected, "{inside}: {code}");
        };
        check("a.rs", "use crate::b::C;", &["b::C"]);
        check("a.rs", "use crate::{b::{C, d}, e};", &["b::C", "b::d", "e"]);
        check("a.rs", "fn f() { crate::b::run() }", &["b::run"]);
        check("a/b.rs", "use super::c::D;", &["a::c::D"]);
        check("a/b.rs", "use super::super::c::D; use super::{e, f::G};", &["c::D", "a::e", "a::f::G"]);
        check("a.rs", "use super::b::C;", &["b::C"]);
        check("lib.rs", "use crate::b;", &["b"]);
        check("a.rs", "use other::crate_like; let supper = 1;", &[]);
    }

    #[test]
    fn circles_of_files_are_found() {
        let check = |files: &[(&str, &str)], expected: &[&[&str]]| {
            let files: Vec<(String, String)> =
                files.iter().map(|(inside, code)| ((*inside).to_owned(), (*code).to_owned())).collect();
            assert_eq!(Files::new(&files).circles(), expected);
        };
        check(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "")], &[]);
        check(
            &[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")],
            &[&["a.rs", "b.rs", "c.rs"]],
        );
        check(&[("a.rs", "mod b;"), ("a/b.rs", "use super::A; use crate::a::C;")], &[]);
        check(&[("a/b.rs", "use super::c::C;"), ("a/c.rs", "use super::b::B;")], &[&["a/b.rs", "a/c.rs"]]);
    }
}
