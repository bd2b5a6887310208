//! The source files of the crate.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::lexer::{tokens, without_tests};

/// Returns the module path of a file below `src`: `mux/send.rs` and `mux/send/mod.rs` are `["mux", "send"]`.
pub fn module_of(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

/// Collects all Rust files below `dir`.
fn source_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Returns the content of all files of `src` by their paths below it, without the modules that exist only in tests.
pub fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut sources = BTreeMap::new();
    let mut tests = Vec::new();
    for path in files {
        let source = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        // Submodules of `a/mod.rs`, `lib.rs` and `main.rs` are in the same directory, those of `a/b.rs` in `a/b`.
        let directory = match file.rsplit_once('/') {
            Some((dir, "mod.rs")) => format!("{dir}/"),
            None if file == "lib.rs" || file == "main.rs" => String::new(),
            _ => format!("{}/", file.trim_end_matches(".rs")),
        };
        let (_, modules) = without_tests(&tokens(&source));
        for module in modules {
            tests.extend([format!("{directory}{module}.rs"), format!("{directory}{module}/")]);
        }
        sources.insert(file, source);
    }
    sources.retain(|file, _| {
        !tests.iter().any(|test| file == test || (test.ends_with('/') && file.starts_with(test.as_str())))
    });
    sources
}
