//! The stored taxonomy that NAME@VERSION, or NAME alone, stands for.
//!
//! The one place where such a reference is taken apart; its errors say what is stored.

use std::fmt;

use sqlx::PgConnection;

/// A stored taxonomy; shown as NAME@VERSION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Key.
    pub taxonomy_id: i32,
    /// Name, e.g. `esco`.
    pub name: String,
    /// Version as published.
    pub version: String,
    /// True if extraction links to it.
    pub active: bool,
}

impl fmt::Display for Stored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.name, self.version)
    }
}

/// Why a reference stands for no stored taxonomy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// It is no reference at all.
    #[error("invalid taxonomy `{wanted}`: expected NAME@VERSION or NAME")]
    Malformed {
        /// The reference.
        wanted: String,
    },
    /// Nothing of this name and version is stored.
    #[error("no taxonomy `{wanted}`; {}", listed(.stored))]
    Unknown {
        /// The reference.
        wanted: String,
        /// Every stored taxonomy.
        stored: Vec<String>,
    },
    /// A bare name has several versions, none of them active.
    #[error("taxonomy `{name}` has several versions: expected one of {}", .versions.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Its versions as NAME@VERSION.
        versions: Vec<String>,
    },
    /// A statement failed.
    #[error("cannot read the taxonomies")]
    Sql(#[from] sqlx::Error),
}

/// The stored taxonomy of `wanted`: NAME@VERSION, or a NAME with one version or of the active
/// taxonomy.
///
/// # Errors
/// If there is none, if the name alone does not decide, or if the statement fails.
pub(crate) async fn resolve(connection: &mut PgConnection, wanted: &str) -> Result<Stored, ResolveError> {
    let stored = sqlx::query_as!(
        Stored,
        "select taxonomy_id, name, version, active from taxonomy order by name, version"
    )
    .fetch_all(connection)
    .await?;
    choose(wanted, stored)
}

fn choose(wanted: &str, stored: Vec<Stored>) -> Result<Stored, ResolveError> {
    let (name, version) = match wanted.rsplit_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (wanted, None),
    };
    if name.is_empty() || name.contains('@') || version == Some("") {
        return Err(ResolveError::Malformed { wanted: wanted.to_owned() });
    }
    let fits = |one: &Stored| one.name == name && version.is_none_or(|version| one.version == version);
    let found: Vec<&Stored> = stored.iter().filter(|one| fits(one)).collect();
    match found[..] {
        [] => {
            let stored = stored.iter().map(Stored::to_string).collect();
            Err(ResolveError::Unknown { wanted: wanted.to_owned(), stored })
        }
        [only] => Ok(only.clone()),
        [..] => found.iter().find(|one| one.active).map(|one| (*one).clone()).ok_or_else(|| {
            let versions = found.iter().map(ToString::to_string).collect();
            ResolveError::Ambiguous { name: name.to_owned(), versions }
        }),
    }
}

fn listed(stored: &[String]) -> String {
    match stored {
        [] => "none is stored".to_owned(),
        _ => format!("stored: {}", stored.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, active: Option<i32>, expected: &str) {
        let rows = [(1, "cuoc", "2025"), (2, "esco", "1.1"), (3, "esco", "1.2")];
        let stored = rows.map(|(taxonomy_id, name, version)| Stored {
            taxonomy_id,
            name: name.to_owned(),
            version: version.to_owned(),
            active: active == Some(taxonomy_id),
        });
        let said = choose(wanted, stored.to_vec());
        let said = said.map_or_else(|problem| problem.to_string(), |found| found.to_string());
        assert_eq!(said, expected, "{wanted}");
    }

    #[test]
    fn a_reference_names_one_taxonomy_or_says_why_not() {
        check("esco@1.1", Some(3), "esco@1.1");
        check("cuoc", Some(3), "cuoc@2025");
        check("esco", Some(2), "esco@1.1");
        let several = "taxonomy `esco` has several versions: expected one of esco@1.1, esco@1.2";
        check("esco", Some(1), several);
        check("esco", None, several);
        check("esco@2", None, "no taxonomy `esco@2`; stored: cuoc@2025, esco@1.1, esco@1.2");
        check("own", None, "no taxonomy `own`; stored: cuoc@2025, esco@1.1, esco@1.2");
        for wanted in ["", "@", "esco@", "@1.2", "esco@1@2"] {
            let expected = format!("invalid taxonomy `{wanted}`: expected NAME@VERSION or NAME");
            check(wanted, None, &expected);
        }
        let empty = choose("esco", Vec::new()).unwrap_err().to_string();
        assert_eq!(empty, "no taxonomy `esco`; none is stored");
    }
}
