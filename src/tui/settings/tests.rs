//! Tests of the validation of settings.

use super::*;

#[test]
fn an_invalid_setting_is_named_with_the_nearest_valid_one() {
    let check = |theme: Option<&str>, keys: &[(&str, &str)]| {
        let keys = keys.iter().map(|(a, k)| ((*a).to_owned(), (*k).to_owned())).collect();
        let settings = RawSettings { theme: theme.map(str::to_owned), keys, ..RawSettings::default() };
        settings.resolve().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(check(None, &[("kill", "d ctrl-k"), ("quit", "F10")]), Ok(()));
    assert!(check(Some("drak"), &[]).unwrap_err().contains("did you mean «dark»"));
    assert!(check(None, &[("kil", "d")]).unwrap_err().contains("did you mean «kill»"));
    let columns = |names: &[&str]| {
        let columns = Some(names.iter().map(|name| (*name).to_owned()).collect());
        let settings = RawSettings { columns, ..RawSettings::default() };
        settings.resolve().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(columns(&["service", "down", "up"]), Ok(()));
    assert!(columns(&["stream", "servce"]).unwrap_err().contains("did you mean «service»"));
    for bad in ["ctrl-c", "ctrl-m", "F13", "meta-x", "ctrl-"] {
        assert!(check(None, &[("kill", bad)]).unwrap_err().contains("is not the name of a key"), "{bad}");
    }
}

#[test]
fn a_keymap_without_capabilities_keeps_the_operators_keys() {
    let keys = vec![("kill".to_owned(), "d".to_owned()), ("quit".to_owned(), "F10".to_owned())];
    let settings = RawSettings { keys, ..RawSettings::default() }.resolve().unwrap();
    let keymap = settings.keymap.restricted_to(crate::control::Capabilities::none());
    let context = crate::tui::keymap::InputContext::Streams;
    assert_eq!(keymap.intent(context, Key::char('d')), None);
    let f10 = parse_key("F10").unwrap();
    assert_eq!(keymap.intent(context, f10), Some(&crate::tui::intent::Intent::Quit));
}

#[test]
fn the_locale_tells_whether_text_is_utf8() {
    let utf8 = |all: &str, lang: &str| {
        let (all, lang) = (all.to_owned(), lang.to_owned());
        locale_is_utf8(|name| match name {
            "LC_ALL" => Some(all.clone()),
            "LANG" => Some(lang.clone()),
            _ => None,
        })
    };
    assert!(utf8("", "de_DE.UTF-8") && utf8("C.utf8", "C") && utf8("", ""));
    assert!(!utf8("POSIX", "en_US.UTF-8") && !utf8("", "C") && !utf8("", "de_DE"));
}
