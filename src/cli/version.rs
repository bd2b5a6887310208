//! What the program says about itself: its version, and how it was built.

use std::sync::LazyLock;

use crate::wire::binary::VERSION;

/// The commit of the build and its date, such as `4d6c9ba1f2e3 2026-11-30`; `None` for a debug build, and where the
/// build had neither a repository nor the variable `UNDERPASS_BUILD`.
const BUILD: Option<&str> = option_env!("UNDERPASS_BUILD");

/// Returns the text of `--version`, whose first line without the commit is that of `-V`: what a report of a problem
/// needs.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let build = BUILD.map(|build| format!(" ({build})")).unwrap_or_default();
        let profile = if cfg!(debug_assertions) { ", debug build" } else { "" };
        format!(
            "{}{build}\ntarget: {}{profile}\nTLS: rustls with aws-lc-rs\nprotocol version: {VERSION}",
            env!("CARGO_PKG_VERSION"),
            env!("UNDERPASS_TARGET"),
        )
    });
    &TEXT
}
