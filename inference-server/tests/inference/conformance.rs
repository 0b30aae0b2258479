//! The contract as other programs see it: grpcio, with what it learns by reflection, and OpenAI's
//! own Python package.

use std::path::Path;
use std::process::{Child, Command};

use crate::process::{announced, start};
use crate::support::store;

/// A server process, ended with the test.
struct Server {
    child: Child,
    address: String,
    http: String,
}

impl Server {
    fn start(store: &Path, name: &str, flags: &[&str]) -> Self {
        let file = store.join(format!("{name}.json"));
        let announce = ["--announce-file", file.to_str().unwrap(), "--http-listen", "127.0.0.1:0"];
        let (child, mut log) = start(store, &[&announce, flags].concat());
        // What the server goes on to say is not looked at, and must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let address = |door: &str| announced(&file)[door].as_str().unwrap().to_owned();
        Self { child, address: address("grpc"), http: address("http") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a suite with the two servers; `tests` is its text.
fn passes(suite: &str, tests: &str, [server, small]: [&Server; 2]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".venv/bin/python");
    assert!(
        python.is_file(),
        "{} is not there: run `make setup` (or scripts/setup-python)",
        python.display()
    );
    let output = Command::new(python)
        .args(["-B", suite])
        .current_dir(root.join("inference-server/tests/conformance"))
        .env("OBSERVATORY_INFERENCE", &server.address)
        .env("OBSERVATORY_INFERENCE_SMALL", &small.address)
        .env("OBSERVATORY_HTTP", &server.http)
        .env("OBSERVATORY_HTTP_SMALL", &small.http)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{suite}: {report}");
    // unittest also succeeds where it finds nothing to run.
    let tests = tests.matches("    def test_").count();
    assert!(report.contains(&format!("Ran {tests} tests")), "{suite}: {report}");
}

#[test]
fn clients_find_the_contract_kept() {
    let models =
        ["golden/tiny-e5", "golden/dense-bin", "golden/xlmr-ner", "golden/xlmr-ranker", "golden/qwen2"];
    let store = store(&models);
    let order = ["--model", &models.join(",")];
    let mut server = Server::start(store.path(), "server", &order);
    let mut small =
        Server::start(store.path(), "small", &[&order[..], &["--max-queued-tokens", "64"]].concat());
    // The first waits until the models are loaded.
    passes("suite.py", include_str!("../conformance/suite.py"), [&server, &small]);
    passes("openai_suite.py", include_str!("../conformance/openai_suite.py"), [&server, &small]);
    for server in [&mut server, &mut small] {
        assert!(server.child.try_wait().unwrap().is_none(), "a server ended");
    }
}
