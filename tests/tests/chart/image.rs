//! Image references of the chart, and the Dockerfile that makes the image.

use crate::helm::{self, render, render_example};
use crate::manifest::{items, named, pods, text};

#[test]
fn images_take_a_digest_a_tag_or_the_application_version() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("image.digest={digest}");
    let check = |arguments: &[&str], component: &str, expected: &str| {
        let objects = render(&[], arguments);
        let deployment = named(&objects, &format!("Deployment/rel-observatory-{component}")).clone();
        let image = text(&deployment, "/spec/template/spec/containers/0/image").to_owned();
        assert_eq!(image, expected, "{arguments:?} {component}");
    };
    check(&[], "extractor", "observatory/observatory:0.1.0");
    check(&["--set", "image.tag=9.9.9"], "inference", "observatory/observatory:9.9.9");
    check(&["--set", &by_digest], "inference", &format!("observatory/observatory@{digest}"));
    check(
        &[
            "--set",
            "global.imageRegistry=host.example:5000,inference.image.repository=own/gpu,inference.image.tag=v7",
        ],
        "inference",
        "host.example:5000/own/gpu:v7",
    );
    check(&["--set", "inference.gpu.enabled=true"], "inference", "observatory/observatory:0.1.0-cuda");
    let cuda = format!("sha256:{}", "b".repeat(64));
    let gpu = format!("inference.gpu.enabled=true,{by_digest},inference.image.digest={cuda}");
    check(&["--set", &gpu], "inference", &format!("observatory/observatory@{cuda}"));
    check(&["--set", &gpu], "extractor", &format!("observatory/observatory@{digest}"));
}

/// The words after COPY of the Dockerfile's lines that start with `prefix`.
fn copies(prefix: &str) -> Vec<Vec<String>> {
    let dockerfile = std::fs::read_to_string(helm::root().join("Dockerfile")).expect("Dockerfile");
    let lines = dockerfile.lines().filter(|line| line.starts_with(prefix));
    lines.map(|line| line.split_whitespace().skip(1).map(str::to_owned).collect()).collect()
}

#[test]
fn the_image_holds_every_command_of_the_chart() {
    let installed = copies("COPY --from=build");
    for name in ["ambient", "cpu", "gpu", "mesh"] {
        for pod in pods(&render_example(name)) {
            for container in pod.containers() {
                let command = text(container, "/command/0");
                let target = format!("/usr/local/bin/{command}");
                let copied = installed.iter().any(|words| words.last() == Some(&target));
                assert!(copied, "{}: {command:?} is not in the image", pod.owner);
            }
        }
    }
}

/// The Rust sources of the program that a container runs.
fn sources(command: &str) -> String {
    let own: &[&str] = match command {
        "inference-server" => &["inference-server/src"],
        "pipeline-services" => &["pipeline-services/src", "proto/client/src"],
        "observatory" => &["client-cli/src", "proto/client/src"],
        other => panic!("the program {other} is not known here"),
    };
    let mut text = String::new();
    let mut folders: Vec<_> = own.iter().map(|folder| helm::root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder of sources") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&std::fs::read_to_string(path).expect("source file"));
            }
        }
    }
    text
}

/// A variable that no program reads would be a setting that does nothing.
#[test]
fn every_variable_of_a_container_is_read_by_its_program() {
    // Read by libraries: the log filter, temporary files, the database driver.
    let by_libraries = ["OBSERVATORY_LOG", "HOME", "PGSSLMODE", "PGSSLROOTCERT"];
    for name in ["ambient", "cnpg", "cpu", "external-db", "gpu", "inference-alone", "minimal", "tls"] {
        for pod in pods(&render_example(name)) {
            for container in pod.containers() {
                let command = text(container, "/command/0");
                let sources = sources(command);
                let reads_variables = sources.contains("env = \"");
                for entry in items(container, "/env") {
                    let variable = text(entry, "/name");
                    let known =
                        by_libraries.contains(&variable) || sources.contains(&format!("\"{variable}\""));
                    assert!(known || !reads_variables, "{}: {command} does not read {variable}", pod.owner);
                }
            }
        }
    }
}
