//! The user that the stack runs as, and what that user can reach. Nothing runs as root: Postgres
//! refuses to, and the services need not.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, User, fchown, fchownat};

use crate::error::Hinted;

/// Environment variable for the user that the stack runs as if the caller is root.
pub(crate) const USER_ENV: &str = "OBSERVATORY_PG_USER";

/// Alternative fix for an unreachable data directory.
pub(crate) const CHOOSE_DATA_DIR: &str =
    "choose a directory elsewhere with --data-dir DIR or OBSERVATORY_DATA";

/// The user that Postgres and the services run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The calling user, who is not root.
    Caller,
    /// Another user, since the caller is root.
    User {
        /// Login name, for messages.
        name: String,
        /// User number, never 0.
        uid: u32,
        /// Its primary group.
        gid: u32,
    },
}

impl RunAs {
    /// Chooses by the calling user and `OBSERVATORY_PG_USER` (default `nobody`).
    ///
    /// # Errors
    /// If the chosen user does not exist or is root.
    pub fn choose() -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self::Caller);
        }
        let name = std::env::var(USER_ENV).ok().filter(|name| !name.is_empty());
        Self::named(name.as_deref().unwrap_or("nobody"))
    }

    /// As [`RunAs::choose`], but keeps the owner of an existing directory.
    ///
    /// # Errors
    /// As [`RunAs::choose`].
    pub fn for_dir(dir: &Path) -> anyhow::Result<Self> {
        // A cluster keeps its user even if OBSERVATORY_PG_USER has changed: Postgres refuses files
        // that belong to another one.
        let owner = fs::metadata(dir).ok().map(|metadata| metadata.uid()).filter(|&uid| uid != 0);
        match owner {
            Some(uid) if nix::unistd::geteuid().is_root() => {
                let user = User::from_uid(Uid::from_raw(uid)).context("cannot look up a user")?;
                user.map_or_else(Self::choose, |user| Self::named(&user.name))
            }
            _ => Self::choose(),
        }
    }

    /// The user called `name`.
    ///
    /// # Errors
    /// If there is none, or it is root.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let advice = format!("set {USER_ENV} to an existing user that is not root");
        let user = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
        match user {
            None => Err(Hinted::error(format!("cannot run the stack as user {name}: no such user"), advice)),
            Some(user) if user.uid.is_root() => {
                Err(Hinted::error(format!("cannot run the stack as user {name}: it is root"), advice))
            }
            Some(user) => {
                Ok(Self::User { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() })
            }
        }
    }

    /// A command that runs as this user, without supplementary groups and with a minimal
    /// environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // PGDATA, PGOPTIONS and the locale of the caller would change what Postgres does.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        self.apply(&mut command);
        // The directory of the caller may be closed to the other user.
        command.current_dir("/");
        command
    }

    /// Makes a command run as this user, without supplementary groups.
    pub fn apply(&self, command: &mut Command) {
        if let Self::User { uid, gid, .. } = self {
            // The standard library also clears the supplementary groups when root changes user.
            command.uid(*uid).gid(*gid);
        }
    }

    /// Makes the user the owner of a file or directory, or of a symbolic link itself.
    ///
    /// # Errors
    /// Names the path.
    pub fn chown(&self, path: &Path) -> anyhow::Result<()> {
        if let Self::User { name, uid, gid } = self {
            lchown(path, Some(*uid), Some(*gid))
                .with_context(|| format!("cannot make {name} the owner of {}", path.display()))?;
        }
        Ok(())
    }

    /// Makes the user the owner of a directory and everything below it, without following symbolic
    /// links. A directory that already belongs to the user is skipped as done, since it is changed
    /// last.
    ///
    /// # Errors
    /// Names the directory.
    pub fn chown_tree(&self, dir: &Path) -> anyhow::Result<()> {
        let Self::User { name, uid, gid } = self else { return Ok(()) };
        let cannot = || format!("cannot make {name} the owner of {} and its contents", dir.display());
        let metadata = fs::symlink_metadata(dir).with_context(cannot)?;
        anyhow::ensure!(metadata.is_dir(), "{} is not a directory", dir.display());
        if metadata.uid() == *uid {
            return Ok(());
        }
        let opened = Dir::open(dir, FOLDER, Mode::empty()).with_context(cannot)?;
        chown_entries(opened, Uid::from_raw(*uid), Gid::from_raw(*gid)).with_context(cannot)
    }

    /// Number of the user.
    pub fn uid(&self) -> u32 {
        match self {
            Self::Caller => nix::unistd::geteuid().as_raw(),
            Self::User { uid, .. } => *uid,
        }
    }

    /// Checks that the user can pass through `dir` and every directory above it.
    ///
    /// # Errors
    /// Names the first directory that the user cannot traverse; `what` describes the target, and
    /// `elsewhere` is an alternative to opening the directory.
    pub fn check_reach(&self, dir: &Path, what: &str, elsewhere: &str) -> anyhow::Result<()> {
        let Some((step, mode)) = self.first_unreachable(dir)? else { return Ok(()) };
        Err(Hinted::error(
            format!(
                "{what} in {} cannot be reached by {self}: {} has mode {mode:04o}",
                dir.display(),
                step.display()
            ),
            format!("chmod o+x {}, or {elsewhere}", step.display()),
        ))
    }

    /// The first directory on the path to `dir` that the user cannot traverse, with its mode.
    ///
    /// # Errors
    /// If a directory cannot be inspected.
    pub fn first_unreachable(&self, dir: &Path) -> anyhow::Result<Option<(PathBuf, u32)>> {
        let Self::User { uid, gid, .. } = self else { return Ok(None) };
        let real = fs::canonicalize(dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        let mut way: Vec<&Path> = real.ancestors().collect();
        way.reverse();
        for step in way {
            let metadata =
                fs::metadata(step).with_context(|| format!("cannot inspect {}", step.display()))?;
            if !allows(metadata.mode(), (metadata.uid(), metadata.gid()), (*uid, *gid), EXECUTE) {
                return Ok(Some((step.to_owned(), metadata.mode() & 0o7777)));
            }
        }
        Ok(None)
    }

    /// Checks that the user can read a file.
    ///
    /// # Errors
    /// Names the obstacle; `what` describes the file.
    pub fn check_readable(&self, file: &Path, what: &str) -> anyhow::Result<()> {
        let Self::User { name, uid, gid } = self else { return Ok(()) };
        let real = fs::canonicalize(file).with_context(|| format!("cannot resolve {}", file.display()))?;
        let folder = real.parent().unwrap_or(Path::new("/"));
        self.check_reach(folder, what, "move the file to a directory that everybody can reach")?;
        let metadata = fs::metadata(&real).with_context(|| format!("cannot inspect {}", real.display()))?;
        if allows(metadata.mode(), (metadata.uid(), metadata.gid()), (*uid, *gid), READ) {
            return Ok(());
        }
        let (file, mode) = (file.display(), metadata.mode() & 0o7777);
        Err(Hinted::error(
            format!("{what} {file} cannot be read by {self}: its mode is {mode:04o}"),
            format!("chown {name} {file}, or chmod o+r {file} if everybody on this machine may read it"),
        ))
    }

    /// Checks that the user can write to a directory, or to its future place.
    ///
    /// # Errors
    /// As [`RunAs::check_readable`].
    pub fn check_writable(&self, dir: &Path, what: &str) -> anyhow::Result<()> {
        let Self::User { name, uid, gid } = self else { return Ok(()) };
        let existing = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
        self.check_reach(existing, what, "choose another directory")?;
        let metadata =
            fs::metadata(existing).with_context(|| format!("cannot inspect {}", existing.display()))?;
        if allows(metadata.mode(), (metadata.uid(), metadata.gid()), (*uid, *gid), WRITE) {
            return Ok(());
        }
        let dir = dir.display();
        Err(Hinted::error(
            format!("{what} {dir} cannot be written by {self}"),
            format!("mkdir -p {dir} && chown {name} {dir}"),
        ))
    }

    /// Adds advice to a "permission denied" of a program that runs as this user: it may be unable
    /// to read files that its caller can.
    pub fn explain_permissions(&self, said: &str) -> String {
        match self {
            // With a capital or without, depending on the program.
            Self::User { name, .. } if said.contains("ermission denied") => format!(
                "{said} (it runs as user {name}; chmod o+r makes a file readable, chmod o+x makes a directory reachable)"
            ),
            _ => said.to_owned(),
        }
    }

    /// Returns true if the user can run a program.
    pub fn can_run(&self, program: &Path) -> anyhow::Result<bool> {
        let Self::User { uid, gid, .. } = self else { return Ok(true) };
        let real =
            fs::canonicalize(program).with_context(|| format!("cannot resolve {}", program.display()))?;
        let root = Path::new("/");
        let metadata = fs::metadata(&real).with_context(|| format!("cannot inspect {}", real.display()))?;
        // Both the directory of a link and that of its target must be reachable.
        Ok(self.first_unreachable(program.parent().unwrap_or(root))?.is_none()
            && self.first_unreachable(real.parent().unwrap_or(root))?.is_none()
            && allows(metadata.mode(), (metadata.uid(), metadata.gid()), (*uid, *gid), EXECUTE))
    }
}

