//! The local stack: everything one machine needs, kept alive by one detached supervisor.
//!
//! [`Stack`] is the face of it: `up`, `down`, `status`. A supervisor process holds the lock of
//! the data directory, starts Postgres, the migration, the inference server and the pipeline
//! services, restarts what dies, and writes what it knows to `stack.json`, from which every
//! other command reads.

pub mod binaries;
mod disk;
pub mod doctor;
pub mod health;
pub mod logs;
pub mod paths;
pub mod ports;
pub mod postgres;
pub(crate) mod premises;
pub mod privileges;
pub mod process;
pub mod stack;
pub mod state;
pub mod status;
pub mod supervisor;

pub use paths::DataDir;
pub use stack::{Stack, UpOptions};
pub use status::StackStatus;
