//! Every column is explained, and its names are unambiguous.

use super::*;

#[test]
fn column_names_are_those_that_settings_accept() {
    for column in StreamColumn::ALL {
        assert_eq!(StreamColumn::named(column.name()), Some(*column));
    }
    assert_eq!(StreamColumn::named("colour"), None);
}

#[test]
fn every_column_has_a_heading_that_fits_and_an_explanation() {
    fn check<C: TableColumn + std::fmt::Debug>() {
        for column in C::ALL {
            let spec = column.spec();
            assert!(!spec.help.is_empty(), "{column:?}");
            assert!(!spec.heading.is_empty() && spec.heading.len() <= spec.min_width, "{column:?}");
            assert!(spec.min_width <= spec.preferred_width, "{column:?}");
            assert!(spec.preferred_width <= spec.max_width, "{column:?}");
        }
    }
    check::<StreamColumn>();
    check::<ProxyColumn>();
    check::<ServiceColumn>();
    check::<UserColumn>();
}
