//! Unit tests of the cockpit's settings file.

use super::*;

#[test]
fn the_example_of_the_documentation_is_read() {
    let file = CockpitFile::parse(include_str!("../../../assets/examples/cockpit.toml")).unwrap();
    assert_eq!(file.theme.as_deref(), Some("light"));
    assert_eq!(file.refresh, Some(0.25));
    assert_eq!(file.columns.map(|names| names.len()), Some(9));
    assert_eq!(file.keys.get("kill").map(String::as_str), Some("d ctrl-k"));
    assert_eq!(CockpitFile::parse("").unwrap(), CockpitFile::default());
}

#[test]
fn a_key_that_nobody_reads_is_refused_with_the_near_miss() {
    let error = |text| CockpitFile::parse(text).unwrap_err().to_string();
    assert_eq!(error("thme = \"dark\""), "there is no setting «thme»; did you mean «theme»?");
    assert_eq!(error("colour = 1"), "there is no setting «colour»");
    assert!(error("bits = 3").contains("bits = 3"), "{}", error("bits = 3"));
    assert!(error("theme = ").contains("line 1"));
}

#[test]
fn it_lies_where_the_user_keeps_such_files() {
    let path = |xdg: &str, home: &str| {
        CockpitFile::path(|name| Some(PathBuf::from(if name == "HOME" { home } else { xdg })))
    };
    assert_eq!(path("/x", "/home/a"), Some("/x/underpass/cockpit.toml".into()));
    assert_eq!(path("x", "/home/a"), Some("/home/a/.config/underpass/cockpit.toml".into()));
    assert_eq!(CockpitFile::path(|_| None), None);
}
