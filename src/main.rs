//! The `underpass` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    underpass::cli::run()
}
