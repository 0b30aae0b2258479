//! Rules on any text file, and on the names of migrations.

use crate::rust::{line_of, marks, word_places};

/// Marks of unfinished work in the comments of configuration, SQL, scripts and the like. Prose and
/// data are free: the word for "everything" in Spanish is one of the marks.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<String> {
    let ending = path.rsplit(['/', '.']).next().unwrap_or_default();
    let comment = match ending {
        "toml" | "yaml" | "yml" | "sh" | "py" | "Dockerfile" | "Makefile" | "run" => "#",
        "sql" => "--",
        "proto" | "js" | "typ" | "css" => "//",
        "tpl" => "{{/*",
        _ => return Vec::new(),
    };
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((_, said)) = line.split_once(comment) else { continue };
        let found = marks().into_iter().filter(|mark| word_places(said, mark).next().is_some());
        wrong.extend(found.map(|mark| format!("line {}: {mark}", index + 1)));
    }
    wrong
}

/// Folders of somebody's machine; as parts, so that this file names none of them.
fn private_folders() -> [String; 2] {
    ["work", "root"].map(|name| format!("/{name}/"))
}

/// Hosts of package registries.
fn registries() -> Vec<String> {
    let parts: [&[&str]; 9] = [
        &["crates", "io"],
        &["pypi", "org"],
        &["pythonhosted", "org"],
        &["npmjs", "org"],
        &["npmjs", "com"],
        &["jsdelivr", "net"],
        &["proxy.golang", "org"],
        &["deb.debian", "org"],
        &["archive.ubuntu", "com"],
    ];
    parts.map(|parts| parts.join(".")).to_vec()
}

/// Absolute paths of a machine, and hosts of package registries (cargo's own lock file has to name
/// its one).
pub(crate) fn private_names(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in private_folders() {
        let starts = |at: &usize| {
            let before = text[..*at].chars().next_back();
            before.is_none_or(|char| char.is_whitespace() || "\"'`(=:[<,".contains(char))
        };
        let found = text.match_indices(&folder).map(|(at, _)| at).filter(starts);
        wrong.extend(found.map(|at| format!("line {}: the absolute path {folder}", line_of(text, at))));
    }
    if path.rsplit('/').next() != Some("Cargo.lock") {
        for host in registries() {
            let found = word_places(text, &host);
            wrong.extend(found.map(|at| format!("line {}: the registry {host}", line_of(text, at))));
        }
    }
    wrong
}

/// Migrations are named YYYYMMDDHHMMSS_what.sql, each time once; there is no way back, so no
/// "down".
pub(crate) fn bad_migrations(names: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        let (time, what) = name.split_once('_').unwrap_or((name, ""));
        let stem = what.strip_suffix(".sql").unwrap_or_default();
        let good_time = time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit());
        let good_stem = !stem.is_empty()
            && stem.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !good_time || !good_stem {
            wrong.push(format!("{name} is not named YYYYMMDDHHMMSS_what.sql"));
        }
        if seen.contains(&time) {
            wrong.push(format!("{name} has the time of another migration"));
        }
        seen.push(time);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_marks_in_comments_only() {
        let [mark, ..] = marks();
        let check = |path: &str, text: String, count: usize| {
            assert_eq!(unfinished(path, &text).len(), count, "{path} {text}")
        };
        check("a.toml", format!("b = 1 # {mark} later"), 1);
        check("migrations/1.sql", format!("-- {mark}"), 1);
        check("Makefile", format!("# {mark}"), 1);
        check("lexicon/a.toml", format!("label = \"{mark} TERRENO\""), 0);
        check("README.md", format!("# {mark} EL CAMINO"), 0);
    }

    #[test]
    fn notices_private_folders_and_registries() {
        let check = |path: &str, text: &str, count: usize| {
            assert_eq!(private_names(path, text).len(), count, "{path} {text}")
        };
        for folder in private_folders() {
            check("a.md", &format!("see {folder}x"), 1);
            check("a.rs", &format!("let a = \"{folder}x\";"), 1);
            check("a.md", &format!("https://example.org{folder}x"), 0);
        }
        for host in registries() {
            check("a.toml", &format!("url = \"https://index.{host}/x\""), 1);
            check("Cargo.lock", &format!("source = \"{host}\""), 0);
        }
        check("a.md", "target/work/x and data/home/y", 0);
    }

    #[test]
    fn notices_migrations_without_an_order() {
        let check =
            |names: &[&str], count: usize| assert_eq!(bad_migrations(names).len(), count, "{names:?}");
        check(&["20260101000000_roles.sql", "20260101000100_raw_jobs.sql"], 0);
        check(&["1_roles.sql"], 1);
        check(&["20260101000000_roles.down.sql"], 1);
        check(&["20260101000000_Roles.sql"], 1);
        check(&["20260101000000_a.sql", "20260101000000_b.sql"], 1);
        check(&["notes.md"], 1);
    }
}
