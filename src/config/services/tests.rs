//! Unit tests of the services that one proxy can have together.

use super::*;

fn services(ports: &[&str]) -> Vec<ServiceConfig> {
    ports.iter().map(|port| ServiceConfig::new(port.parse().unwrap(), "target:80")).collect()
}

#[test]
fn a_port_belongs_to_one_service_and_any_port_to_many() {
    let check = |ports: &[&str]| ServiceConfig::check_all(&services(ports), ProxyFormat::Binary);
    assert_eq!(check(&["8080", "0", "9090:web", "0", "0:web"]), Ok(()));
    assert_eq!(check(&["8080", "9090", "8080"]), Err(ServicesError::SamePort(8080)));
    // A server has one group for each port.
    assert_eq!(check(&["8080:blue", "8080:green"]), Err(ServicesError::SamePort(8080)));
}

#[test]
fn a_proxy_has_between_one_service_and_as_many_as_a_server_accepts() {
    assert_eq!(ServiceConfig::check_all(&[], ProxyFormat::Binary), Err(ServicesError::None));
    let many = services(&["0"; ServiceConfig::MAX + 1]);
    assert_eq!(
        ServiceConfig::check_all(&many, ProxyFormat::Binary),
        Err(ServicesError::TooMany(ServiceConfig::MAX + 1))
    );
    assert_eq!(ServiceConfig::check_all(&many[1..], ProxyFormat::Binary), Ok(()));
}

#[test]
fn the_text_format_carries_one_service() {
    let check = |ports: &[&str]| ServiceConfig::check_all(&services(ports), ProxyFormat::Text);
    assert_eq!(check(&["8080"]), Ok(()));
    assert_eq!(check(&["8080", "9090"]), Err(ServicesError::TextFormat(2)));
}
