//! The database login of the running pipeline.
//!
//! It may write rows and owns nothing; the role is restored after each migration, whatever happened
//! to it.

use std::path::PathBuf;

use anyhow::Context;

use crate::error::{Hint, Hinted};
use crate::local::paths::{DataDir, secret};
use crate::local::postgres::{ConnectionUrl, Distribution, Psql};

/// The role that the pipeline logs in as; a name that nobody else gives a role of theirs.
const ROLE: &str = "observatory_pipeline";

/// The group it belongs to; the migrations grant it what a pipeline needs.
const GROUP: &str = "obs_writer";

/// The pipeline's login in the embedded cluster.
pub(super) struct Login {
    data: DataDir,
    /// Directory of the server's programs.
    bin: PathBuf,
}

impl Login {
    /// The login of the cluster in `data`, made with the client that belongs to its server.
    pub(super) fn new(data: &DataDir, distribution: &Distribution) -> Self {
        Self { data: data.clone(), bin: distribution.bin.clone() }
    }

    /// Makes the role, or brings one that is there back to what it should be: also in a cluster of
    /// an older version, and where its password file was lost. Returns the URL with which the
    /// pipeline connects.
    ///
    /// # Errors
    /// If there is no `psql`, or the owner of the database is refused.
    pub(super) async fn establish(&self, owner: &ConnectionUrl) -> anyhow::Result<ConnectionUrl> {
        let psql = Psql::find(Some(&self.bin)).ok_or_else(|| {
            Hinted::error(
                format!("psql is neither in {} nor on the PATH", self.bin.display()),
                "choose PostgreSQL binaries that include it with --pg-bin or OBSERVATORY_PG_BIN",
            )
        })?;
        let password = secret(&self.data.pipeline_password())?;
        psql.run(owner, &statements(&password))
            .await
            .context("cannot create the database login of the pipeline")
            .hint("run `observatory doctor`")?;
        Ok(owner.with_login(ROLE, &password))
    }
}

fn statements(password: &str) -> String {
    format!(
        "do $$ begin
             if not exists (select from pg_roles where rolname = '{GROUP}') then
                 create role {GROUP} nologin;
             end if;
             if not exists (select from pg_roles where rolname = '{ROLE}') then
                 create role {ROLE};
             end if;
         end $$;
         alter role {ROLE} with login nosuperuser nocreatedb nocreaterole noreplication nobypassrls inherit
             password '{password}';
         grant {GROUP} to {ROLE};\n"
    )
}
