//! The database login of the running pipeline.
//!
//! It may write rows and owns nothing; the role is restored after each migration, whatever happened
//! to it.

use std::path::PathBuf;

use anyhow::Context;

use crate::error::{Hint, Hinted};
use crate::local::paths::{DataDir, secret};
use crate::local::postgres::{ConnectionUrl, Distribution, Psql};

/// Role of the pipeline; a name that no other program uses.
const ROLE: &str = "observatory_pipeline";

/// Group of the role; the migrations grant it the permissions of a pipeline.
const GROUP: &str = "obs_writer";

/// The pipeline's login in the embedded cluster.
pub(super) struct Login {
    data: DataDir,
    /// Directory of the PostgreSQL programs.
    bin: PathBuf,
}

impl Login {
    /// The login in the cluster of `data`, created with the `psql` of its distribution.
    pub(super) fn new(data: &DataDir, distribution: &Distribution) -> Self {
        Self { data: data.clone(), bin: distribution.bin.clone() }
    }

    /// Creates the role, or restores an existing one, also in a cluster of an older version or
    /// after its password file was lost. Returns the URL for the pipeline.
    ///
    /// # Errors
    /// If there is no `psql`, or the statements fail.
    pub(super) async fn establish(&self, owner: &ConnectionUrl) -> anyhow::Result<ConnectionUrl> {
        let psql = Psql::find(Some(&self.bin)).ok_or_else(|| {
            Hinted::error(
                format!("psql is neither in {} nor on the PATH", self.bin.display()),
                "choose PostgreSQL binaries that include it with --pg-bin or OBSERVATORY_PG_BIN",
            )
        })?;
        // The same as before, so that a pipeline that is still running keeps its connections.
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
