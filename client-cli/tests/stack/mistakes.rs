//! Mistakes of users, and the messages they get.
//!
//! Exit codes and hints are part of the contract.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::site::{Said, Site, distribution, open_dir};

fn observatory(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observatory"));
    command.env_clear().env("PATH", "/usr/bin:/bin").args(arguments);
    command
}

fn run(arguments: &[&str]) -> Said {
    observatory(arguments).output().unwrap().into()
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = open_dir();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let check = |place: &str| {
        let said = run(&["up", "--only", "postgres", "--data-dir", place]);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{place}");
        let expected = format!("error: cannot create the directory {place}");
        assert!(said.stderr.starts_with(&expected), "{}", said.stderr);
        assert!(
            said.stderr.contains("\nhint: choose another directory with --data-dir DIR"),
            "{}",
            said.stderr
        );
        assert_eq!(run(&["doctor", "--data-dir", place]).code, 1, "{place}");
    };
    check(&file.join("below").display().to_string());
    check("/proc/observatory");
}

#[test]
fn a_directory_postgres_cannot_reach_is_named() {
    let site = Site::empty(18, "data");
    if !nix::unistd::geteuid().is_root() {
        // Postgres runs as the caller, who reaches what is the caller's.
        site.up_postgres();
        return;
    }
    fs::create_dir(site.data.root()).unwrap();
    fs::set_permissions(site.data.root(), fs::Permissions::from_mode(0o700)).unwrap();
    let up = site.run(&["up", "--only", "postgres"]);
    assert_eq!(up.code, 2);
    assert!(up.stderr.contains("cannot be reached by the user nobody"), "{}", up.stderr);
    assert!(up.stderr.contains(&format!("{} has mode 0700", site.data.root().display())), "{}", up.stderr);
    assert!(site.run(&["doctor"]).stdout.contains("cannot be reached by the user nobody"));
    fs::set_permissions(site.data.root(), fs::Permissions::from_mode(0o711)).unwrap();
    site.up_postgres();
}

#[test]
fn a_damaged_cluster_is_not_overwritten() {
    let site = Site::empty(18, "data");
    fs::create_dir_all(site.data.cluster()).unwrap();
    fs::write(site.data.cluster().join("precious"), "data").unwrap();
    let up = site.run(&["up", "--only", "postgres"]);
    assert_eq!(up.code, 2);
    assert!(up.stderr.contains("is not empty and is not a PostgreSQL cluster"), "{}", up.stderr);
    assert_eq!(fs::read_to_string(site.data.cluster().join("precious")).unwrap(), "data");
}

#[test]
fn usage_errors_exit_with_2_and_suggest() {
    let dir = open_dir();
    let place = dir.path().to_str().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let said = run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(said.stderr.contains(expected), "{arguments:?}: {}", said.stderr);
    };
    check(&["staus"], "a similar subcommand exists: 'status'");
    check(&["up", "--wait"], "a similar argument exists: '--wait-seconds'");
    check(&["--data-dir"], "a value is required for '--data-dir <DIR>'");
    check(
        &["--data-dir", place, "up", "--only", "postgres", "--database-url", "mysql://x"],
        "invalid database URL: expected postgres://",
    );
    check(&["--data-dir", "", "status"], "a value is required for '--data-dir <DIR>'");
    check(&["up", "--pg-major", "15"], "15 is not in 16..=18");
    check(&["eval", "spans"], "--gold <FILE>");
    check(&["eval", "span", "--gold", "x"], "a similar subcommand exists: 'spans'");
    // The gold is read before anything is started.
    check(
        &["--data-dir", place, "eval", "spans", "--gold", "/nowhere"],
        "cannot read /nowhere: No such file",
    );
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    for arguments in [&["completions", "bash"][..], &["version"], &["version", "--json"]] {
        let mut child = observatory(arguments)
            .env("OBSERVATORY_DATA", "/tmp/none")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn binaries_of_the_wrong_version_are_refused() {
    let site = Site::empty(18, "data");
    let bin = distribution(16).bin;
    let up = site.run(&["up", "--only", "postgres", "--pg-bin", bin.to_str().unwrap()]);
    assert_eq!(up.code, 2);
    assert!(up.stderr.contains("contains PostgreSQL 16.14, expected 18"), "{}", up.stderr);
    let up = site.run(&["up", "--only", "postgres", "--pg-bin", "/nowhere"]);
    assert!(up.stderr.contains("postgres not found in /nowhere"), "{}", up.stderr);
}
