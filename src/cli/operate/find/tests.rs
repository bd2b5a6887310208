//! The only process is found without its name, and several are listed.

use super::*;

fn instance(name: &str, directory: &str, is_permitted: bool) -> Instance {
    Instance { name: name.to_owned(), path: PathBuf::from(format!("{directory}/{name}.sock")), is_permitted }
}

#[test]
fn the_only_process_needs_no_name_and_several_do() {
    let own = instance("server", "/run/user/7/underpass", true);
    let foreign = instance("server", "/run/underpass", false);
    let second = instance("edge", "/run/user/7/underpass", true);
    let alone = [own.clone(), foreign.clone()];
    assert_eq!(choose(None, &alone), Ok(&own));
    assert_eq!(choose(Some("server"), &alone), Ok(&own));
    let two = [own.clone(), second.clone()];
    assert_eq!(choose(Some("edge"), &two), Ok(&second));
    for (wanted, found, advice) in [
        (None, &two[..], "choose one with --control: server, edge"),
        (None, &[], "no server or proxy of this user is running"),
        (Some("x"), &[], "no server or proxy «x» of this user is running"),
        (Some("x"), &two, "no server or proxy «x» is running; there is: server, edge"),
        (
            None,
            &[foreign][..],
            "may not use the control socket of /run/underpass/server.sock: run this as its user",
        ),
    ] {
        let error = choose(wanted, found).unwrap_err();
        assert!(error.contains(advice), "{error}");
    }
}
