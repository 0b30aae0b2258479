//! The local stack: everything a single machine needs, kept running by a detached supervisor.
//!
//! [`Stack`] is its interface: `up`, `down`, `status`. The supervisor process holds the lock of the
//! data directory, starts Postgres, the migration, the inference server and the pipeline services,
//! restarts what dies, and writes its state to `stack.json`, which all other commands read.

pub(crate) mod binaries;
mod disk;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod paths;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod premises;
pub(crate) mod privileges;
pub(crate) mod process;
pub(crate) mod stack;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod supervisor;

pub use paths::DataDir;
pub use stack::Stack;
pub(crate) use stack::UpOptions;
pub(crate) use status::StackStatus;
