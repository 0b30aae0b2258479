//! The portal files that come with the program, and a user's own.
//!
//! Both are read and checked by the same parser, and an error names the file with all of its
//! mistakes.

use std::{collections::BTreeMap, fs, io, path::Path, path::PathBuf};

use super::{Portal, Problem};

const FILES: [(&str, &str); 3] = [
    ("bumeran", include_str!("../../../portals/bumeran.toml")),
    ("computrabajo", include_str!("../../../portals/computrabajo.toml")),
    ("elempleo", include_str!("../../../portals/elempleo.toml")),
];

/// A portal file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortalError {
    /// The file or its folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{file} is not a portal file:\n  {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Invalid {
        /// File, or the name of a portal that comes with the program.
        file: String,
        /// All of them.
        problems: Vec<Problem>,
    },
}

/// The portals that come with the program: name and text of the file.
#[cfg(test)]
pub(crate) const fn built_in() -> &'static [(&'static str, &'static str)] {
    &FILES
}

/// All portals by name: those that come with the program, and those of a folder, which take
/// precedence.
///
/// # Errors
/// If a file cannot be read or has mistakes.
pub(crate) fn load(folder: Option<&Path>) -> Result<BTreeMap<String, Portal>, PortalError> {
    let mut portals = BTreeMap::new();
    for (name, text) in FILES {
        let portal = parse(name, text)?;
        portals.insert(portal.name.clone(), portal);
    }
    let Some(folder) = folder else { return Ok(portals) };
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| unreadable(folder, error))?.path());
    }
    // A folder lists its files in any order; of two with one name the same must win every time.
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        let portal = parse(&path.display().to_string(), &text)?;
        portals.insert(portal.name.clone(), portal);
    }
    Ok(portals)
}

fn unreadable(path: &Path, source: std::io::Error) -> PortalError {
    PortalError::Read { path: path.to_owned(), source }
}

fn parse(file: &str, text: &str) -> Result<Portal, PortalError> {
    Portal::parse(text).map_err(|problems| PortalError::Invalid { file: file.to_owned(), problems })
}
