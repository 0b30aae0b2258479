//! Entry point of the `observatory` command.
//!
//! Everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    observatory_cli::main()
}
