//! The build context of the container image: exactly what the builder is sent and copies, laid out
//! in a folder of its own, where everything that the compiler reads must be found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::licences::metadata;
use crate::rust::Source;
use crate::tree;

/// One line of a .dockerignore.
struct Pattern {
    keeps: bool,
    form: Regex,
}

/// Reads a .dockerignore: the last pattern that matches a path, or a folder above it, decides.
fn patterns(text: &str) -> Vec<Pattern> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pattern = |line: &str| {
        let (keeps, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line));
        let mut form = regex::escape(line.trim_matches('/'));
        for (written, means) in [(r"\*\*/", "(?:.+/)?"), (r"\*\*", ".+"), (r"\*", "[^/]*"), (r"\?", "[^/]")] {
            form = form.replace(written, means);
        }
        Pattern { keeps, form: Regex::new(&format!("^{form}$")).expect("a pattern") }
    };
    lines.map(pattern).collect()
}

fn is_sent(path: &str, patterns: &[Pattern]) -> bool {
    let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
    let above: Vec<&str> = folders.chain([path]).collect();
    let last = patterns.iter().rev().find(|pattern| above.iter().any(|part| pattern.form.is_match(part)));
    last.is_none_or(|pattern| pattern.keeps)
}

/// The files and crates that the Dockerfile's compiling stage copies and builds.
struct Recipe {
    /// Sources and the target of each COPY from the context.
    copies: Vec<(Vec<String>, String)>,
    packages: Vec<String>,
    programs: Vec<String>,
}

fn recipe(dockerfile: &str) -> Recipe {
    let joined = dockerfile.replace("\\\n", " ");
    let stages: Vec<&str> = joined.split("\nFROM ").collect();
    let stage =
        stages.into_iter().find(|stage| stage.contains("cargo build")).expect("a stage that compiles");
    let words = |line: &str| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let copied = stage.lines().filter(|line| ["COPY ", "ADD "].iter().any(|verb| line.starts_with(verb)));
    let from_context =
        copied.map(words).filter(|words| !words.iter().any(|word| word.starts_with("--from=")));
    let all = |form: &str| {
        let form = Regex::new(form).expect("a form");
        form.captures_iter(stage).map(|found| found[1].to_owned()).collect::<Vec<_>>()
    };
    Recipe {
        copies: from_context
            .filter_map(|mut words| Some((words.pop()?, words)))
            .map(|(to, from)| (from, to))
            .collect(),
        packages: all(r"-p ([a-z-]+)"),
        programs: all(r"target/release/([a-z-]+)"),
    }
}

/// Lays the files of `root` out in `into` as the builder would see them.
fn lay_out(root: &Path, ignore: &str, recipe: &Recipe, into: &Path) {
    let patterns = patterns(ignore);
    for (sources, target) in &recipe.copies {
        for source in sources {
            let from = root.join(source);
            assert!(from.exists(), "{source} is copied into the image and does not exist");
            let to = if sources.len() > 1 || target.ends_with('/') || target == "." {
                let name = if from.is_file() { Path::new(source).file_name() } else { None };
                name.map_or_else(|| into.join(target), |name| into.join(target).join(name))
            } else {
                into.join(target)
            };
            copy(root, &from, &to, &patterns);
        }
    }
}

fn copy(root: &Path, from: &Path, to: &Path, patterns: &[Pattern]) {
    if from.is_dir() {
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(root, &entry.path(), &to.join(entry.file_name()), patterns);
        }
    } else if is_sent(&from.strip_prefix(root).expect("below the root").to_string_lossy(), patterns) {
        fs::create_dir_all(to.parent().expect("a folder")).expect("create a folder");
        fs::copy(from, to).expect("copy a file");
    }
}

/// Folders of the packages and of those of ours that they stand on.
fn compiled(metadata: &Value, packages: &[String]) -> BTreeSet<PathBuf> {
    let mut wanted = packages.to_vec();
    let mut folders = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let ours = |package: &&Value| package["name"] == name.as_str() && package["source"].is_null();
        let package = metadata["packages"].as_array().into_iter().flatten().find(ours);
        let package =
            package.unwrap_or_else(|| panic!("the image builds {name}, which is no package of ours"));
        let manifest = Path::new(package["manifest_path"].as_str().expect("a manifest"));
        if folders.insert(manifest.parent().expect("a folder").to_owned()) {
            let needed = package["dependencies"].as_array().into_iter().flatten();
            let needed = needed.filter(|one| one["path"].is_string() && one["kind"] != "dev");
            wanted.extend(needed.filter_map(|one| Some(one["name"].as_str()?.to_owned())));
        }
    }
    folders
}

