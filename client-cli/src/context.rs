//! What every command may need: the data directory, the output and connections to the services.
//!
//! It lies below the commands and above everything they are built of; `cli` makes one per run.

use crate::client::Client;
use crate::local::DataDir;
use crate::output::Output;

/// What every command may need.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The data directory.
    pub data: DataDir,
    /// Where results go.
    pub output: Output,
    /// Connections to the services.
    pub client: Client,
    /// How to call this program again on the same stack, for hints.
    pub program: String,
}
