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
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.ci/check-data-dir");
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
        "cannot be reached by the user nobody, as whom postgres runs: {} has mode 0700",
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
