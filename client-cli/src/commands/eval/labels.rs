//! Names of skills, folded for comparison, and the table of names that mean the same.
//!
//! Two names are the same if nothing but case, accents, signs and blanks tells them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::bail;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

use crate::commands::lines;

/// Folds a name.
///
/// Signs of trade marks go, then case, accents and compatibility forms. Letters and digits stay.
/// `+` and `#` stay behind a letter, a digit or one another (c++, c#). `.` stays before a letter or
/// digit if a letter, digit, `+`, `#`, blank or nothing is before it (node.js, .net). Everything
/// else is a blank; blanks in a row are one.
pub(super) fn folded(text: &str) -> String {
    let chars = letters(text);
    let mut out: Vec<char> = Vec::new();
    for (index, char) in chars.iter().copied().enumerate() {
        let before = index.checked_sub(1).map_or(' ', |index| chars[index]);
        let after = chars.get(index + 1).copied().unwrap_or(' ');
        let stays = match char {
            '+' | '#' => out.last().copied().is_some_and(joins),
            '.' => after.is_alphanumeric() && (joins(before) || before.is_whitespace()),
            _ => char.is_alphanumeric(),
        };
        out.push(if stays { char } else { ' ' });
    }
    let out: String = out.into_iter().collect();
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The characters of a name without case, accents and compatibility forms.
fn letters(text: &str) -> Vec<char> {
    let plain: String = text.chars().filter(|char| !matches!(char, '™' | '®' | '©')).nfkd().collect();
    let mut small = String::new();
    // What Unicode's case folding has more than lower case, and a name may hold.
    for char in plain.to_lowercase().chars() {
        match char {
            'ß' => small.push_str("ss"),
            'ς' => small.push('σ'),
            '\u{345}' => small.push('ι'),
            _ => small.push(char),
        }
    }
    // Again, since lower case may have joined what was apart.
    small.nfkd().filter(|char| canonical_combining_class(*char) == 0).collect()
}

/// Returns true if `+`, `#` and `.` belong to the character before them.
fn joins(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '+' | '#')
}

/// Returns true if a folded name stands in a folded text as whole words.
pub(super) fn occurs(name: &str, text: &str) -> bool {
    let mut from = 0;
    while let Some(at) = text[from..].find(name).map(|at| at + from) {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        if !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric) {
            return true;
        }
        // One character on, since places may overlap.
        from = at + text[at..].chars().next().map_or(1, char::len_utf8);
    }
    false
}

/// Folded names that mean another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Aliases {
    meant: BTreeMap<String, String>,
}

impl Aliases {
    /// Reads lines of a variant, a tab and the name that it means; `#` begins a comment.
    ///
    /// # Errors
    /// If the file cannot be read, a line has another form, a variant means two names, or names
    /// mean each other in a circle.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = lines::name(path);
        let mut direct: BTreeMap<String, String> = BTreeMap::new();
        for line in lines::read(path)?.iter().filter(|line| !line.text.starts_with('#')) {
            let cells: Vec<String> = line.text.split('\t').map(folded).collect();
            let [variant, meant] = cells.as_slice() else {
                bail!("{name}:{}: expected a variant, a tab and the name it means", line.number)
            };
            if variant.is_empty() || meant.is_empty() {
                bail!("{name}:{}: a name without letters and digits", line.number);
            }
            // Tables list spellings that folding already makes one.
            if variant == meant {
                continue;
            }
            let known = direct.entry(variant.clone()).or_insert_with(|| meant.clone());
            if known != meant {
                bail!("{name}:{}: `{variant}` already means `{known}`", line.number);
            }
        }
        match closed(&direct) {
            Ok(meant) => Ok(Self { meant }),
            Err(variant) => bail!("{name}: `{variant}` means itself by way of other names"),
        }
    }

    /// The name that a name means.
    fn meant<'a>(&'a self, name: &'a str) -> &'a str {
        self.meant.get(name).map_or(name, String::as_str)
    }

    /// The names that some names mean.
    pub(super) fn applied(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        names.iter().map(|name| self.meant(name).to_owned()).collect()
    }
}

/// Follows every variant to the name that means no other one.
///
/// # Errors
/// A variant that is part of a circle, or leads to one.
fn closed(direct: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut closed = BTreeMap::new();
    for (variant, first) in direct {
        let (mut seen, mut meant) = (BTreeSet::from([variant]), first);
        while let Some(next) = direct.get(meant) {
            if !seen.insert(meant) {
                return Err(variant.clone());
            }
            meant = next;
        }
        closed.insert(variant.clone(), meant.clone());
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded() {
        for (text, expected) in [
            ("CI/CD", "ci cd"),
            ("C++", "c++"),
            ("C#.", "c#"),
            ("+a", "a"),
            ("x #tag", "x tag"),
            ("Node.js", "node.js"),
            (".NET", ".net"),
            ("a.b.", "a.b"),
            ("Microsoft® Office™ 2.1", "microsoft office 2.1"),
            ("  Full-stack\tñandú ", "full stack nandu"),
            ("a_b", "a b"),
            ("Straße", "strasse"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
            ("ﬁn ① ½", "fin 1 1 2"),
            ("?!", ""),
        ] {
            assert_eq!(folded(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_occurs_as_whole_words() {
        let check = |name, text, expected| assert_eq!(occurs(name, text), expected, "{name} in {text}");
        check("excel", "word excel sap", true);
        check("excel", "excelente", false);
        check("c", "c++ y go", true);
        check("a a", "ba a a", true);
        check("ñu", "el ñu", true);
    }

    #[test]
    fn aliases_lead_to_the_last_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aliases.tsv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Aliases::read(&path).map_err(|error| error.to_string())
        };
        let aliases = read("# names\nReactJS\tReact.js\nreact.js\tReact\nSQL\tsql\n").unwrap();
        let names = ["react.js", "reactjs", "sql"].map(str::to_owned);
        assert_eq!(aliases.applied(&names.into()), ["react", "sql"].map(str::to_owned).into());
        for (text, expected) in [
            ("a\tb\nc\n", "aliases.tsv:2: expected a variant, a tab"),
            ("a\t!\n", "aliases.tsv:1: a name without letters"),
            ("a\tb\na\tc\n", "aliases.tsv:2: `a` already means `b`"),
            ("a\tb\nb\tc\nc\ta\n", "aliases.tsv: `a` means itself"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