/// Sources that a build of the crate in `folder` reads: no module of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let programs = fs::read_dir(folder.join("src/bin")).into_iter().flatten().flatten();
    let mut next: Vec<PathBuf> = programs.map(|entry| entry.path()).collect();
    next.extend(["src/lib.rs", "src/main.rs", "build.rs"].map(|name| folder.join(name)));
    while let Some(path) = next.pop() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let source = Source::new(&text);
        let top = ["lib.rs", "main.rs", "build.rs"].iter().any(|name| path.ends_with(name));
        let inner = if top { path.with_file_name("") } else { path.with_extension("") };
        let lines: Vec<&str> = source.code_without_tests().lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let line = line.trim_start_matches("pub(super) ");
            let name = line.strip_prefix("mod ").and_then(|line| line.trim_end().strip_suffix(';'));
            let of_tests = at > 0 && lines[at - 1].trim() == "#[cfg(test)]";
            if let Some(name) = name.filter(|_| !of_tests) {
                next.push(inner.join(format!("{name}.rs")));
            }
        }
        found.push(path);
    }
    found
}

/// The text of the string literals from `at` up to the bracket that closes.
fn literals(text: &[char], code: &[char], at: usize) -> Vec<String> {
    let (mut depth, mut found, mut open) = (0, Vec::new(), None);
    for index in at..code.len() {
        match (code[index], open) {
            ('"', None) => open = Some(index + 1),
            ('"', Some(start)) => {
                found.push(text[start..index].iter().collect());
                open = None;
            }
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) => depth -= 1,
            _ => {}
        }
        if depth == 0 && index > at {
            break;
        }
    }
    found
}

