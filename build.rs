//! Tells the program of which commit it is, for `underpass --version`: `UNDERPASS_BUILD` is commit and date,
//! `UNDERPASS_TARGET` the target triple.
//!
//! Nothing here depends on the time or the place of the build, so that a build can be repeated. Debug builds have no commit:
//! each one would compile the crate anew.

use std::{env, fs, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=UNDERPASS_BUILD");
    println!("cargo:rustc-env=UNDERPASS_TARGET={}", env::var("TARGET").unwrap_or_default());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let build = env::var("UNDERPASS_BUILD").ok().filter(|given| !given.is_empty());
    let build = build.or_else(|| if is_release { of_checkout().or_else(of_published_crate) } else { None });
    if let Some(build) = build {
        println!("cargo:rustc-env=UNDERPASS_BUILD={build}");
    }
}

/// Returns the commit that is checked out and its date: `4d6c9ba1f2e3 2026-11-30`, with `-dirty` behind the commit where
/// files differ from it. `None` without git, and where the sources lie in a repository of something else.
fn of_checkout() -> Option<String> {
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let commit = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])?;
    let date = git(&["log", "-1", "--format=%cs"])?;
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // A path that does not exist would have the script run each time.
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| fs::exists(path).unwrap_or(false));
        if let Some(path) = path {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for sources in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={sources}");
    }
    Some(format!("{commit} {date}"))
}

/// Returns the commit that cargo has noted in a published crate.
fn of_published_crate() -> Option<String> {
    let note = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let commit = note.split("\"sha1\"").nth(1)?.split('"').nth(1)?;
    Some(commit.get(..12)?.to_owned())
}

/// Runs git and returns what it prints, without the line break; `None` if it fails or is not installed.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).env("GIT_OPTIONAL_LOCKS", "0").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
