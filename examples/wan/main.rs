//! An emulated wide-area path between two network namespaces, for tests and measurements with loss and distance: see
//! `--help`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[cfg(target_os = "linux")]
mod commands;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod units;

/// Exit code where namespaces or TUN devices are not permitted; test runners take it for "skipped".
const SKIPPED: u8 = 77;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("wan: network namespaces exist on Linux only");
    SKIPPED.into()
}
