//! The program: output, exit codes, and two processes at once.
//!
//! Everything here is what scripts rely on.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::server::{FakeHub, NAME, Reply};

fn observatory(store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observatory"));
    command.env_clear().env("OBSERVATORY_MODELS", store).env("OBSERVATORY_DATA", store.join("data"));
    command.args(arguments);
    command
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn pull(hub: &FakeHub, store: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = observatory(store, &[&["models", "pull"], arguments].concat());
    said(&command.env("HF_ENDPOINT", &hub.origin).env("HF_TOKEN", "hf_secret").output().unwrap())
}

#[test]
fn a_pull_is_told_and_listed() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let (code, stdout, stderr) = pull(&hub, store.path(), &[NAME]);
    let commit = hub.commit();
    assert_eq!(code, Some(0), "{stderr}");
    let path = store.path().join(NAME).display().to_string();
    assert_eq!(stdout, format!("org/encoder pulled at {commit}: 5 files, 200.1 kB, {path}\n"));
    assert!(stderr.contains("\nmodel.safetensors: 200.0 kB\n"), "{stderr}");
    let (code, stdout, _) = pull(&hub, store.path(), &[&format!("{NAME}@{commit}"), "--json"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &json["changed"], &json["revision"]),
        (Some(0), &false.into(), &commit.as_str().into())
    );
    let list = observatory(store.path(), &["models", "list", "--stored"]).output().unwrap();
    let (code, stdout, _) = said(&list);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains(&format!("org/encoder  hub {} (main)  5      200.1 kB", &commit[..12])),
        "{stdout}"
    );
    let list = observatory(store.path(), &["models", "list", "--stored", "--json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(json[0]["record"]["revision"], commit.as_str());
    assert!(!format!("{stderr}{json}").contains("hf_secret"));
}

#[test]
fn exit_codes_tell_what_happened() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let (ended, stdout, stderr) = pull(&hub, store.path(), arguments);
        assert_eq!((ended, stdout.as_str()), (Some(code), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    };
    check(
        &["org/other"],
        1,
        "error: 127.0.0.1 has no model org/other at revision main\nhint: check the name",
    );
    check(&["org/encoder@v9"], 1, "has no model org/encoder at revision v9");
    check(&["encoder"], 2, "invalid model name `encoder`: expected ORGANISATION/NAME");
    check(
        &["org/encoder@a", "--revision", "b"],
        2,
        "conflicting revisions: a in the name and b in --revision",
    );
    check(
        &["org/encoder", "--revision", "../x"],
        2,
        "invalid revision `../x`: expected a branch, tag or commit",
    );
    check(&["org/encoder", "--hub", "hub"], 2, "invalid hub address");
    check(&["org/encoder", "--offline"], 2, "error: offline, and org/encoder is not in the model store");
    check(&["org/encoder", "--models-dir", "/proc/store"], 2, "cannot write to the model store /proc/store");
    hub.hook(|_, _| Reply::status(403));
    check(&["org/encoder"], 2, "status 403\nhint: set HF_TOKEN");
}

#[test]
fn offline_by_the_environment() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let offline = || {
        let mut command = observatory(store.path(), &["models", "pull", NAME]);
        said(&command.env("HF_ENDPOINT", &hub.origin).env("OBSERVATORY_OFFLINE", "1").output().unwrap())
    };
    assert_eq!(offline().0, Some(2));
    assert_eq!(pull(&hub, store.path(), &[NAME]).0, Some(0));
    hub.seen();
    assert_eq!(offline().0, Some(0));
    assert!(hub.seen().is_empty());
}

#[test]
fn verify_reads_the_files_again() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let verify = |arguments: &[&str]| {
        said(&observatory(store.path(), &[&["models", "verify"], arguments].concat()).output().unwrap())
    };
    assert_eq!(verify(&[]).0, Some(1));
    pull(&hub, store.path(), &[NAME]);
    let (code, stdout, _) = verify(&[NAME]);
    assert_eq!((code, stdout.as_str()), (Some(0), "MODEL        STATE   FILES\norg/encoder  intact  5\n"));
    fs::write(store.path().join(NAME).join("tokenizer.json"), "{\"model\": []}").unwrap();
    let (code, stdout, stderr) = verify(&["--json"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &json[0]["damages"][0]["damage"]), (Some(1), &"changed".into()));
    assert_eq!(stderr, "org/encoder: tokenizer.json does not match its recorded checksum\n");
    assert_eq!(verify(&["org/other"]).0, Some(1));
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let mut command = observatory(store.path(), &["models", "pull", NAME]);
    command.env("HF_ENDPOINT", "http://hub.invalid").env("HTTP_PROXY", &hub.origin);
    // The other host is called directly.
    let (code, _, stderr) = said(&command.env("NO_PROXY", "localhost").output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let asked = hub.seen().iter().filter(|seen| seen.header("host") == Some("hub.invalid")).count();
    assert_eq!(asked, 6);
}

#[test]
fn two_at_once_pull_once() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let (arrived, first_is_busy) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let mut held = false;
    hub.hook(move |seen, reply| {
        if seen.large && !std::mem::replace(&mut held, true) {
            arrived.send(()).unwrap();
            released.recv().unwrap();
        }
        reply
    });
    let start = || {
        let mut command = observatory(store.path(), &["models", "pull", NAME]);
        command.env("HF_ENDPOINT", &hub.origin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = start();
    first_is_busy.recv().unwrap();
    let mut second = start();
    let mut stderr = BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "waiting for another process that is changing org/encoder\n");
    release.send(()).unwrap();
    let (code, stdout, said_first) = said(&first.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{said_first}");
    assert!(stdout.starts_with("org/encoder pulled at "), "{stdout}");
    let mut stdout = String::new();
    second.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert!(second.wait().unwrap().success());
    assert!(stdout.starts_with("org/encoder is up to date at "), "{stdout}");
    assert_eq!(hub.seen().len(), 8);
}
