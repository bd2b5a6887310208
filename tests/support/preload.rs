//! Libraries in C that replace functions of the C library, for programs that run with one in `LD_PRELOAD`.

use std::{path::Path, process::Command};

/// Compiles a source below `tests` to a library and returns its path. Tests of one binary that use the same source must
/// not do so at the same time.
pub fn compile(source: &str) -> String {
    let name = Path::new(source).file_stem().expect("a file").to_string_lossy();
    let library = format!("{}/{}-{name}.so", env!("CARGO_TARGET_TMPDIR"), env!("CARGO_CRATE_NAME"));
    let source = format!("{}/tests/{source}", env!("CARGO_MANIFEST_DIR"));
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]).status();
    assert!(compiled.expect("there is a C compiler").success(), "what links this test compiles C too");
    library
}
