//! Who may do what.

use super::*;

fn group(gid: u32) -> Option<ControlGroup> {
    Some(ControlGroup { name: format!("g{gid}"), gid })
}

/// A user that is neither root nor the user of the tests.
const OTHER_USER: u32 = 4_000_001;

#[test]
fn members_of_the_groups_may_read_or_operate_and_others_nothing() {
    let rules = AccessRules { operators: group(70), readers: group(71) };
    for (groups, access) in [
        (vec![1], None),
        (vec![71], Some(Access::Read)),
        (vec![1, 71], Some(Access::Read)),
        (vec![70], Some(Access::Operate)),
        (vec![71, 70], Some(Access::Operate)),
    ] {
        let peer = Peer { uid: OTHER_USER, pid: Some(1), groups };
        assert_eq!(peer.access(&rules), access, "{peer:?}");
        assert_eq!(peer.access(&AccessRules::default()), None, "{peer:?}");
    }
    for uid in [0, Uid::effective().as_raw()] {
        let peer = Peer { uid, pid: None, groups: Vec::new() };
        assert_eq!(peer.access(&AccessRules::default()), Some(Access::Operate));
    }
}

#[tokio::test]
async fn the_kernel_says_who_the_peer_is() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let peer = Peer::of(&socket).unwrap();
    assert_eq!((peer.uid, peer.pid), (Uid::effective().as_raw(), Some(std::process::id())));
    let own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
    for group in own {
        assert!(peer.groups.contains(&group), "{group} is not in {:?}", peer.groups);
    }
}

#[test]
fn a_group_is_found_by_name_and_by_number() {
    assert_eq!(ControlGroup::find("4711").unwrap().gid, 4711);
    let error = ControlGroup::find("no-such-group-here").unwrap_err();
    assert!(error.contains("no group «no-such-group-here»") && error.contains("groupadd"), "{error}");
    // Every Unix has a group 0, whatever its name.
    let root = Group::from_gid(nix::unistd::Gid::from_raw(0)).unwrap().unwrap();
    assert_eq!(ControlGroup::find(&root.name).unwrap().gid, 0);
}
