//! A reader of the registry gets each new entry once.

use super::*;

#[test]
fn a_reader_gets_only_the_entries_added_since_its_last_read() {
    let (registry, mut next) = (Registry::default(), 0);
    let added = |next: &mut u64| {
        let mut added = Vec::new();
        registry.visit_since(next, |_, entry| added.push(**entry));
        added
    };
    let first = registry.insert(Arc::new('a'));
    registry.insert(Arc::new('b'));
    assert_eq!((added(&mut next), added(&mut next)), (vec!['a', 'b'], vec![]));
    registry.remove(first);
    let removed = registry.insert(Arc::new('c'));
    registry.insert(Arc::new('d'));
    registry.remove(removed);
    assert_eq!((added(&mut next), registry.len()), (vec!['d'], 2));
    assert_eq!(added(&mut 0), ['b', 'd']);
}
