//! The files of the project.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One text file: its path from the root, with forward slashes, and what it holds.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The repository root: that of the running cargo, or else the one the test was built in.
pub(crate) fn root() -> PathBuf {
    let crate_folder =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&crate_folder).parent().expect("the tests crate lies in the root").to_owned()
}

/// Every text file of the project, sorted by path: no build output, nothing that .gitignore names.
pub(crate) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = root();
        let ignored = std::fs::read_to_string(root.join(".gitignore")).expect(".gitignore");
        let ignored: Vec<&str> = ignored.lines().filter(|line| !line.is_empty()).collect();
        let mut files = Vec::new();
        walk(&root, &root, &ignored, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    })
}

fn walk(root: &Path, folder: &Path, ignored: &[&str], files: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("directory entry").path();
        let name =
            path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8 path").replace('\\', "/");
        if is_ignored(&name, ignored) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, ignored, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            // What is not UTF-8 is an image, a font or a model: no text to judge.
            files.push(File { path: name, text });
        }
    }
}

/// The few forms of .gitignore lines in use here: "/name" at the root, "name" anywhere, "*.ending".
fn is_ignored(path: &str, lines: &[&str]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == ".git"
        || lines.iter().map(|line| line.trim_end_matches('/')).any(|line| {
            line.strip_prefix('/').is_some_and(|line| line == path)
                || line.strip_prefix('*').is_some_and(|ending| name.ends_with(ending))
                || line == name
        })
}

#[test]
fn ignores_what_git_ignores() {
    let lines = ["/target", "/data/", "*.snap.new", "node_modules"];
    for (path, expected) in [
        ("target", true),
        ("crates/target", false),
        ("data", true),
        ("a/b.snap.new", true),
        ("a/b.snap", false),
        ("a/node_modules", true),
        (".git", true),
        (".github", false),
    ] {
        assert_eq!(is_ignored(path, &lines), expected, "{path}");
    }
}
