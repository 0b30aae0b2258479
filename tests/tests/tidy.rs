//! The structure rules of the project, checked over its own files.
//!
//! Every rule is a function from text to what is wrong with it, shown to fail next to its
//! definition; the tests here apply them to the whole tree.

#[path = "tidy/advisories.rs"]
mod advisories;
#[path = "tidy/context.rs"]
mod context;
#[path = "tidy/features.rs"]
mod features;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/owners.rs"]
mod owners;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/phrases.rs"]
mod phrases;
#[path = "tidy/printing.rs"]
mod printing;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/style.rs"]
mod style;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/writes.rs"]
mod writes;

use rust::Source;
use tree::{File, files};

/// Applies a rule to every file that `chosen` takes and fails with all complaints at once.
#[track_caller]
fn check(least: usize, chosen: impl Fn(&File) -> bool, rule: impl Fn(&File) -> Vec<String>) {
    let files: Vec<_> = files().iter().filter(|file| chosen(file)).collect();
    assert!(files.len() >= least, "only {} files looked at", files.len());
    let complain = |file: &&File| {
        rule(file).into_iter().map(|what| format!("{}: {what}", file.path)).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = files.iter().flat_map(complain).collect();
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

fn is_rust(file: &File) -> bool {
    file.path.ends_with(".rs")
}

#[test]
fn files_are_short() {
    check(10, is_rust, |file| rust::too_long(&file.path, &file.text).into_iter().collect());
}

#[test]
fn modules_are_named_for_what_they_hold() {
    check(10, is_rust, |file| rust::bad_module_names(&file.path, &Source::new(&file.text)));
}

#[test]
fn nothing_is_left_to_do() {
    check(10, is_rust, |file| rust::unfinished(&Source::new(&file.text)));
    check(5, |file| !is_rust(file), |file| text::unfinished(&file.path, &file.text));
}

#[test]
fn every_library_has_one_owner() {
    check(10, is_rust, |file| owners::trespasses(&file.path, Source::new(&file.text).code_without_tests()));
}

#[test]
fn nothing_prints_by_itself() {
    check(10, is_rust, |file| printing::panics(&file.path, Source::new(&file.text).code_without_tests()));
}

/// Path and code without comments, strings and tests of the Rust files in a folder.
fn code_in(folder: &str) -> Vec<(String, String)> {
    let chosen = |file: &&File| file.path.starts_with(folder) && is_rust(file) && !is_test_file(file);
    let code = |file: &File| (file.path.clone(), Source::new(&file.text).code_without_tests().to_owned());
    files().iter().filter(chosen).map(code).collect()
}

/// A file that is a test as a whole.
fn is_test_file(file: &File) -> bool {
    file.path.contains("/tests/") || file.path.ends_with("/tests.rs") || file.path.starts_with("tests/")
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rooms_import_what_their_table_allows() {
    for table in &imports::CRATES {
        let files = code_in(table.sources);
        assert!(files.len() >= 50, "only {} files looked at", files.len());
        none(&table.complaints(files.iter().map(|(path, code)| (path.as_str(), code.as_str()))));
        assert_eq!(table.circle(), None, "the table of {} allows a circle", table.sources);
    }
    check(100, is_rust, |file| {
        imports::foreign_to_domain(&file.path, Source::new(&file.text).code_without_tests())
    });
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = [
        "inference-server/src/",
        "pipeline-services/src/",
        "client-cli/src/",
        "pipeline-services/clustering/src/",
    ];
    for folder in sources {
        let mut files = code_in(folder);
        files.iter_mut().for_each(|(path, _)| *path = path[folder.len()..].to_owned());
        // Roots re-export; nothing below imports from them.
        files.retain(|(inside, _)| !["lib.rs", "main.rs", "testing.rs"].contains(&inside.as_str()));
        let graph = modules::Files::new(&files);
        let circles: Vec<String> =
            graph.circles().iter().map(|circle| format!("{folder}: {}", circle.join(" ↔ "))).collect();
        none(&circles);
    }
}

#[test]
fn one_hand_wrote_it() {
    check(100, is_rust, |file| style::wide_comments(&file.text));
    check(100, is_rust, |file| style::mixed_derives(&Source::new(&file.text)));
    check(100, is_rust, |file| style::other_error_fields(&Source::new(&file.text)));
}

#[test]
fn files_say_what_they_are_for() {
    let shipped = |file: &File| is_rust(file) && file.path.contains("/src/") && !is_test_file(file);
    check(100, shipped, |file| style::thin_module_docs(&file.text).into_iter().collect());
    check(100, shipped, |file| style::undocumented(&file.text));
}

#[test]
fn tests_that_have_grown_have_a_file_of_their_own() {
    check(100, is_rust, |file| style::long_inline_tests(&file.path, &file.text).into_iter().collect());
}

#[test]
fn nothing_is_translated_word_for_word() {
    let spoken = |file: &File| {
        let ending = file.path.rsplit('.').next().unwrap_or_default();
        // Released migrations and older entries of logs stay as they are.
        let quoted = ["migrations/", "CHANGELOG.md", "benches/RESULTS.md"];
        ["rs", "md", "proto", "toml", "yaml", "sh"].contains(&ending)
            && !quoted.iter().any(|place| file.path.starts_with(place))
    };
    check(100, spoken, |file| phrases::found(&file.text));
}

#[test]
fn documents_name_files_that_exist() {
    let places = paths::Places::new(files().iter().map(|file| file.path.as_str()));
    let mut documents = Vec::new();
    for file in files().iter().filter(|file| paths::DOCUMENTS.contains(&file.path.as_str())) {
        let stale = paths::stale(&file.text, &places);
        none(&stale.into_iter().map(|what| format!("{}: {what}", file.path)).collect::<Vec<_>>());
        documents.push(file.text.as_str());
    }
    assert_eq!(documents.len(), paths::DOCUMENTS.len(), "a document is missing");
    none(&paths::unused_exceptions(&documents));
}

#[test]
fn stages_write_no_row() {
    let writers = writes::writers(files().iter());
    // A rule that finds no function that writes has gone blind.
    assert!(writers.len() >= 40, "only {} functions that write: {writers:?}", writers.len());
    check(20, writes::covers, |file| writes::uses(&file.text, &writers));
}

#[test]
fn no_file_names_this_machine_or_a_registry() {
    check(20, |_| true, |file| text::private_names(&file.path, &file.text));
}

#[test]
fn versions_live_in_the_root_manifest() {
    // Workspaces of their own.
    let others = ["benches/Cargo.toml", "fuzz/Cargo.toml"];
    let members = |file: &File| file.path.ends_with("/Cargo.toml") && !others.contains(&file.path.as_str());
    check(5, members, |file| manifests::own_versions(&file.text));
    check(5, members, |file| manifests::bad_package_name(&file.text));
    check(1, |file| file.path == "Cargo.toml", |file| manifests::loose_versions(&file.text));
}

#[test]
fn migrations_are_ordered() {
    let names: Vec<&str> = files().iter().filter_map(|file| file.path.strip_prefix("migrations/")).collect();
    assert_eq!(text::bad_migrations(&names), Vec::<String>::new());
}

#[test]
fn every_dependency_may_be_used() {
    let rules = licences::Rules::read(&tree::root().join("deny.toml"));
    let wrong = rules.complaints(&licences::packages());
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_dependency_is_known_to_be_vulnerable() {
    let table = advisories::Table::parse(include_str!("tidy/advisories.toml"));
    let today = chrono::Utc::now().date_naive();
    // The clock of a machine may be off by a day, not by more.
    assert!(table.age(today) >= -1, "the table of advisories comes from the future");
    if let Some(warning) = table.warning(today) {
        eprintln!("warning: {warning}");
    }
    let lock = std::fs::read_to_string(tree::root().join("Cargo.lock")).expect("Cargo.lock");
    let wrong = table.complaints(&lock);
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn programs_and_tests_are_built_from_the_same_crates() {
    let (programs, tests) = (features::resolved("normal,build"), features::resolved("normal,build,dev"));
    assert!(programs.len() >= 300, "only {} crates looked at", programs.len());
    let wrong = features::compiled_twice(&programs, &tests);
    assert!(
        wrong.is_empty(),
        "pin these features in tests/Cargo.toml, or `make test` compiles them twice:\n{}",
        wrong.join("\n")
    );
}
