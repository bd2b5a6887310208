//! The rules that a single file obeys.

use crate::{
    ADDRESS_TYPES, ARROWS, IO_CRATES, PURE, SCREEN, STD_IO_MODULES, TERMINAL_CRATES, TOP,
    lexer::{
        Token::{Punctuation, Word},
        tokens, without_tests,
    },
    paths::paths,
    sources::module_of,
};

/// Returns a message for every violation in a file. `file` is its path below `src`.
pub fn violations(file: &str, source: &str) -> Vec<String> {
    let (tokens, _) = without_tests(&tokens(source));
    let module = module_of(file);
    // `lib.rs` and `main.rs` belong to no module.
    let top_module = if file.contains('/') { module[0].clone() } else { String::new() };
    let paths = paths(&tokens, if top_module.is_empty() { &[] } else { &module });
    let mut wrong = Vec::new();
    for path in &paths {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(why) = forbidden(&top_module, &words) {
            wrong.push(format!("{file}: {} {why}", path.join("::")));
        }
    }
    if PURE.contains(&&top_module[..]) {
        for (i, token) in tokens.iter().enumerate() {
            let follows = |word: &str| tokens.get(i + 2).is_some_and(|next| next.is(word));
            let is_call = tokens.get(i + 1) == Some(&Punctuation('('));
            if (token.is("Instant") || token.is("SystemTime")) && follows("now")
                || token.is("elapsed") && is_call
                || token.is("spawn") && is_call
            {
                let Word(word) = token else { continue };
                wrong.push(format!("{file}: {word} in a module without clock and task"));
            }
        }
    }
    wrong
}

/// Returns why a file of `module` must not name `path`, or `None` if it may.
fn forbidden(module: &str, path: &[&str]) -> Option<&'static str> {
    match path {
        // `lib.rs` and `main.rs`.
        ["crate", named, ..] if module.is_empty() => {
            (*named != TOP).then_some("is named outside of the modules")
        }
        ["underpass", named, ..] => {
            (!module.is_empty() || *named != TOP).then_some("names the crate by its external name")
        }
        ["crate", "*", ..] | ["crate"] => Some("names all modules at once"),
        ["crate", named, ..] if *named == module || module == TOP => None,
        ["crate", named, ..] => {
            let below = ARROWS.iter().find(|(from, _)| *from == module).map(|(_, below)| *below);
            match below {
                None => Some("is named by a module without arrows"),
                Some(below) => (!below.contains(named)).then_some("is not below this module"),
            }
        }
        [first, ..] if TERMINAL_CRATES.contains(first) => {
            (module != SCREEN).then_some("is for the screen only")
        }
        _ if !PURE.contains(&module) => None,
        [first, ..] if IO_CRATES.contains(first) => Some("does I/O or reads a clock"),
        ["std", "net", rest @ ..] => (!rest.first().is_some_and(|name| ADDRESS_TYPES.contains(name)))
            .then_some("is not an address type"),
        ["std", std_module, ..] if STD_IO_MODULES.contains(std_module) => Some("does I/O or starts threads"),
        _ => None,
    }
}
