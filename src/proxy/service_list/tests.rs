//! Unit tests of what a new list of services changes.

use super::*;

fn list(services: &[(&str, &str)]) -> Vec<ServiceConfig> {
    services.iter().map(|(key, target)| ServiceConfig::new(key.parse().unwrap(), *target)).collect()
}

fn ids(list: &ServiceList) -> Vec<u64> {
    list.iter().map(|entry| entry.id.0).collect()
}

#[test]
fn services_keep_their_ids_by_port_and_group() {
    let first = ServiceList::new(list(&[("80", "a:1"), ("81", "b:1"), ("82", "c:1")]));
    let (second, changes) =
        first.replaced_by(list(&[("82", "c:1"), ("81", "b:2"), ("81:web", "d:1"), ("83", "e:1")]));
    assert_eq!(ids(&second), [3, 2, 4, 5]);
    assert_eq!(changes.to_string(), "services added: 2, changed: 1, removed: 1");
    assert_eq!((changes.changed[0].port, changes.removed[0].port), (81, 80));
    // Unchanged services are the same objects.
    assert!(Arc::ptr_eq(&first.entries[2], &second.entries[0]));
    // One that returns is a new service.
    let (third, changes) = second.replaced_by(list(&[("80", "a:1")]));
    assert_eq!((ids(&third), changes.removed.len()), (vec![6], 4));
}

#[test]
fn services_on_any_port_are_matched_by_target_and_then_by_order() {
    let first = ServiceList::new(list(&[("0", "a:1"), ("0", "b:1"), ("0", "a:1")]));
    let (second, changes) = first.replaced_by(list(&[("0", "b:1"), ("0", "c:1"), ("0", "a:1")]));
    // The port of the second a:1 goes to c:1.
    assert_eq!(ids(&second), [2, 3, 1]);
    assert_eq!(changes.to_string(), "services added: 0, changed: 1, removed: 0");
    let (third, changes) = second.replaced_by(list(&[("0", "a:1")]));
    assert_eq!((ids(&third), changes.removed.len()), (vec![1], 2));
    assert!(third.replaced_by(list(&[("0", "a:1")])).1.is_empty());
}
