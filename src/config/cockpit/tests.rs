//! Unit tests of the cockpit's settings file.

use super::*;

#[test]
fn the_documented_example_is_parsed() {
    let file = CockpitFile::parse(include_str!("../../../assets/examples/cockpit.toml")).unwrap();
    assert_eq!(file.theme.as_deref(), Some("light"));
    assert_eq!(file.refresh, Some(Duration::from_millis(250)));
    assert_eq!(file.columns.map(|names| names.len()), Some(9));
    assert_eq!(file.keys.get("kill").map(String::as_str), Some("d ctrl-k"));
    assert_eq!(CockpitFile::parse("").unwrap(), CockpitFile::default());
}

#[test]
fn an_unknown_key_is_rejected_with_a_similar_one() {
    let error = |text| CockpitFile::parse(text).unwrap_err().to_string();
    assert_eq!(error("thme = \"dark\""), "there is no setting «thme»; did you mean «theme»?");
    assert_eq!(error("colour = 1"), "there is no setting «colour»");
    assert!(error("bits = 3").contains("bits = 3"), "{}", error("bits = 3"));
    assert!(error("theme = ").contains("line 1"));
    for seconds in ["0.05", "11.0", "nan"] {
        let error = CockpitFile::parse(&format!("refresh = {seconds}")).unwrap_err().to_string();
        assert!(error.contains("the refresh time is between 0.1 and 10 seconds"), "{error}");
    }
}

#[test]
fn the_path_follows_the_xdg_specification() {
    let path = |xdg: &str, home: &str| {
        CockpitFile::path(|name| Some(PathBuf::from(if name == "HOME" { home } else { xdg })))
    };
    assert_eq!(path("/x", "/home/a"), Some("/x/underpass/cockpit.toml".into()));
    assert_eq!(path("x", "/home/a"), Some("/home/a/.config/underpass/cockpit.toml".into()));
    assert_eq!(CockpitFile::path(|_| None), None);
}