/// Files and folders outside of Rust sources that a build of the crate in `folder` reads.
fn inputs(folder: &Path) -> BTreeSet<PathBuf> {
    let next_to = ["include_str!", "include_bytes!", "include!"];
    let below = ["include_dir!", "migrate!"];
    let named = Regex::new(r#""(?:cargo:+rerun-if-changed=)?([^"\s]+)""#).expect("a form");
    let mut found = BTreeSet::new();
    for path in sources(folder) {
        let text = fs::read_to_string(&path).expect("a source");
        let source = Source::new(&text);
        let code = source.code_without_tests();
        let (chars, code_chars): (Vec<char>, Vec<char>) = (text.chars().collect(), code.chars().collect());
        let mut add = |name: &str, at: usize, base: &Path| {
            let start = code[..at].chars().count() + name.chars().count();
            let said: String = literals(&chars, &code_chars, start).concat();
            // What is made while building lies in a folder of cargo's.
            if !said.starts_with("OUT_DIR") {
                let own =
                    said.strip_prefix("CARGO_MANIFEST_DIR").or(said.strip_prefix("$CARGO_MANIFEST_DIR"));
                found.insert(plain(&match own {
                    Some(own) => folder.join(own.trim_start_matches('/')),
                    None => base.join(&said),
                }));
            }
        };
        for (names, base) in [(&next_to[..], path.parent().expect("a folder")), (&below[..], folder)] {
            for name in names {
                for (at, _) in code.match_indices(name).filter(|(at, _)| !code[..*at].ends_with('_')) {
                    add(name, at, base);
                }
            }
        }
        // Queries are checked against the cache.
        if ["query!", "query_as!", "query_scalar!"].iter().any(|name| code.contains(name)) {
            found.insert(plain(&folder.join("../.sqlx")));
        }
        if path.ends_with("build.rs") {
            let named = named.captures_iter(&text).map(|name| folder.join(&name[1]));
            found.extend(named.filter(|path| path.exists()).map(|path| plain(&path)));
        }
    }
    found
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Files below a path, as paths from it.
fn files(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = vec![path.to_owned()];
    while let Some(one) = next.pop() {
        match fs::read_dir(&one) {
            Ok(entries) => next.extend(entries.flatten().map(|entry| entry.path())),
            Err(_) if one.is_file() => {
                found.insert(one.strip_prefix(path).expect("below").to_owned());
            }
            Err(_) => {}
        }
    }
    found
}

/// Files that a build of the crates reads in `root` and does not find in its copy.
fn missing(root: &Path, copy: &Path, crates: &BTreeSet<PathBuf>) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in crates {
        let read = inputs(folder).into_iter().chain(sources(folder));
        for path in read {
            let Ok(inside) = path.strip_prefix(root) else {
                wrong.push(format!("{} lies outside of the project", path.display()));
                continue;
            };
            let (whole, sent) = (files(&path), files(&copy.join(inside)));
            if whole.is_empty() {
                wrong.push(format!("{} does not exist", inside.display()));
            }
            let lost = whole.difference(&sent).map(|file| plain(&inside.join(file)));
            wrong.extend(lost.map(|file| format!("{} is not in the context", file.display())));
        }
    }
    wrong
}

/// Inputs of the built programs as the compiler noted them: `TARGET: INPUT INPUT …`.
fn noted(folder: &Path, root: &Path, programs: &[String]) -> BTreeSet<PathBuf> {
    let notes = programs.iter().filter_map(|name| fs::read_to_string(folder.join(format!("{name}.d"))).ok());
    let inputs = notes.flat_map(|note| {
        let (_, inputs) = note.split_once(": ").expect("a target and its inputs");
        let inputs = inputs.replace("\\ ", "\0");
        inputs.split_whitespace().map(|path| plain(Path::new(&path.replace('\0', " ")))).collect::<Vec<_>>()
    });
    inputs.filter_map(|path| Some(path.strip_prefix(root).ok()?.to_owned())).collect()
}

#[test]
fn the_image_is_built_from_its_context_alone() {
    let root = fs::canonicalize(tree::root()).expect("the root");
    let read =
        |name: &str| fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let recipe = recipe(&read("Dockerfile"));
    assert!(recipe.packages.len() >= 4 && recipe.programs.len() >= 4, "{:?}", recipe.packages);
    let copy = tempfile::tempdir().expect("a folder");
    lay_out(&root, &read(".dockerignore"), &recipe, copy.path());
    // The manifests of the copy, its lock file and its targets fit together.
    let metadata = metadata(copy.path(), &["--offline"]).unwrap_or_else(|error| panic!("{error}"));
    let targets = metadata["packages"].as_array().into_iter().flatten();
    let targets = targets.filter(|package| package["source"].is_null());
    let targets: Vec<&Value> = targets.flat_map(|package| package["targets"].as_array()).flatten().collect();
    for program in &recipe.programs {
        let made = targets.iter().any(|one| one["name"] == program.as_str() && one["kind"][0] == "bin");
        assert!(made, "the image takes {program}, which is not built");
    }
    let inside = fs::canonicalize(copy.path()).expect("the copy");
    let crates: BTreeSet<PathBuf> = compiled(&metadata, &recipe.packages)
        .iter()
        .map(|folder| {
            root.join(fs::canonicalize(folder).expect("a folder").strip_prefix(&inside).expect("inside"))
        })
        .collect();
    assert!(crates.len() >= 7, "{crates:?}");
    assert!(crates.iter().map(|folder| inputs(folder).len()).sum::<usize>() >= 40, "hardly any inputs");
    let mut wrong = missing(&root, &inside, &crates);
    // Whatever the programs that are built here were built from, macros of others included.
    let test = std::env::current_exe().expect("this program");
    let built = test.parent().and_then(Path::parent).expect("the folder of programs");
    let noted = noted(built, &root, &recipe.programs);
    if noted.is_empty() {
        eprintln!("skipped: no notes of the compiler in {}", built.display());
    }
    // What build scripts wrote is written again there.
    let read = noted.iter().filter(|path| !root.join(path).starts_with(built));
    let lost = read.filter(|path| root.join(path).exists() && !inside.join(path).exists());
    wrong.extend(lost.map(|path| format!("{} is not in the context", path.display())));
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn base_images_are_exact() {
    let dockerfile = fs::read_to_string(tree::root().join("Dockerfile")).expect("Dockerfile");
    let images: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("ARG ")?.split_once("_IMAGE="))
        .map(|(_, image)| image)
        .collect();
    assert_eq!(images.len(), 3, "{images:?}");
    let exact =
        Regex::new(r"^[a-z]+:[a-z0-9.-]*\d+[.\d]+\d[a-z0-9.-]*@sha256:[0-9a-f]{64}$").expect("a form");
    for image in images {
        assert!(exact.is_match(image), "{image} names no exact tag and digest");
    }
}

#[test]
fn reads_dockerignore_as_docker_does() {
    let rules = patterns("# only these\n*\n!a\n!b/c\n**/target\n**/*.new\n!a/keep.new\n");
    let check = |path: &str, expected: bool| assert_eq!(is_sent(path, &rules), expected, "{path}");
    check("a", true);
    check("a/b/c.rs", true);
    check("b", false);
    check("b/d", false);
    check("b/c/d", true);
    check("a/target/x", false);
    check("target", false);
    check("a/b.new", false);
    check("a/keep.new", true);
    check("scripts/setup", false);
    assert!(is_sent("anything", &[]));
}

#[test]
fn notices_inputs_that_stay_outside() {
    let root = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("create a folder");
        fs::write(path, text).expect("write a file");
    };
    let source = "mod x;\n#[cfg(test)]\nmod tests;\n// include_str!(\"../../no\")\nconst A: &str = include_str!(\"../../out/a\");\n\
         const M: M = sqlx::migrate!(\"../sql\");\nconst B: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/b\"));\n\
         const C: &str = include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/c\"));\n\
         #[cfg(test)]\nmod inner {\n    const D: &str = include_str!(\"../../out/d\");\n}\n";
    write("one/src/lib.rs", source);
    write("one/src/x.rs", "/// ñ\nconst X: &str = include_str!(\n    \"y\"\n);\n");
    write("one/src/tests.rs", "const T: &str = include_str!(\"../../out/t\");\n");
    write("one/build.rs", "fn main() { println!(\"cargo:rerun-if-changed=proto\"); }\n");
    for name in ["one/src/y", "one/c", "one/proto/p", "out/a", "out/d", "out/t", "sql/1", "sql/2"] {
        write(name, "");
    }
    let check = |ignore: &str, expected: &[&str]| {
        let copy = tempfile::tempdir().expect("a folder");
        let copies =
            vec![(vec!["one".to_owned()], "one".to_owned()), (vec!["sql".to_owned()], "sql".to_owned())];
        let recipe = Recipe { copies, packages: Vec::new(), programs: Vec::new() };
        lay_out(root.path(), ignore, &recipe, copy.path());
        let crates = BTreeSet::from([root.path().join("one")]);
        let mut wrong = missing(root.path(), copy.path(), &crates);
        wrong.sort();
        let expected: Vec<String> =
            expected.iter().map(|path| format!("{path} is not in the context")).collect();
        assert_eq!(wrong, expected, "{ignore:?}");
    };
    check("", &["out/a"]);
    check("sql/2", &["out/a", "sql/2"]);
    check("*\n!one\n**/y\none/c", &["one/c", "one/src/y", "out/a", "sql/1", "sql/2"]);
    check("**/proto", &["one/proto/p", "out/a"]);
    check("one/src/x.rs", &["one/src/x.rs", "out/a"]);
}

#[test]
fn reads_what_the_image_is_made_of() {
    let text = "FROM a AS tools\nCOPY z z\n\nFROM b AS build\nCOPY --from=tools /t /t\nCOPY x.toml x.lock ./\nCOPY d e\n\
         RUN cargo build -p one \\\n    -p two \\\n  && cp target/release/p /out\n\nFROM c\nCOPY --from=build /out/p /p\n";
    let found = recipe(text);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found.copies,
        [(words(&["x.toml", "x.lock"]), "./".to_owned()), (words(&["d"]), "e".to_owned())]
    );
    assert_eq!((found.packages, found.programs), (words(&["one", "two"]), words(&["p"])));
}
