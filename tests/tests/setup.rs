//! What is asked before anything is built.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

/// Exit code and words of the check for a data directory.
fn check(arguments: &[&str], data: Option<&Path>) -> (i32, String) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/check-data-dir");
    let mut command = Command::new(script);
    command.args(arguments).env_remove("OBSERVATORY_PG_USER").env_remove("OBSERVATORY_DATA");
    if let Some(data) = data {
        command.env("OBSERVATORY_DATA", data);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_data_directory_is_judged_as_the_program_judges_it() {
    let dir = tempfile::Builder::new().prefix("obs-").tempdir().unwrap();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chmod(dir.path(), 0o755);
    assert_eq!(check(&[], Some(&dir.path().join("data"))), (0, String::new()));

    let closed = dir.path().join("home");
    fs::create_dir(&closed).unwrap();
    chmod(&closed, 0o700);
    let data = closed.join("deep/data");
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        // Only root hands the database to another user.
        assert_eq!(check(&[], Some(&data)).0, 0);
        chmod(&closed, 0o500);
        assert!(check(&[], Some(&data)).1.contains("error: cannot write to the data directory"));
        chmod(&closed, 0o700);
        return;
    }
    let words = format!(
        "cannot be reached by the user nobody, which runs the stack: {} has mode 0700",
        closed.display()
    );
    for (arguments, data) in [
        (vec![], Some(data.as_path())),
        (vec!["--keep", "--data-dir", data.to_str().unwrap()], None),
        (vec![&format!("--data-dir={}", data.display())[..]], None),
    ] {
        let (code, said) = check(&arguments, data);
        assert_eq!(code, 2, "{said}");
        assert!(
            said.contains(&words) && said.contains(&format!("hint: chmod o+x {}", closed.display())),
            "{said}"
        );
    }
    chmod(&closed, 0o711);
    assert_eq!(check(&[], Some(&data)), (0, String::new()));
    // A file where the directory would lie.
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(check(&[], Some(&dir.path().join("file/data"))).0, 2);
}

/// Exit code and words of a script of `scripts/`, where `cargo` is a stand-in that takes down what
/// it is asked.
fn with_cargo(script: &str, cargo: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = dir.path().join("cargo");
    let asked = dir.path().join("asked");
    fs::write(&stand_in, format!("#!/bin/sh\necho \"$@\" >>{}\n{cargo}\n", asked.display())).unwrap();
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    // A copy, so that what the script writes lies in no repository.
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::create_dir_all(dir.path().join("copy/scripts")).unwrap();
    fs::create_dir(dir.path().join("copy/fuzz")).unwrap();
    for name in [format!("scripts/{script}"), "Cargo.lock".to_owned()] {
        fs::copy(root.join(&name), dir.path().join("copy").join(&name)).unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let program = dir.path().join("copy/scripts").join(script);
    let output = Command::new(program).arg("7").env("PATH", path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said, fs::read_to_string(asked).unwrap())
}

#[test]
fn fuzzing_says_what_is_missing_and_runs_where_nothing_is() {
    let (code, said, _) = with_cargo("fuzz", "exit 1");
    assert_eq!(
        (code, said.contains("there is no nightly compiler, so nothing was fuzzed")),
        (2, true),
        "{said}"
    );
    let (code, said, _) = with_cargo("fuzz", "[ \"$1\" != fuzz ]");
    assert_eq!(
        (code, said.contains("cargo-fuzz is not installed, so nothing was fuzzed")),
        (2, true),
        "{said}"
    );
    let (code, said, asked) = with_cargo("fuzz", "exit 0");
    assert_eq!(code, 0, "{said}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets");
    let targets = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let targets: Vec<String> =
        targets.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(targets.len() >= 4, "{targets:?}");
    for target in targets {
        let run = format!("+nightly fuzz run {target} fuzz/corpus/{target}");
        assert!(
            asked.lines().any(|line| line.starts_with(&run) && line.contains("-max_total_time=7 ")),
            "{asked}"
        );
    }
    // One that finds something is reported.
    let (code, said, _) = with_cargo("fuzz", "[ \"$3\" != run ]");
    assert_eq!(code, 1, "{said}");
}

#[test]
fn miri_says_what_is_missing_and_runs_where_nothing_is() {
    let (code, said, _) = with_cargo("miri", "exit 1");
    assert_eq!((code, said.contains("so nothing was looked at")), (2, true), "{said}");
    let (code, said, asked) = with_cargo("miri", "exit 0");
    assert_eq!((code, asked.matches("+nightly miri test").count()), (0, 2), "{said} {asked}");
}
