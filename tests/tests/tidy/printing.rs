//! Nothing prints past the place that knows what to do when an output is closed or full: the macros
//! panic then.

use crate::rust::{line_of, word_places};

const MACROS: [&str; 5] = ["println", "print", "eprintln", "eprint", "dbg"];

/// The files through which the command line's data leaves.
const OUTPUT: &str = "client-cli/src/output.rs";

/// Code that no user runs, or whose output cargo reads.
fn exempt(path: &str) -> bool {
    let folders = ["/tests/", "/examples/", "/benches/"];
    path.starts_with("tests/")
        || path.starts_with("benches/")
        || path.ends_with("/build.rs")
        || path.ends_with("/tests.rs")
        || folders.iter().any(|folder| path.contains(folder))
}

/// Uses of the printing macros, and in the command line of stdout; `code` holds no comments and no
/// text of strings.
pub(crate) fn panics(path: &str, code: &str) -> Vec<String> {
    if exempt(path) || path == OUTPUT {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for name in MACROS {
        let used = word_places(code, name).filter(|at| code[at + name.len()..].starts_with('!'));
        wrong.extend(
            used.map(|at| format!("line {}: {name}! panics where an output is closed", line_of(code, at))),
        );
    }
    if path.starts_with("client-cli/") {
        let used = word_places(code, "stdout").filter(|at| code[at + "stdout".len()..].starts_with("()"));
        wrong.extend(
            used.map(|at| format!("line {}: stdout is written by {OUTPUT} alone", line_of(code, at))),
        );
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_what_prints_by_itself() {
        let check = |path: &str, code: &str, count: usize| {
            assert_eq!(panics(path, code).len(), count, "{path}: {code}");
        };
        check("client-cli/src/commands/runs.rs", "println!(); eprint!();", 2);
        check("client-cli/src/commands/runs.rs", "print(text)?; writeln!(out, a)?;", 0);
        check("client-cli/src/commands/runs.rs", "std::io::stdout().lock();", 1);
        check("client-cli/src/commands/runs.rs", "command.stdout(log);", 0);
        check(OUTPUT, "io::stdout().lock();", 0);
        check("pipeline-services/src/service.rs", "writeln!(std::io::stdout(), a)", 0);
        check("pipeline-services/src/service.rs", "println!()", 1);
        check("proto/build.rs", "println!()", 0);
        check("pipeline-services/examples/extract.rs", "println!()", 0);
        check("pipeline-services/src/extractor/tests.rs", "println!()", 0);
    }
}
