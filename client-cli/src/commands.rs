//! The commands, one file each: its `Arguments`, and `run`, which does it.
//!
//! To add one: write its file, name it here, and give it an arm in `cli::Command` and `cli::run`.

pub mod completions;
pub mod doctor;
pub mod down;
pub mod status;
pub mod supervise;
pub mod up;
pub mod version;
