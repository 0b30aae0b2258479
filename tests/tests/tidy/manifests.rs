//! Rules on Cargo.toml files: versions live in the root manifest, and crates have names that say
//! something.

use toml::{Table, Value};

use crate::rust::EMPTY_NAMES;

fn table(text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("not TOML: {error}\n{text}"))
}

/// The dependency tables of a manifest, those for one target included.
fn dependencies(manifest: &Table) -> Vec<(&String, &Value)> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.filter_map(Value::as_table).chain([manifest]);
    tables.flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table())).flatten().collect()
}

/// Dependencies of a member that do not inherit from the workspace.
pub(crate) fn own_versions(text: &str) -> Vec<String> {
    let manifest = table(text);
    let inherits = |value: &Value| value.get("workspace") == Some(&Value::Boolean(true));
    let own = dependencies(&manifest).into_iter().filter(|(_, value)| !inherits(value));
    own.map(|(name, _)| format!("{name} has its own version or source; it belongs in the root manifest"))
        .collect()
}

/// A package called utils and the like.
pub(crate) fn bad_package_name(text: &str) -> Vec<String> {
    let manifest = table(text);
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let bad = name.split(['-', '_']).find(|part| EMPTY_NAMES.contains(part));
    bad.map(|part| format!("the package name {name} holds {part}, which says nothing")).into_iter().collect()
}

/// Wildcards and git sources among the workspace's dependencies.
pub(crate) fn loose_versions(text: &str) -> Vec<String> {
    let manifest = table(text);
    let shared = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table);
    let loose = |value: &Value| {
        let version = value.as_str().or_else(|| value.get("version")?.as_str());
        value.get("git").is_some()
            || version.is_some_and(|version| version.contains('*'))
            || (version.is_none() && value.get("path").is_none())
    };
    let found = shared.into_iter().flatten().filter(|(_, value)| loose(value));
    found.map(|(name, _)| format!("{name} needs a version, not a wildcard or a git source")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_versions_outside_the_root() {
        let check = |text: &str, count: usize| assert_eq!(own_versions(text).len(), count, "{text}");
        check("[dependencies]\nserde.workspace = true\n[dev-dependencies]\ninsta = { workspace = true }", 0);
        check("[dependencies]\nserde = \"1\"", 1);
        check("[build-dependencies]\nserde = { path = \"../serde\" }", 1);
        check("[target.'cfg(unix)'.dependencies]\nnix = { version = \"1\" }", 1);
    }

    #[test]
    fn notices_loose_versions_and_empty_names() {
        let check = |text: &str, count: usize| assert_eq!(loose_versions(text).len(), count, "{text}");
        check("[workspace.dependencies]\na = \"1\"\nb = { version = \"=2.1\" }\nc = { path = \"c\" }", 0);
        check("[workspace.dependencies]\na = \"*\"", 1);
        check("[workspace.dependencies]\na = { git = \"https://example.org/a\", version = \"1\" }", 1);
        check("[workspace.dependencies]\na = { features = [] }", 1);
        assert_eq!(bad_package_name("[package]\nname = \"observatory-common\"").len(), 1);
        assert_eq!(bad_package_name("[package]\nname = \"observatory-proto\"").len(), 0);
    }
}
