//! Bad values that helm refuses, by the schema or by the templates that compare values.

use crate::helm::render_text;

/// A line each: what is set (`--set-json`, several separated by `;;`), and a part of the message.
const TABLE: &str = include_str!("refused.txt");

/// Checks every fourth line, so that the tests share the work.
fn every_fourth_is_refused_from(first: usize) {
    let lines: Vec<&str> = TABLE.lines().collect();
    assert!(lines.len() >= 150, "{} bad values", lines.len());
    let mut wrong = Vec::new();
    for line in lines.iter().skip(first).step_by(4) {
        let (sets, expected) = line.rsplit_once(" | ").expect(line);
        let arguments: Vec<&str> = sets.split(" ;; ").flat_map(|set| ["--set-json", set]).collect();
        match render_text(&[], &arguments) {
            Ok(_) => wrong.push(format!("accepted: {sets}")),
            Err(said) if !said.contains(expected) => {
                wrong.push(format!("{sets}\n  is refused without {expected:?}:\n{said}"));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refuses_a_first_quarter_of_the_bad_values() {
    every_fourth_is_refused_from(0);
}

#[test]
fn refuses_a_second_quarter_of_the_bad_values() {
    every_fourth_is_refused_from(1);
}

#[test]
fn refuses_a_third_quarter_of_the_bad_values() {
    every_fourth_is_refused_from(2);
}

#[test]
fn refuses_a_fourth_quarter_of_the_bad_values() {
    every_fourth_is_refused_from(3);
}

#[test]
fn native_sidecars_need_a_kubernetes_that_has_them() {
    let set = "mesh.mode=istio,mesh.nativeSidecars=true";
    let old = render_text(&[], &["--set", set, "--kube-version", "1.28.9"]).expect_err("it has none");
    let expected = "invalid mesh.nativeSidecars true: expected false before Kubernetes 1.29, this is v1.28.9";
    assert!(old.contains(expected), "{old}");
    // Distributions append to the version.
    let rendered = render_text(&[], &["--set", set, "--kube-version", "v1.29.1-gke.1"]);
    assert!(rendered.is_ok(), "{rendered:?}");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let arguments = ["--set", "inference.replicas=2,inference.sharedMemory=9Gi,database.connections=50"];
    let said = render_text(&[], &arguments).expect_err("three values are wrong");
    let lines = said.lines().filter(|line| line.starts_with("invalid ")).count();
    assert_eq!(lines, 3, "{said}");
}
