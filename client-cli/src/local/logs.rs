//! Log files of the children, cut before they fill the disk.
//!
//! Children write straight into their file, opened for appending, so nothing is lost or blocked
//! when the supervisor is gone. A file that grew too large is copied aside and emptied in place;
//! the few lines written in between are the price.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A log file is rotated when it is larger than this.
pub const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// Older files kept beside the current one.
pub const KEPT: usize = 2;

/// Opens a log file for appending; a file that is too large is rotated first.
///
/// # Errors
/// Names the file.
pub fn open(path: &Path) -> anyhow::Result<File> {
    rotate(path, MAX_BYTES)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .with_context(|| format!("cannot open the log file {}", path.display()))
}

/// Rotates the file when it is larger than `max_bytes`; tells whether it did.
///
/// # Errors
/// Names the file. A file that does not exist is none.
pub fn rotate(path: &Path, max_bytes: u64) -> anyhow::Result<bool> {
    let rotate = || -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > max_bytes => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        for age in (1..KEPT).rev() {
            if older(path, age).exists() {
                fs::rename(older(path, age), older(path, age + 1))?;
            }
        }
        fs::copy(path, older(path, 1))?;
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
        Ok(true)
    };
    rotate().with_context(|| format!("cannot rotate the log file {}", path.display()))
}

/// The last lines of a log file, for an error message; empty when there is none.
pub fn tail(path: &Path, lines: usize) -> String {
    let content = fs::read(path).unwrap_or_default();
    let start = content.len().saturating_sub(16 * 1024);
    let text = String::from_utf8_lossy(&content[start..]);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
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
    fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        assert_eq!(tail(&path, 2), "");
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&path, 2), "b\nc");
    }
}
