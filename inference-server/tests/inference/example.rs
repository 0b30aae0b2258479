//! The example for users, `proto/client/examples/embed.rs`, against a server of the binary.

use std::path::Path;
use std::process::Command;

use crate::process;
use crate::support::store;

/// What the example prints when it asks a server on loopback, and what it complains about.
fn example(texts: &[&str]) -> (String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_inference-server")).with_file_name("examples").join("embed");
    assert!(program.exists(), "{} is not built; run the tests of the whole workspace", program.display());
    let store = store(&["golden/tiny-e5"]);
    let file = store.path().join("inference.json");
    let (mut server, mut log) = process::start(store.path(), &["--announce-file", file.to_str().unwrap()]);
    process::wait_for(&mut log, "model ready");
    let address = process::announced(&file)["grpc"].as_str().unwrap().to_owned();
    let output = Command::new(program)
        .args(["--endpoint", &format!("http://{address}")])
        .args(texts)
        .env_clear()
        .output();
    server.kill().unwrap();
    server.wait().unwrap();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[test]
fn the_example_prints_how_alike_texts_are() {
    let (table, said) = example(&["data analyst", "welder", "", "data analyst"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{table}");
    let cosine = |row: usize, column: usize| rows[row][column + 1].parse::<f32>().unwrap();
    // A text is like itself, also where it is given twice; another one is less so, either way
    // round.
    assert_eq!((cosine(0, 0), cosine(1, 1), cosine(0, 3)), (1.0, 1.0, 1.0), "{table}");
    assert!(cosine(0, 1) < 1.0 && cosine(0, 1) == cosine(1, 0), "{table}");
    // The empty one fails alone.
    assert_eq!((cosine(2, 0), cosine(2, 2)), (0.0, 0.0), "{table}");
    assert!(said.starts_with("\"\": ") && said.lines().count() == 1, "{said}");
}
