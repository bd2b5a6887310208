//! Unit tests of the shares that the servers of a proxy have of its streams.

use super::*;

/// Admits streams of a server until one is refused.
fn admit_all(streams: &OpenStreams, server: usize) -> Vec<AdmittedStream> {
    std::iter::from_fn(|| streams.admit(server)).collect()
}

#[test]
fn a_proxy_with_one_server_keeps_nothing_back() {
    let streams = OpenStreams::new(8);
    streams.set_servers(&[0]);
    assert_eq!(admit_all(&streams, 0).len(), 8);
    assert_eq!(streams.sockets.available_permits(), 8, "all have ended");
}

#[test]
fn the_users_of_one_server_leave_a_share_to_the_others() {
    let streams = OpenStreams::new(80);
    streams.set_servers(&[0, 1]);
    let mut first = admit_all(&streams, 0);
    assert_eq!(first.len(), 60, "three quarters");
    // Nor do attempts to further addresses of its targets take what is kept.
    assert_eq!(streams.sockets.available_permits(), 0);
    let second = admit_all(&streams, 1);
    assert_eq!(second.len(), 20);
    // What ends goes to whom it is guaranteed, else to the first that comes.
    drop(second);
    assert!(streams.admit(0).is_none());
    first.truncate(50);
    assert_eq!(admit_all(&streams, 1).len(), 30);
    drop(first);
    assert_eq!(admit_all(&streams, 1).len(), 60);
}

#[test]
fn shares_follow_the_servers() {
    let streams = OpenStreams::new(80);
    streams.set_servers(&[0]);
    let mut first = admit_all(&streams, 0);
    assert_eq!(first.len(), 80);
    // All streams are open: those that end fill the reserve of the new server before others get them.
    streams.set_servers(&[0, 1]);
    assert!(streams.admit(1).is_none());
    first.truncate(70);
    assert!(streams.admit(0).is_none());
    assert_eq!(admit_all(&streams, 1).len(), 10);
    first.truncate(60);
    assert_eq!(admit_all(&streams, 1).len(), 20);
    first.truncate(50);
    assert_eq!(admit_all(&streams, 0).len(), 10);
    // A third server halves what is kept for each, and the removal of two leaves all to the last.
    streams.set_servers(&[0, 1, 2]);
    drop(first);
    assert_eq!([0, 1, 2].map(|server| admit_all(&streams, server).len()), [80 - 2 * 13; 3]);
    let kept = admit_all(&streams, 2);
    streams.set_servers(&[1]);
    assert_eq!(admit_all(&streams, 1).len(), 80 - kept.len());
    drop(kept);
    assert_eq!(admit_all(&streams, 1).len(), 80);
}

/// With fewer streams than servers nothing can be kept for each.
#[test]
fn a_maximum_without_shares_is_for_the_first_that_comes() {
    let streams = OpenStreams::new(1);
    streams.set_servers(&[0, 1]);
    let only = streams.admit(1);
    assert!(only.is_some() && streams.admit(0).is_none());
}
