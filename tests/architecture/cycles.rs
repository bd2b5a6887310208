//! Cycles between files.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    lexer::{tokens, without_tests},
    paths::paths,
    sources::module_of,
};

/// Module paths that a file names, and the items that it makes available under its own path.
struct Names {
    /// Absolute paths, without the leading `crate`.
    paths: Vec<Vec<String>>,
}

/// Returns each group of files that import each other directly or over other files, as one line.
///
/// A path that leads to an item which a `mod.rs` re-exports counts as an import of the file that defines the item. A
/// file and its submodules count as one direction only: that a submodule uses what its parent defines is no cycle.
pub fn cycles(sources: &BTreeMap<String, String>) -> Vec<String> {
    let files: BTreeMap<Vec<String>, &str> =
        sources.keys().filter(|file| file.contains('/')).map(|file| (module_of(file), &file[..])).collect();
    let names: BTreeMap<&[String], Names> = files
        .iter()
        .map(|(module, file)| (&module[..], Names::of(module, &sources[*file], &files)))
        .collect();
    let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, file) in &files {
        for path in &names[&module[..]].paths {
            if let Some(imported) = resolve(path, &files, &names, 0)
                && !imported.starts_with(module)
                && !module.starts_with(imported)
            {
                imports.entry(file).or_default().insert(files[imported]);
            }
        }
    }
    groups(&imports)
}

impl Names {
    fn of(module: &[String], source: &str, files: &BTreeMap<Vec<String>, &str>) -> Self {
        let (tokens, _) = without_tests(&tokens(source));
        let absolute = |path: Vec<String>| {
            if path[0] == "crate" {
                return Some(path[1..].to_vec());
            }
            // A path that starts with a submodule of this file.
            let child = [module, &path[..1]].concat();
            files.contains_key(&child).then(|| [module, &path[..]].concat())
        };
        Self { paths: paths(&tokens, module).into_iter().filter_map(absolute).collect() }
    }
}

/// Returns the module that defines the item at `path`. Follows re-exports; the limit of their number ends circular
/// ones.
fn resolve<'a>(
    path: &[String],
    files: &'a BTreeMap<Vec<String>, &str>,
    names: &BTreeMap<&[String], Names>,
    depth: usize,
) -> Option<&'a [String]> {
    let length = (1..=path.len()).rev().find(|&length| files.contains_key(&path[..length]))?;
    let (module, _) = files.get_key_value(&path[..length])?;
    let reexported = path.get(length).filter(|_| depth < 8).and_then(|item| {
        let mut paths = names[&module[..]].paths.iter();
        paths.find(|path| path.last() == Some(item) && path.starts_with(module) && path.len() > length + 1)
    });
    match reexported {
        Some(path) => resolve(path, files, names, depth + 1),
        None => Some(module),
    }
}

/// Returns the strongly connected components with more than one file.
fn groups(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let reachable = |from: &str| {
        let (mut seen, mut queue) = (BTreeSet::new(), vec![from]);
        while let Some(file) = queue.pop() {
            for &next in imports.get(file).into_iter().flatten() {
                if seen.insert(next) {
                    queue.push(next);
                }
            }
        }
        seen
    };
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|&file| (file, reachable(file))).collect();
    let mut groups = BTreeSet::new();
    for (file, seen) in &reachable {
        if seen.contains(file) {
            let group: Vec<&str> = seen
                .iter()
                .copied()
                .filter(|other| reachable.get(other).is_some_and(|back| back.contains(file)))
                .collect();
            groups.insert(group.join(", "));
        }
    }
    groups.into_iter().collect()
}

#[test]
fn a_cycle_over_a_reexport_is_found() {
    let source = |text: &str| text.to_owned();
    let mut sources = BTreeMap::from([
        ("a/mod.rs".to_owned(), source("mod b; mod c; pub use b::B; pub use c::C;")),
        ("a/b.rs".to_owned(), source("use super::C; pub struct B;")),
        ("a/c.rs".to_owned(), source("pub struct C;")),
    ]);
    assert_eq!(cycles(&sources), Vec::<String>::new());
    sources.insert("a/c.rs".to_owned(), source("use crate::a::B; pub struct C;"));
    assert_eq!(cycles(&sources), ["a/b.rs, a/c.rs"]);
}
