//! Licences, bans and sources of every dependency, by the rules of deny.toml.

use std::path::Path;
use std::process::Command;

use spdx::{Expression, Licensee, ParseMode};
use toml::{Table, Value};

/// A dependency as cargo reports it.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    /// None for a member of the workspace.
    pub(crate) source: Option<String>,
}

/// The rules of deny.toml: licences that are allowed, crates that are banned.
pub(crate) struct Rules {
    allowed: Vec<Licensee>,
    banned: Vec<String>,
}

impl Rules {
    /// Reads the rules of a deny.toml.
    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(
            &std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        )
    }

    fn parse(text: &str) -> Self {
        let rules: Table = text.parse().expect("deny.toml is TOML");
        let list = |section: &str, key: &str| {
            let items = rules.get(section).and_then(|section| section.get(key)).and_then(Value::as_array);
            items.unwrap_or_else(|| panic!("deny.toml has no list {section}.{key}")).clone()
        };
        let licence =
            |value: &Value| Licensee::parse(value.as_str().expect("a licence")).expect("an SPDX licence");
        let name = |value: &Value| {
            value.get("name").and_then(Value::as_str).expect("a banned crate has a name").to_owned()
        };
        Self {
            allowed: list("licenses", "allow").iter().map(licence).collect(),
            banned: list("bans", "deny").iter().map(name).collect(),
        }
    }

    /// Everything wrong with a set of packages.
    pub(crate) fn complaints(&self, packages: &[Package]) -> Vec<String> {
        let complain = |package: &Package| {
            let what = self.wrong(package)?;
            Some(format!("{} {}: {what}", package.name, package.version))
        };
        packages.iter().filter_map(complain).collect()
    }

    fn wrong(&self, package: &Package) -> Option<String> {
        if self.banned.contains(&package.name) {
            return Some("banned".to_owned());
        }
        // The only registry is cargo's public one; its index is spelt in parts to keep its host out
        // of this file.
        let index = ["registry+https://github.com/rust-lang/crates", "io-index"].join(".");
        if package.source.as_ref().is_some_and(|source| *source != index) {
            return Some(format!("comes from {}", package.source.as_deref().unwrap_or_default()));
        }
        let Some(licence) = &package.licence else { return Some("names no licence".to_owned()) };
        match Expression::parse_mode(licence, ParseMode::LAX) {
            Err(error) => Some(format!("the licence {licence} cannot be read: {}", error.reason)),
            Ok(expression) => {
                let allowed =
                    expression.evaluate(|wanted| self.allowed.iter().any(|one| one.satisfies(wanted)));
                (!allowed).then(|| format!("the licence {licence} is not allowed"))
            }
        }
    }
}

/// Every package that a build for Linux on x86-64 uses, tests and build scripts included.
pub(crate) fn packages() -> Vec<Package> {
    let root = crate::tree::root();
    let metadata = metadata(&root, &["--offline"])
        .or_else(|_| metadata(&root, &[]))
        .unwrap_or_else(|error| panic!("{error}"));
    let text = |package: &serde_json::Value, key: &str| {
        package.get(key).and_then(|value| value.as_str()).map(str::to_owned)
    };
    let package = |package: &serde_json::Value| Package {
        name: text(package, "name").expect("a package has a name"),
        version: text(package, "version").expect("a package has a version"),
        licence: text(package, "license"),
        source: text(package, "source"),
    };
    let packages: Vec<_> = metadata["packages"].as_array().into_iter().flatten().map(package).collect();
    assert!(packages.len() > 50, "cargo reports {} packages", packages.len());
    packages
}

/// The metadata that cargo prints of the workspace in `folder`.
pub(crate) fn metadata(folder: &Path, arguments: &[&str]) -> Result<serde_json::Value, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let output =
        command.args(arguments).current_dir(folder).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_licences_sources_and_bans() {
        let rules = Rules::parse(
            "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"Apache-2.0 WITH LLVM-exception\"]\n[bans]\ndeny = [{ name = \"bad\" }]",
        );
        let index = ["registry+https://github.com/rust-lang/crates", "io-index"].join(".");
        let check = |name: &str, licence: Option<&str>, source: Option<&str>, expected: Option<&str>| {
            let package = Package {
                name: name.to_owned(),
                version: "1.0.0".to_owned(),
                licence: licence.map(str::to_owned),
                source: source.map(str::to_owned),
            };
            let wrong = rules.complaints(&[package]);
            assert_eq!(
                wrong.len(),
                usize::from(expected.is_some()),
                "{name} {licence:?} {source:?}: {wrong:?}"
            );
            assert!(expected.is_none_or(|expected| wrong[0].contains(expected)), "{wrong:?}");
        };
        let ours = Some(index.as_str());
        check("a", Some("MIT"), ours, None);
        check("a", Some("MIT/GPL-3.0"), ours, None);
        check("a", Some("GPL-3.0-only OR (MIT AND Apache-2.0)"), ours, None);
        check("a", Some("Apache-2.0 WITH LLVM-exception"), ours, None);
        check("a", Some("MIT"), None, None);
        check("a", Some("GPL-3.0-only"), ours, Some("not allowed"));
        check("a", Some("MIT AND GPL-3.0-only"), ours, Some("not allowed"));
        check("a", Some("something else"), ours, Some("cannot be read"));
        check("a", None, ours, Some("names no licence"));
        check("bad", Some("MIT"), ours, Some("banned"));
        check("a", Some("MIT"), Some("git+https://example.org/a#1"), Some("comes from git"));
    }
}
