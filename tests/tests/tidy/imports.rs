//! Who may import whom inside pipeline-services.
//!
//! main → {orchestrator, worker} → the six stages → {stage, inference, cache, store, taxonomy,
//! privacy} → domain

use crate::rust::word_places;
use crate::tree::File;

const SOURCES: &str = "pipeline-services/src/";

const STAGES: [&str; 6] = ["scraper", "extractor", "enhancer", "embedder", "analyzer", "reporter"];

/// Modules above the stages.
const ABOVE: [&str; 2] = ["orchestrator", "worker"];

/// Modules below the stages.
const BELOW: [&str; 6] = ["stage", "inference", "cache", "store", "taxonomy", "privacy"];

/// Whether the rule speaks of this file.
pub(crate) fn covers(file: &File) -> bool {
    file.path.starts_with(SOURCES) && file.path.ends_with(".rs")
}

/// Imports against the direction; `code` holds no comments, strings or tests.
pub(crate) fn upward(path: &str, code: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix(SOURCES) else { return Vec::new() };
    let module: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    let own = module[0];
    if ["lib", "main", "bin"].contains(&own) {
        return Vec::new();
    }
    let mut wrong: Vec<String> = modules_named(&module, code)
        .into_iter()
        .filter(|other| other != own && !may_import(own, other))
        .map(|other| format!("{own} must not import {other}"))
        .collect();
    if own == "domain" {
        let ours =
            ["observatory_proto", "observatory_clustering", "observatory_typeset", "observatory_inference"];
        wrong.extend(
            ours.iter()
                .filter(|name| word_places(code, name).next().is_some())
                .map(|name| format!("domain must not import {name}")),
        );
    }
    wrong
}

fn may_import(own: &str, other: &str) -> bool {
    if own == "domain" {
        return false;
    }
    if BELOW.contains(&own) {
        return !STAGES.contains(&other) && !ABOVE.contains(&other);
    }
    if STAGES.contains(&own) {
        return !STAGES.contains(&other) && !ABOVE.contains(&other);
    }
    true
}

/// The top-level modules of the crate that a file names by `crate::` or by enough `super::`.
fn modules_named(module: &[&str], code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for at in word_places(code, "crate") {
        found.extend(first_names(&code[at + "crate".len()..]));
    }
    for at in word_places(code, "super").filter(|at| !code[..*at].trim_end().ends_with("::")) {
        let mut rest = &code[at + "super".len()..];
        let mut up = 1;
        while let Some(next) = rest
            .trim_start()
            .strip_prefix("::")
            .map(str::trim_start)
            .and_then(|next| next.strip_prefix("super"))
        {
            rest = next;
            up += 1;
        }
        if up >= module.len() {
            found.extend(first_names(rest));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The names that follow "::" directly: one, or the first of each branch of a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let Some(rest) = rest.trim_start().strip_prefix("::") else { return Vec::new() };
    let rest = rest.trim_start();
    let name =
        |text: &str| text.trim().chars().take_while(|char| crate::rust::is_word(*char)).collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_imports_against_the_direction() {
        let check = |path: &str, code: &str, count: usize| {
            let wrong = upward(&format!("pipeline-services/src/{path}"), code);
            assert_eq!(wrong.len(), count, "{path}: {code}: {wrong:?}");
        };
        check("extractor.rs", "use crate::domain::Posting; use crate::store;", 0);
        check("extractor.rs", "use crate::enhancer::Rules;", 1);
        check("extractor/patterns.rs", "use crate::{domain::{Posting, Skill}, embedder, scraper::page};", 2);
        check("extractor/patterns.rs", "use crate::extractor::Lexicon;", 0);
        check("extractor/patterns.rs", "use super::scraper;", 0);
        check("extractor/patterns.rs", "use super::super::scraper;", 1);
        check("extractor.rs", "use super::scraper::Page;", 1);
        check("extractor.rs", "fn f() { crate::worker::run() }", 1);
        check("store/postings.rs", "use crate::domain::Posting;", 0);
        check("store/postings.rs", "use crate::extractor::Lexicon;", 1);
        check("store.rs", "use crate::orchestrator::Run;", 1);
        check("domain/posting.rs", "use super::skill::Skill; use crate::domain::Run;", 0);
        check("domain/posting.rs", "use crate::store;", 1);
        check("domain/posting.rs", "use observatory_proto::pipeline;", 1);
        check("domain.rs", "use crate::taxonomy::Concept;", 1);
        check("worker.rs", "use crate::{extractor, scraper};", 0);
        check("main.rs", "use crate::worker;", 0);
    }
}
