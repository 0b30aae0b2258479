//! Postgres refuses to run as root: who it runs as instead, and what that user can reach.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use nix::unistd::{Uid, User, chown};

use crate::error::Hinted;

/// Environment variable that names the user Postgres runs as when the caller is root.
pub const USER_ENV: &str = "OBSERVATORY_PG_USER";

/// The user the Postgres processes run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The calling user, who is not root.
    Caller,
    /// Another user, because the caller is root.
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
    /// Decides by the calling user and `OBSERVATORY_PG_USER` (default `nobody`).
    ///
    /// # Errors
    /// When root's choice does not exist or is root again.
    pub fn choose() -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self::Caller);
        }
        let name = std::env::var(USER_ENV).ok().filter(|name| !name.is_empty());
        Self::named(name.as_deref().unwrap_or("nobody"))
    }

    /// As [`RunAs::choose`], but the owner of a directory that exists stays its user.
    ///
    /// # Errors
    /// As [`RunAs::choose`].
    pub fn for_dir(dir: &Path) -> anyhow::Result<Self> {
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
    /// When there is none, or it is root.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let advice = format!("set {USER_ENV} to an existing user that is not root");
        let user = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
        match user {
            None => Err(Hinted::error(format!("there is no user {name} to run postgres as"), advice)),
            Some(user) if user.uid.is_root() => {
                Err(Hinted::error(format!("postgres cannot run as {name}, which is root"), advice))
            }
            Some(user) => {
                Ok(Self::User { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() })
            }
        }
    }

    /// A command that runs as this user, with no other groups and a plain environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        if let Self::User { uid, gid, .. } = self {
            // The standard library also clears the supplementary groups when root changes user.
            command.uid(*uid).gid(*gid);
        }
        command.current_dir("/");
        command
    }

    /// Makes the user the owner of a file or directory.
    ///
    /// # Errors
    /// Names the path.
    pub fn give(&self, path: &Path) -> anyhow::Result<()> {
        if let Self::User { name, uid, gid } = self {
            chown(path, Some(Uid::from_raw(*uid)), Some(nix::unistd::Gid::from_raw(*gid)))
                .with_context(|| format!("cannot make {name} the owner of {}", path.display()))?;
        }
        Ok(())
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
    /// Names the first directory that is closed, and for whom; `what` says what lies there.
    pub fn check_reach(&self, dir: &Path, what: &str) -> anyhow::Result<()> {
        let Self::User { name, uid, gid } = self else { return Ok(()) };
        let real = fs::canonicalize(dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        let mut way: Vec<&Path> = real.ancestors().collect();
        way.reverse();
        for step in way {
            let metadata =
                fs::metadata(step).with_context(|| format!("cannot look at {}", step.display()))?;
            if !may_enter(metadata.mode(), (metadata.uid(), metadata.gid()), (*uid, *gid)) {
                return Err(Hinted::error(
                    format!(
                        "{what} in {} cannot be reached by the user {name}, as whom postgres runs: {} has mode {:04o}",
                        dir.display(),
                        step.display(),
                        metadata.mode() & 0o7777,
                    ),
                    format!(
                        "chmod o+x {}, or choose a place outside it with --data-dir DIR or OBSERVATORY_DATA",
                        step.display()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a directory of this mode and owner lets the user pass through.
fn may_enter(mode: u32, (owner, group): (u32, u32), (uid, gid): (u32, u32)) -> bool {
    let bit = if uid == owner {
        0o100
    } else if gid == group {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_through_directories() {
        let check = |mode, owner, user, expected| {
            assert_eq!(may_enter(mode, owner, user), expected, "{mode:o} {owner:?} {user:?}");
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
    fn unknown_users_and_root_are_refused() {
        let unknown = RunAs::named("no-such-user-here").unwrap_err();
        assert_eq!(unknown.to_string(), "there is no user no-such-user-here to run postgres as");
        let root = RunAs::named("root").unwrap_err();
        assert_eq!(root.to_string(), "postgres cannot run as root, which is root");
    }
}
