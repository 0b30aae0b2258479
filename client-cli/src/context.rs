//! The context of a command: the data directory, the output and connections to the services.
//!
//! Below the commands and above everything they are built of; `cli` creates one per run.

use crate::client::Client;
use crate::local::DataDir;
use crate::output::Output;

/// Everything a command may need.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The data directory.
    pub data: DataDir,
    /// Output for results.
    pub output: Output,
    /// Connections to the services.
    pub client: Client,
    /// The command that calls this program again on the same stack, for hints.
    pub program: String,
}
