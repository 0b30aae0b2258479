//! The program `portal-simulator`.

use std::{
    fs,
    io::Read,
    net::SocketAddr,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::client::get;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portal-simulator"))
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

#[test]
fn generate_writes_ads_and_truth() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ads, truth) = (path("ads.jsonl"), path("truth.jsonl"));
    let output = run(&["generate", "--seed", "7", "--ads", "61", "--out", &ads, "--truth", &truth]);
    assert!(output.status.success(), "{output:?}");
    let lines = |path: &str| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&ads), lines(&truth)), (61, 61));
    let again = run(&["generate", "--seed", "7", "--ads", "61", "--out", "-"]);
    assert_eq!(again.stdout, fs::read(&ads).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no scratch file is left");
}

#[test]
fn bad_arguments_are_named() {
    let check = |arguments: &[&str], expected: &str| {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    };
    check(&["generate"], "--out");
    check(&["generate", "--out", "-", "--wave", "3"], "wave 3 of 2");
    check(&["generate", "--out", "-", "--duplicates", "7"], "share duplicates is 7");
    check(&["generate", "--out", "-", "--site", "indeed:MX=3"], "unknown site `indeed:MX`");
    check(&["generate", "--out", "no/such/folder/x"], "cannot write no/such/folder/x");
    check(&["serve", "--fault", "slow"], "every is missing");
}

#[tokio::test]
async fn serve_announces_itself_and_stops_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let announcement = folder.path().join("simulator.json");
    let mut child = program()
        .args(["serve", "--ads", "60", "--listen", "127.0.0.1:0", "--announce-file"])
        .arg(&announcement)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let text = loop {
        match fs::read_to_string(&announcement) {
            Ok(text) => break text,
            Err(_) if started.elapsed() < Duration::from_secs(20) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let announced: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(announced["pid"], child.id());
    let address: SocketAddr = announced["http"].as_str().unwrap().parse().unwrap();
    let page = get(address, "/computrabajo/mx/ofertas-de-trabajo/").await;
    assert!(page.status == 200 && page.body.contains("box_offer"));
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success() && child.wait().unwrap().success());
    let mut stats = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stats).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats["requests"], &stats["by_site"]["computrabajo:MX"]), (&1.into(), &1.into()));
}
