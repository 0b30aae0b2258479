//! Log files of the child processes, rotated before they fill the disk.
//!
//! Children append to their file directly, so nothing is lost or blocked if the supervisor dies. A
//! file that is too large is copied and truncated in place; lines written in between are lost.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Size at which a log file is rotated. With the older files, the logs of a process take about 30
/// MiB. Not tuned: days of a healthy service.
pub(crate) const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// Number of older files that are kept. Not tuned.
pub(crate) const KEPT: usize = 2;

/// Opens a log file for appending; a file that is too large is rotated first.
///
/// # Errors
/// If the file cannot be opened or rotated.
pub(crate) fn open(path: &Path) -> anyhow::Result<File> {
    rotate(path, MAX_BYTES)?;
    OpenOptions::new()
        .create(true)
        // In append mode, the first line after a rotation in place goes to the new end; at the old
        // offset it would leave a hole.
        .append(true)
        // Logs name files, addresses and users: nothing for everybody on the machine.
        .mode(0o640)
        .open(path)
        .with_context(|| format!("cannot open the log file {}", path.display()))
}

/// Rotates the file if it is larger than `max_bytes`; returns whether it did.
///
/// # Errors
/// If the file cannot be rotated. A missing file is no error.
pub(crate) fn rotate(path: &Path, max_bytes: u64) -> anyhow::Result<bool> {
    try_rotate(path, max_bytes).with_context(|| format!("cannot rotate the log file {}", path.display()))
}

fn try_rotate(path: &Path, max_bytes: u64) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > max_bytes => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // The oldest first, so that no file is renamed over one that is still to be moved.
    for age in (1..KEPT).rev() {
        if older(path, age).exists() {
            fs::rename(older(path, age), older(path, age + 1))?;
        }
    }
    // Copy and truncate instead of renaming, because the writer keeps its file open.
    // The copy comes first: a crash in between leaves lines twice, and loses none.
    fs::copy(path, older(path, 1))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

/// The current size of a log file, for [`read_since`]; 0 if there is none.
pub(crate) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Reads what was written to a log file since it had `size`, at most the last 64 KiB.
pub(crate) fn read_since(path: &Path, size: u64) -> String {
    // Not tuned: the last error of a program is near the end of what it wrote.
    const MOST: usize = 64 * 1024;
    // Whole: rotation keeps the file small.
    let content = fs::read(path).unwrap_or_default();
    // If it is shorter than before, it was rotated and all of it is new.
    let start = usize::try_from(size).ok().filter(|&start| start <= content.len()).unwrap_or(0);
    let start = start.max(content.len().saturating_sub(MOST));
    String::from_utf8_lossy(&content[start..]).into_owned()
}

/// The line that says why a program ended: its last error, else its last line.
pub(crate) fn last_error_line(said: &str) -> &str {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rfind(|line| is_error(line));
    error.or(lines.last()).copied().unwrap_or("no output")
}

fn is_error(line: &str) -> bool {
    let start = line.get(..6).unwrap_or_default().to_ascii_lowercase();
    start == "error:" || line.contains("\"level\":\"ERROR\"") || line.contains("panicked at")
}

fn older(path: &Path, age: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_large_log_moves_aside_while_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut writer = open(&path).unwrap();
        for round in 0..4 {
            writeln!(writer, "round {round}").unwrap();
            assert!(rotate(&path, 3).unwrap());
        }
        writeln!(writer, "x").unwrap();
        assert!(!rotate(&path, 3).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
        assert_eq!(fs::read_to_string(older(&path, 1)).unwrap(), "round 3\n");
        assert_eq!(fs::read_to_string(older(&path, 2)).unwrap(), "round 2\n");
        assert!(!older(&path, 3).exists());
    }

    #[test]
    fn only_what_is_new_is_read_and_its_error_picked_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        assert_eq!((size(&path), read_since(&path, 0).as_str()), (0, ""));
        fs::write(&path, "Error: old\n").unwrap();
        let before = size(&path);
        fs::write(&path, "Error: old\nError: new\n\nStack backtrace:\n  1: main\n").unwrap();
        let said = read_since(&path, before);
        assert_eq!(last_error_line(&said), "Error: new");
        assert_eq!(read_since(&path, 1000), fs::read_to_string(&path).unwrap());
        let check = |said: &str, expected: &str| assert_eq!(last_error_line(said), expected);
        check("", "no output");
        check("a\nb\n\n", "b");
        check("error: x\nhint: y\n", "error: x");
        check("{\"level\":\"ERROR\",\"m\":1}\n{\"level\":\"INFO\"}", "{\"level\":\"ERROR\",\"m\":1}");
    }
}
