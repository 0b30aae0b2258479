//! Known vulnerabilities of dependencies, looked up in a table next to this file.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Deserialize;

/// Age in days at which the table has to be renewed.
const OLD: i64 = 90;

/// Content of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    database: toml::value::Datetime,
    advisory: Vec<Advisory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    id: String,
    #[serde(rename = "crate")]
    name: String,
    kind: Kind,
    affected: Vec<String>,
    accepted: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Vulnerability,
    Unsound,
    Unmaintained,
}

/// A version's numbers; what stands before its release counts as the release.
type Version = [u64; 3];

fn version(text: &str) -> Option<Version> {
    let release = text.split(['-', '+']).next()?;
    let numbers: Vec<u64> = release.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

/// Returns true if a range such as `>=1.0.0 <1.2.3` holds a version, or what makes it no range.
fn holds(range: &str, version: Version) -> Result<bool, String> {
    let mut all = true;
    for bound in range.split_whitespace() {
        let wrong = || format!("invalid range `{range}`: expected `>=FROM <FIXED`");
        let (from, text) = bound
            .strip_prefix(">=")
            .map(|text| (true, text))
            .or_else(|| Some((false, bound.strip_prefix('<')?)))
            .ok_or_else(wrong)?;
        let bound = self::version(text).ok_or_else(wrong)?;
        all &= if from { version >= bound } else { version < bound };
    }
    Ok(all)
}

impl Table {
    pub(crate) fn parse(text: &str) -> Self {
        toml::from_str(text).unwrap_or_else(|error| panic!("advisories.toml: {error}"))
    }

    /// Age of the table on a day, in days.
    pub(crate) fn age(&self, today: NaiveDate) -> i64 {
        let day = self.database.date.expect("a day");
        let day = NaiveDate::from_ymd_opt(day.year.into(), day.month.into(), day.day.into()).expect("a day");
        (today - day).num_days()
    }

    /// A warning about the table's age, if it is too old.
    pub(crate) fn warning(&self, today: NaiveDate) -> Option<String> {
        let age = self.age(today);
        (age > OLD)
            .then(|| format!("the table of advisories is {age} days old, renew it (see its first lines)"))
    }

    /// Everything wrong with a lock file, or with the table.
    pub(crate) fn complaints(&self, lock: &str) -> Vec<String> {
        let locked = locked(lock);
        self.advisory.iter().flat_map(|advisory| advisory.complaints(&locked)).collect()
    }
}

impl Advisory {
    fn complaints(&self, locked: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let (id, name) = (&self.id, &self.name);
        let Some(versions) = locked.get(name) else {
            return vec![format!("{id}: {name} is not in Cargo.lock, take the row away")];
        };
        let mut wrong = Vec::new();
        if !id.starts_with("RUSTSEC-") || id.len() != "RUSTSEC-2026-0000".len() {
            wrong.push(format!("{id} is not a number of RustSec"));
        }
        let mut affected = Vec::new();
        for text in versions {
            let Some(version) = version(text) else {
                wrong.push(format!("{name} {text} has no version of three numbers"));
                continue;
            };
            for range in &self.affected {
                match holds(range, version) {
                    Ok(true) => affected.push(text),
                    Ok(false) => {}
                    Err(error) => wrong.push(format!("{id}: {error}")),
                }
            }
        }
        let reason = self.accepted.as_deref().map(str::trim);
        match reason {
            Some("") => wrong.push(format!("{id}: accepted without a reason")),
            Some(_) if affected.is_empty() => {
                wrong.push(format!("{id}: accepted, but no version of {name} in Cargo.lock is affected"));
            }
            Some(_) => {}
            None => wrong.extend(
                affected
                    .iter()
                    .map(|version| format!("{id} ({:?}): {name} {version} is affected", self.kind)),
            ),
        }
        wrong
    }
}

/// Versions of the crates in a lock file.
fn locked(lock: &str) -> BTreeMap<String, Vec<String>> {
    let lock: toml::Table = lock.parse().expect("Cargo.lock is TOML");
    let mut locked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock["package"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().expect("a text").to_owned();
        locked.entry(text("name")).or_default().push(text("version"));
    }
    locked
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n[[package]]\nname = \"a\"\nversion = \"0.9.9+x\"\n\
         [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";

    fn table(name: &str, affected: &str, accepted: &str) -> Table {
        Table::parse(&format!(
            "database = 2026-08-21\n[[advisory]]\nid = \"RUSTSEC-2026-0001\"\ncrate = \"{name}\"\nkind = \"unsound\"\naffected = {affected}\n{accepted}\n"
        ))
    }

    #[test]
    fn notices_affected_versions() {
        let check = |name: &str, affected: &str, accepted: &str, expected: &[&str]| {
            let wrong = table(name, affected, accepted).complaints(LOCK);
            assert_eq!(wrong.len(), expected.len(), "{name} {affected} {accepted}: {wrong:?}");
            assert!(
                wrong.iter().zip(expected).all(|(wrong, expected)| wrong.contains(expected)),
                "{wrong:?}"
            );
        };
        let reason = "accepted = \"never called\"";
        check("a", "[\"<1.2.4\"]", "", &["a 1.2.3 is affected", "a 0.9.9+x is affected"]);
        check("a", "[\">=1.0.0 <1.2.4\"]", "", &["a 1.2.3 is affected"]);
        check("a", "[\">=1.0.0 <1.2.3\"]", "", &[]);
        check("a", "[\"<0.1.0\", \">=1.2.3 <1.3.0\"]", "", &["a 1.2.3 is affected"]);
        check("b", "[\"\"]", "", &["b 2.0.0 is affected"]);
        check("b", "[\"\"]", reason, &[]);
        check("b", "[\"\"]", "accepted = \" \"", &["without a reason"]);
        check("b", "[\"<2.0.0\"]", reason, &["no version of b in Cargo.lock is affected"]);
        check("b", "[\"<=2.0.0\"]", "", &["invalid range `<=2.0.0`"]);
        check("b", "[\"2.0.0\"]", "", &["invalid range `2.0.0`"]);
        check("c", "[\"\"]", reason, &["c is not in Cargo.lock"]);
    }

    #[test]
    fn an_old_table_is_told() {
        let check = |day: &str, expected: bool| {
            let warning = table("a", "[]", "").warning(day.parse().expect("a day"));
            assert_eq!(warning.is_some(), expected, "{day}: {warning:?}");
        };
        check("2026-08-21", false);
        check("2026-11-19", false);
        check("2026-11-20", true);
    }
}
