//! Unit tests of the congestion control of single sockets. Every Linux offers Reno.

use super::*;

#[test]
fn the_congestion_control_of_a_socket_can_be_set_and_read() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let socket = SockRef::from(&socket);
    set(&socket, "reno").unwrap();
    assert_eq!(get(&socket).as_deref(), Some("reno"));
    assert!(set(&socket, "nagle").is_err());
    assert_eq!(get(&socket).as_deref(), Some("reno"), "a name that is not offered changes nothing");
}

#[test]
fn a_name_that_is_not_offered_is_refused_with_those_that_are() {
    check_congestion_control("reno").unwrap();
    let error = check_congestion_control("nagle").unwrap_err();
    let CongestionControlError::NotOffered { offered } = &error else { panic!("{error}") };
    assert!(offered.contains(&"reno".to_owned()), "{error}");
    offered.iter().for_each(|name| check_congestion_control(name).unwrap());
    assert!(error.to_string().contains("it offers this user: "), "{error}");
    assert!(check_congestion_control("").is_err());
}
