//! Entry point of the `observatory` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    observatory_cli::main()
}
