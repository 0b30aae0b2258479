//! Options that have a new name and keep the old one for one release.
//!
//! Arguments and environment are rewritten before they are parsed, so that the rest of the program
//! knows new names only; each old name in use is one warning.

use std::ffi::OsString;

/// An option with a new name.
struct Renamed {
    flags: [&'static str; 2],
    variables: [&'static str; 2],
}

/// Old name, new name.
const RENAMED: [Renamed; 2] = [
    Renamed {
        flags: ["--max-writing", "--max-running-sequences"],
        variables: ["OBSERVATORY_INFERENCE_MAX_WRITING", "OBSERVATORY_INFERENCE_MAX_RUNNING_SEQUENCES"],
    },
    Renamed {
        flags: ["--vector-cache-mib", "--embedding-cache-mib"],
        variables: ["OBSERVATORY_INFERENCE_VECTOR_CACHE_MIB", "OBSERVATORY_INFERENCE_EMBEDDING_CACHE_MIB"],
    },
];

/// The arguments under their new names, and a warning for each old name in use. A flag wins over
/// the environment and a new name over an old one, as everywhere.
pub(super) fn resolve(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> (Vec<OsString>, Vec<Deprecated>) {
    let mut warnings = Vec::new();
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    for Renamed { flags: [old, new], variables: [old_variable, new_variable] } in &RENAMED {
        let mut is_given = false;
        for argument in &mut arguments {
            // Flags are ASCII; clap reports an argument that is not UTF-8.
            let Some(text) = argument.to_str() else { continue };
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            is_given |= name == *old || name == *new;
            if name == *old {
                *argument = value.map_or_else(|| (*new).into(), |value| format!("{new}={value}").into());
                warnings.push(Deprecated { old, new });
            }
        }
        if let Some(value) = variable(old_variable).filter(|_| !is_given && variable(new_variable).is_none())
        {
            // As a flag, so that clap checks the value as it checks any other.
            arguments.push((*new).into());
            arguments.push(value);
            warnings.push(Deprecated { old: old_variable, new: new_variable });
        }
    }
    (arguments, warnings)
}

/// An old name in use and its new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecated {
    /// The name that was given.
    pub old: &'static str,
    /// The name to use.
    pub new: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_are_taken_with_a_warning() {
        let check = |arguments: &[&str], environment: &[(&str, &str)], expected: &[&str], warnings: usize| {
            let variable = |name: &str| {
                environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            };
            let (resolved, warned) = resolve(arguments.iter().map(OsString::from), variable);
            assert_eq!(resolved, expected, "{arguments:?} {environment:?}");
            assert_eq!(warned.len(), warnings, "{warned:?}");
        };
        let old = "OBSERVATORY_INFERENCE_MAX_WRITING";
        let new = "OBSERVATORY_INFERENCE_MAX_RUNNING_SEQUENCES";
        check(&["a", "--max-texts", "1"], &[], &["a", "--max-texts", "1"], 0);
        check(&["a", "--max-writing", "8"], &[], &["a", "--max-running-sequences", "8"], 1);
        check(&["a", "--vector-cache-mib=0"], &[], &["a", "--embedding-cache-mib=0"], 1);
        check(&["a"], &[(old, "3")], &["a", "--max-running-sequences", "3"], 1);
        check(&["a"], &[(old, "3"), (new, "4")], &["a"], 0);
        check(
            &["a", "--max-running-sequences", "5"],
            &[(old, "3")],
            &["a", "--max-running-sequences", "5"],
            0,
        );
    }
}
