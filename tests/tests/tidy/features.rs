//! Programs and tests are built from the same crates: what development dependencies ask of a crate,
//! the programs ask too.
//!
//! Cargo unites the features of all that one command builds. Where a development dependency asks a
//! crate for more than the programs do, `make test` compiles that crate, and all that stand on it,
//! a second time.

use std::{collections::BTreeMap, process::Command};

use crate::tree;

/// Crates with their versions, and the features of each of their builds (host and target may
/// differ).
pub(crate) type Features = BTreeMap<String, Vec<String>>;

/// The crates that cargo would build of the workspace with these kinds of dependencies.
pub(crate) fn resolved(edges: &str) -> Features {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--locked", "--offline", "--prefix=none", "--format={p}\t{f}"])
        .args(["--edges", edges])
        .current_dir(tree::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(tree: &str) -> Features {
    let mut features = Features::new();
    for line in tree.lines() {
        let Some((package, list)) = line.trim_end_matches(" (*)").split_once('\t') else { continue };
        // Our own crates are members, whose features no other crate can change.
        if !package.contains("(/") {
            features.entry(package.to_owned()).or_default().push(list.to_owned());
        }
    }
    for lists in features.values_mut() {
        lists.sort_unstable();
        lists.dedup();
    }
    features
}

/// Crates of the programs whose features are others where the tests are built.
pub(crate) fn compiled_twice(programs: &Features, tests: &Features) -> Vec<String> {
    let differs = |(package, features): &(&String, &Vec<String>)| tests.get(*package) != Some(features);
    programs
        .iter()
        .filter(differs)
        .map(|(package, features)| {
            format!("{package}: the programs ask for {features:?}, the tests for {:?}", tests.get(package))
        })
        .collect()
}

#[test]
fn complains_of_a_crate_with_other_features() {
    let programs = parse("one v1.0.0\tstd\nown v0.1.0 (/somewhere)\t\none v1.0.0\tstd (*)\ntwo v1.0.0\t\n");
    let tests = parse("one v1.0.0\talloc,std\ntwo v1.0.0\t\nthree v1.0.0\t\n");
    assert_eq!(
        compiled_twice(&programs, &tests),
        [r#"one v1.0.0: the programs ask for ["std"], the tests for Some(["alloc,std"])"#]
    );
    assert!(compiled_twice(&programs, &programs).is_empty());
}
