//! What completion scripts and man pages contain.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Command, CommandFactory as _, ValueEnum as _};

use super::*;

/// Returns the subcommands that are shown to users, with their options.
fn shown() -> Vec<(String, BTreeSet<String>)> {
    let command = CliArgs::command();
    let options = |command: &Command| {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        shown.filter_map(|argument| argument.get_long().map(|long| format!("--{long}"))).collect()
    };
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    shown.map(|subcommand| (subcommand.get_name().to_owned(), options(subcommand))).collect()
}

#[test]
fn every_shell_completes_every_subcommand_and_option() {
    for shell in Shell::value_variants() {
        let script = script(*shell);
        let is_live = script.contains("complete -- ");
        assert_eq!(is_live, matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish), "{shell}");
        for (subcommand, options) in shown() {
            assert!(script.contains(&subcommand), "{shell} {subcommand}");
            for option in options {
                // fish writes the long name alone.
                assert!(script.contains(option.trim_start_matches('-')), "{shell} {subcommand} {option}");
            }
        }
    }
}

/// The functions that ask what runs replace those of clap_complete, whose text they are put into.
#[test]
fn the_shells_call_the_functions_that_ask_what_runs() {
    let bash = script(Shell::Bash);
    assert_eq!(bash.matches("complete -F _underpass_live ").count(), 2, "both versions of bash");
    assert!(!bash.contains("complete -F _underpass "));
    let zsh = script(Shell::Zsh);
    assert_eq!(zsh.matches("\n_underpass() {").count(), 1);
    assert_eq!(zsh.matches("\n_underpass_static() {").count(), 1);
}

#[test]
fn every_subcommand_has_a_man_page_with_its_options() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tmp/man");
    _ = fs::remove_dir_all(&dir);
    man_pages(&ManArgs { dir: dir.clone() }).unwrap();
    let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let main = page("underpass.1");
    assert!(main.starts_with(".ie") && main.contains("Exit status"), "{main}");
    for (subcommand, options) in shown() {
        assert!(main.contains(&format!("underpass\\-{subcommand}(1)")), "{subcommand}: {main}");
        let page = page(&format!("underpass-{subcommand}.1"));
        for option in options {
            assert!(page.contains(&option.replace('-', "\\-")), "{subcommand} {option}: {page}");
        }
    }
    fs::remove_dir_all(&dir).unwrap();
}
