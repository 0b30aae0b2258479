//! The binary: announcing its ports, stopping on a signal, exit statuses.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::store;

fn command(models: &std::path::Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inference-server"));
    command
        .args(["--metrics-listen", "127.0.0.1:0", "--device", "cpu"])
        .arg("--models-dir")
        .arg(models)
        .args(flags);
    command.env_remove("OBSERVATORY_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Reads the log until a line contains `text`.
pub(crate) fn wait_for(log: &mut BufReader<ChildStderr>, text: &str) {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the process ended; it said:\n{seen}");
        if line.contains(text) {
            return;
        }
        seen.push_str(&line);
    }
}

/// A server on a free port that listens, and its log.
pub(crate) fn start(models: &std::path::Path, flags: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = command(models, flags).args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut log, "listening");
    (child, log)
}

/// What a server's announce file says.
pub(crate) fn announced(file: &std::path::Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Exit status and last line of standard error.
fn failure(models: &std::path::Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = command(models, flags).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text.trim_end().lines().last().unwrap_or_default().to_owned())
}

#[test]
fn announces_its_ports_and_stops_on_sigterm() {
    let store = store(&["golden/bert"]);
    let file = store.path().join("inference.json");
    let (mut child, mut log) = start(store.path(), &["--announce-file", file.to_str().unwrap()]);
    let announced = announced(&file);
    assert_eq!(announced["pid"], child.id());
    for port in ["grpc", "metrics"] {
        std::net::TcpStream::connect(announced[port].as_str().unwrap()).unwrap();
    }
    wait_for(&mut log, "model ready");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert!(!file.exists());
}

#[test]
fn interrupts_stop_it_too() {
    let empty = tempfile::tempdir().unwrap();
    let (mut child, _log) = start(empty.path(), &[]);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_start_says_why_in_one_line_and_exits_2() {
    let store = store(&["golden/bert"]);
    let check = |flags: &[&str], part: &str| {
        let (code, line) = failure(store.path(), flags);
        assert!(line.contains(part), "{line}");
        assert_eq!(code, Some(2), "{line}");
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&["--listen", &address], &format!("--listen {address}: Address already in use"));
    check(&["--model", "no/such"], "--model no/such: not in the model store");
    check(&["--max-texts", "0"], "invalid --max-texts `0`: expected a positive number");
    check(&["--listen", "127.0.0.1:0", "--announce-file", "/no/such/file"], "its directory does not exist");
    let nowhere = store.path().join("nowhere");
    let (code, line) = failure(&nowhere, &[]);
    assert!(line.contains("nowhere: cannot be read as a directory"), "{line}");
    assert_eq!(code, Some(2));
}

#[test]
fn no_model_at_all_exits_2() {
    let store = store(&["golden/bert"]);
    fs::write(store.path().join("golden/bert/config.json"), "{}").unwrap();
    let output = command(store.path(), &["--listen", "127.0.0.1:0"]).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("config.json: not the JSON that was expected"), "{log}");
}
