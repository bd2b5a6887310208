//! The paths that a source file names, and the files that they lead to.

use crate::lexer::Token::{self, Punctuation, Word};

/// Returns every path in `tokens`. A group in braces yields one path for each member. Paths that start with `crate`,
/// `self` or
/// `super` become absolute paths that start with `crate`. `module` is the module path of the file.
pub fn paths(tokens: &[Token], module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // Inline modules around the current token, each with the depth of its opening brace.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i] {
            Word(word) if word == "mod" && matches!(tokens.get(i + 2), Some(Punctuation('{'))) => {
                if let Some(Word(name)) = tokens.get(i + 1) {
                    inner.push((name.clone(), depth));
                }
                i += 2;
            }
            Punctuation('{') => {
                depth += 1;
                i += 1;
            }
            Punctuation('}') => {
                depth -= 1;
                if inner.last().is_some_and(|(_, at)| *at == depth) {
                    inner.pop();
                }
                i += 1;
            }
            Word(_) if tokens.get(i + 1) == Some(&Token::PathSeparator) => {
                let here: Vec<String> =
                    module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
                let mut tree = Vec::new();
                i = path_tree(tokens, i, &[], &mut tree);
                found.extend(tree.into_iter().map(|path| absolute(path, &here)));
            }
            _ => i += 1,
        }
    }
    found
}

/// Reads the path or the group of paths that starts at token `i`, after the words of `before`. Returns the index of the
/// token behind it.
fn path_tree(tokens: &[Token], mut i: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(i) {
            Some(Word(word)) => {
                path.push(word.clone());
                i += 1;
            }
            Some(Punctuation('*')) => {
                path.push("*".into());
                i += 1;
            }
            Some(Punctuation('{')) => {
                i += 1;
                while !matches!(tokens.get(i), None | Some(Punctuation('}'))) {
                    i = path_tree(tokens, i, &path, found);
                    // Skips `as NAME` and the comma before the next member.
                    while !matches!(tokens.get(i), None | Some(Punctuation('}' | ','))) {
                        i += 1;
                    }
                    if tokens.get(i) == Some(&Punctuation(',')) {
                        i += 1;
                    }
                }
                return i + 1;
            }
            _ => break,
        }
        if tokens.get(i) != Some(&Token::PathSeparator) {
            break;
        }
        i += 1;
    }
    found.push(path);
    i
}

/// Converts a path that starts with `crate`, `self` or `super` into one that starts with `crate`. `here` is the module
/// that contains it. Other paths stay as they are.
fn absolute(path: Vec<String>, here: &[String]) -> Vec<String> {
    let mut root = match &path[0][..] {
        "crate" => vec![],
        "self" | "super" => here.to_vec(),
        _ => return path,
    };
    let mut words = path.into_iter().peekable();
    while let Some(word) = words.next_if(|word| matches!(&word[..], "crate" | "self" | "super")) {
        if word == "super" {
            root.pop();
        }
    }
    ["crate".to_owned()].into_iter().chain(root).chain(words).collect()
}