/// As shown in messages.
impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller => f.write_str("the calling user"),
            Self::User { name, .. } => write!(f, "the user {name}, which runs the stack"),
        }
    }
}

/// Flags to open a directory whose owner is to change.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Changes the owner of the entries of a directory, then of the directory. Entries are addressed
/// relative to the open directory, so that nobody can slip in a symbolic link meanwhile.
fn chown_entries(mut dir: Dir, uid: Uid, gid: Gid) -> nix::Result<()> {
    let entries: Vec<_> = dir.iter().collect::<nix::Result<_>>()?;
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // Some file systems do not report the type of an entry; try to open it as a directory.
        if matches!(entry.file_type(), Some(Type::Directory) | None) {
            match Dir::openat(dir.as_fd(), name, FOLDER, Mode::empty()) {
                Ok(below) => {
                    chown_entries(below, uid, gid)?;
                    continue;
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
        fchownat(dir.as_fd(), name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    // Last: a directory that has changed hands is taken as done when this is repeated.
    fchown(dir.as_fd(), Some(uid), Some(gid))
}

/// Permission bit of others to read a file.
const READ: u32 = 0o4;

/// Permission bits of others to create files in a directory.
const WRITE: u32 = 0o3;

/// Permission bit of others to traverse a directory or run a program.
const EXECUTE: u32 = 0o1;

/// True if a file or directory with this mode and owner grants the user a permission.
fn allows(mode: u32, (owner, group): (u32, u32), (uid, gid): (u32, u32), wanted: u32) -> bool {
    // As in the kernel, only the first matching class counts, even if a later one would allow more.
    // Supplementary groups do not count, since `apply` clears them.
    let shift = if uid == owner {
        6
    } else if gid == group {
        3
    } else {
        0
    };
    mode & (wanted << shift) == wanted << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_through_directories() {
        let check = |mode, owner, user, expected| {
            assert_eq!(allows(mode, owner, user, EXECUTE), expected, "{mode:o} {owner:?} {user:?}");
        };
        check(0o755, (0, 0), (65534, 65534), true);
        check(0o700, (0, 0), (65534, 65534), false);
        check(0o711, (0, 0), (65534, 65534), true);
        check(0o750, (0, 65534), (65534, 65534), true);
        check(0o700, (65534, 0), (65534, 65534), true);
        // The owner's own bits rule even when others may pass.
        check(0o011, (65534, 0), (65534, 65534), false);
    }

    #[test]
    fn reading_files() {
        let check = |mode, owner, expected| {
            assert_eq!(allows(mode, owner, (65534, 65534), READ), expected, "{mode:o} {owner:?}");
        };
        check(0o644, (0, 0), true);
        check(0o640, (0, 0), false);
        check(0o640, (0, 65534), true);
        check(0o400, (65534, 0), true);
        check(0o004, (65534, 0), false);
    }

    #[test]
    fn a_tree_changes_hands_and_what_links_lead_to_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        for file in [tree.join("a/b/file"), tree.join("top"), other.join("file")] {
            fs::write(file, "x").unwrap();
        }
        std::os::unix::fs::symlink(&other, tree.join("a/folder")).unwrap();
        std::os::unix::fs::symlink(other.join("file"), tree.join("link")).unwrap();
        RunAs::Caller.chown_tree(&tree).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        let me = nix::unistd::geteuid().as_raw();
        assert_eq!((owner(&tree), owner(&tree.join("top"))), (me, me));
        if me != 0 {
            // Only root can give things away.
            return;
        }
        let nobody = RunAs::named("nobody").unwrap();
        nobody.chown_tree(&tree).unwrap();
        for name in ["", "a", "a/b", "a/b/file", "a/folder", "top", "link"] {
            assert_eq!(owner(&tree.join(name)), nobody.uid(), "{name}");
        }
        assert_eq!((owner(&other), owner(&other.join("file"))), (0, 0));
        nobody.chown_tree(&tree).unwrap();
        let refused = nobody.chown_tree(&tree.join("a/folder")).unwrap_err();
        assert!(refused.to_string().ends_with("is not a directory"), "{refused}");
    }

    #[test]
    fn unknown_users_and_root_are_refused() {
        let unknown = RunAs::named("no-such-user-here").unwrap_err();
        assert_eq!(unknown.to_string(), "cannot run the stack as user no-such-user-here: no such user");
        let root = RunAs::named("root").unwrap_err();
        assert_eq!(root.to_string(), "cannot run the stack as user root: it is root");
    }
}
