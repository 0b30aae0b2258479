//! Running the real helm and kubernetes-validate on the chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The Kubernetes versions the chart is rendered for and checked against.
pub(crate) const KUBERNETES: [&str; 3] = ["1.31", "1.34", "1.37"];

/// Groups of custom resources, for which the validator carries no schema.
const CUSTOM_GROUPS: [&str; 7] = [
    "gateway.networking.k8s.io/",
    "keda.sh/",
    "monitoring.coreos.com/",
    "networking.istio.io/",
    "policy.linkerd.io/",
    "postgresql.cnpg.io/",
    "security.istio.io/",
];

/// The repository root: that of the running cargo, or else the one the test was built in.
pub(crate) fn root() -> PathBuf {
    let crate_folder = std::env::var("CARGO_MANIFEST_DIR");
    let crate_folder = crate_folder.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&crate_folder).parent().expect("the tests crate lies in the root").to_owned()
}

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    root().join("helm/observatory")
}

/// The example values files under `ci/`, sorted.
pub(crate) fn examples() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(chart().join("ci")).expect("ci folder of the chart");
    let mut files: Vec<_> = folder.map(|entry| entry.expect("entry of the ci folder").path()).collect();
    files.sort();
    files
}

/// One example values file by its short name, for example "gpu".
pub(crate) fn example(name: &str) -> PathBuf {
    chart().join("ci").join(format!("{name}-values.yaml"))
}

/// A tool of the chart checks: the variable's value, or the file that `make setup` installs.
fn tool(variable: &str, name: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => root().join(".venv/bin").join(name),
    };
    assert!(
        path.is_file(),
        "{name} is not at {}: run `make setup` (or scripts/setup-python), or set {variable} to its path",
        path.display()
    );
    path
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// One call of helm; stdout on success, stderr on failure.
pub(crate) fn helm(arguments: &[&str], values: &[&Path]) -> Result<String, String> {
    let mut command = Command::new(tool("OBSERVATORY_HELM", "helm"));
    // A process of seconds has memory to spare: collecting garbage takes a quarter of its time.
    command.args(arguments).env("GOGC", "400");
    for file in values {
        command.arg("--values").arg(file);
    }
    let output = output(&mut command);
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("helm prints UTF-8"))
    } else {
        Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

/// What `helm lint --strict` says about the chart with a values file.
pub(crate) fn lint(values: &Path) -> Result<String, String> {
    let chart = chart();
    helm(&["lint", "--strict", chart.to_str().expect("UTF-8 path")], &[values])
}

/// The rendered manifest as text; `arguments` go to `helm template`.
pub(crate) fn render_text(values: &[&Path], arguments: &[&str]) -> Result<String, String> {
    let chart = chart();
    let mut all = vec!["template", "rel", chart.to_str().expect("UTF-8 path"), "--namespace", "labor"];
    all.extend(arguments);
    helm(&all, values)
}

/// The rendered objects of a values file.
pub(crate) fn render(values: &[&Path], arguments: &[&str]) -> Vec<Value> {
    let text = render_text(values, arguments).unwrap_or_else(|error| panic!("helm template failed: {error}"));
    parse(&text)
}

/// The notes that an install prints. `helm template` leaves them out: in a copy of the chart they
/// are a template like others.
pub(crate) fn notes(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    let templates = folder.path().join("templates");
    std::fs::create_dir(&templates).expect("a folder of templates");
    let files = ["Chart.yaml", "values.yaml"].map(|name| chart().join(name));
    let parts = std::fs::read_dir(chart().join("templates")).expect("templates");
    let parts = parts.map(|entry| entry.expect("entry").path());
    for path in parts.filter(|path| path.extension().is_some_and(|ending| ending == "tpl")).chain(files) {
        let name = path.file_name().expect("a name");
        let to =
            if path.extension().is_some_and(|ending| ending == "tpl") { &templates } else { folder.path() };
        std::fs::copy(&path, to.join(name)).expect("copy a file");
    }
    let text = std::fs::read_to_string(chart().join("templates/NOTES.txt")).expect("the notes");
    let named = format!("{{{{ define \"notes\" }}}}{text}{{{{ end }}}}");
    std::fs::write(templates.join("_notes.tpl"), named).expect("write a template");
    let object = "kind: Notes\ntext: {{ include \"notes\" . | toJson }}\n";
    std::fs::write(templates.join("notes.yaml"), object).expect("write a template");
    let path = folder.path().to_str().expect("UTF-8 path");
    let mut all = vec!["template", "rel", path, "--namespace", "labor"];
    all.extend(arguments);
    let said = helm(&all, &[]).unwrap_or_else(|error| panic!("{error}"));
    parse(&said)[0]["text"].as_str().expect("text").to_owned()
}

/// The rendered objects of one example with its defaults.
pub(crate) fn render_example(name: &str) -> Vec<Value> {
    render(&[&example(name)], &[])
}

/// Every document of a YAML stream that is not empty.
pub(crate) fn parse(text: &str) -> Vec<Value> {
    let texts: Vec<&str> = text.split("\n---\n").collect();
    // The reader takes 1,024 documents at most.
    let documents = texts.chunks(300).flat_map(|texts| {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&texts.join("\n---\n")).expect("the manifest is YAML");
        documents
    });
    documents.filter(|document| !document.is_null()).collect()
}

/// Checks manifests against the schemas of one Kubernetes version.
///
/// The validator only warns of a kind it does not know, and exits 0: such a warning is an error
/// here unless its group is on the list of custom resources.
pub(crate) fn validate(version: &str, files: &[PathBuf]) -> Result<(), String> {
    let validator = tool("OBSERVATORY_KUBERNETES_VALIDATE", "kubernetes-validate");
    let output = output(Command::new(validator).args(["--strict", "-k", version]).args(files));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let unknown = unknown_kinds(&said);
    if !unknown.is_empty() {
        return Err(format!("no schema in Kubernetes {version} for {}", unknown.join(", ")));
    }
    if !output.status.success() {
        return Err(format!("refused by the schemas of Kubernetes {version}:\n{said}"));
    }
    if !said.contains("passed") {
        return Err(format!("the validator looked at nothing: {said:?}"));
    }
    Ok(())
}

/// The kinds ("apiVersion kind") for which the validator found no schema and that are not custom
/// resources.
pub(crate) fn unknown_kinds(said: &str) -> Vec<String> {
    said.lines()
        .filter_map(|line| line.split_once("Couldn't find schema for kind "))
        .map(|(_, rest)| {
            let kind = rest.split_whitespace().next().unwrap_or("?");
            let version = rest
                .split("api version ")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next())
                .unwrap_or("?");
            format!("{version} {kind}")
        })
        .filter(|kind| !CUSTOM_GROUPS.iter().any(|group| kind.starts_with(group)))
        .collect()
}
