//! Free space on the file systems of a stack.
//!
//! Judges space and inodes, and reports the worst of them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

const MIB: u64 = 1024 * 1024;

/// Free space below which a file system is nearly full, if that is less than a twentieth of it. Not
/// tuned: a run over a few thousand postings should still fit.
const LOW_SPACE: u64 = 1024 * MIB;

/// Free space below which writes fail or soon will: two WAL segments of Postgres, which have 16 MiB
/// by default (PostgreSQL documentation, `wal_segment_size`).
const MINIMUM_SPACE: u64 = 32 * MIB;

/// Free space of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FreeSpace {
    /// Enough.
    Enough,
    /// So little that a run may use it up; with a message.
    Low(String),
    /// Practically none; with a message.
    Full(String),
}

/// Sizes of a file system in bytes, and its inodes; 0 inodes in total means no limit.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    total: u64,
    free: u64,
    entries: u64,
    free_entries: u64,
}

/// Returns the worst state among the file systems of these folders; missing folders are skipped.
pub(super) fn space(folders: &[PathBuf]) -> FreeSpace {
    // The folders are usually on one file system, which is judged once.
    let mut disks: BTreeMap<u64, &Path> = BTreeMap::new();
    for folder in folders {
        if let Ok(metadata) = std::fs::metadata(folder) {
            disks.entry(metadata.dev()).or_insert(folder);
        }
    }
    // A file system that cannot be asked counts as fine.
    let spaces: Vec<FreeSpace> =
        disks.values().filter_map(|folder| Some(judge(folder, sizes(folder)?))).collect();
    let worst = spaces.iter().find(|space| matches!(space, FreeSpace::Full(_)));
    worst
        .or_else(|| spaces.iter().find(|space| matches!(space, FreeSpace::Low(_))))
        .cloned()
        .unwrap_or(FreeSpace::Enough)
}

fn sizes(folder: &Path) -> Option<Sizes> {
    let stat = statvfs(folder).ok()?;
    Some(Sizes {
        total: stat.blocks() * stat.fragment_size(),
        free: stat.blocks_available() * stat.fragment_size(),
        entries: stat.files(),
        free_entries: stat.files_available(),
    })
}

fn judge(folder: &Path, sizes: Sizes) -> FreeSpace {
    let at = folder.display();
    let free = format!("{} MiB free of {} MiB", sizes.free / MIB, sizes.total / MIB);
    if sizes.entries > 0 && sizes.free_entries == 0 {
        return FreeSpace::Full(format!(
            "the file system of {at} is out of inodes: all {} are in use",
            sizes.entries
        ));
    }
    // A small file system, such as a tmpfs, may never have as much as the fixed bound.
    if sizes.free < MINIMUM_SPACE.min(sizes.total / 20) {
        return FreeSpace::Full(format!("the file system of {at} is full: {free}"));
    }
    if sizes.free < LOW_SPACE.min(sizes.total / 20) {
        return FreeSpace::Low(format!("the file system of {at} is nearly full: {free}"));
    }
    FreeSpace::Enough
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_judged_by_what_is_left() {
        const GIB: u64 = 1024 * MIB;
        let check = |total: u64, free: u64, free_entries: u64, expected: &str| {
            let sizes = Sizes { total, free, entries: 1000, free_entries };
            let found = match judge(Path::new("/d"), sizes) {
                FreeSpace::Enough => String::new(),
                FreeSpace::Low(message) | FreeSpace::Full(message) => message,
            };
            assert_eq!(found, expected, "{total} {free} {free_entries}");
        };
        check(1024 * GIB, GIB, 1, "");
        check(1024 * GIB, GIB - MIB, 1, "the file system of /d is nearly full: 1023 MiB free of 1048576 MiB");
        check(1024 * GIB, 31 * MIB, 1, "the file system of /d is full: 31 MiB free of 1048576 MiB");
        check(1024 * GIB, 0, 1, "the file system of /d is full: 0 MiB free of 1048576 MiB");
        check(1024 * GIB, GIB, 0, "the file system of /d is out of inodes: all 1000 are in use");
        // A small file system is not a full one.
        check(100 * MIB, 6 * MIB, 1, "");
        check(100 * MIB, 4 * MIB, 1, "the file system of /d is full: 4 MiB free of 100 MiB");
        // Some file systems have no fixed number of inodes.
        let uncounted = Sizes { total: 10 * GIB, free: 5 * GIB, entries: 0, free_entries: 0 };
        assert_eq!(judge(Path::new("/d"), uncounted), FreeSpace::Enough);
    }

    #[test]
    fn folders_that_are_not_there_have_no_disk() {
        assert_eq!(space(&[PathBuf::from("/no/such/folder")]), FreeSpace::Enough);
    }
}
