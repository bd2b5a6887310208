//! Columns of numbers, and dictionaries: what a batch consists of.

use std::{collections::HashMap, hash::Hash};

use super::unpack_error::Damaged;

/// How many values a dictionary holds at most. Later ones are written out each time; it bounds the memory of a reader.
const MAX_DICTIONARY: usize = 16_384;

/// Shortens a column whose values are all equal to one value, and a column of zeros to none: most have such seconds.
pub(super) fn shorten(column: &mut Vec<i64>) {
    if let Some(&first) = column.first()
        && column.iter().all(|value| *value == first)
    {
        column.truncate(usize::from(first != 0));
    }
}

/// Returns a value of a column that may have been shortened.
///
/// # Errors
/// The column is too short.
pub(super) fn value(column: &[i64], row: usize) -> Result<i64, Damaged> {
    match column {
        [] => Ok(0),
        [value] => Ok(*value),
        values => values.get(row).copied().ok_or(Damaged),
    }
}

/// Defines a table of columns of numbers, whose rows are arrays in the order of the columns.
macro_rules! columns {
    ($(#[$about:meta])* $name:ident: $count:literal {
        $(#[$first_about:meta])* $first:ident
        $(, $(#[$column_about:meta])* $column:ident)* $(,)?
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $(#[$first_about])*
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub(super) $first: Vec<i64>,
            $(
                $(#[$column_about])*
                #[serde(skip_serializing_if = "Vec::is_empty")]
                pub(super) $column: Vec<i64>,
            )*
        }

        impl $name {
            /// Appends a row.
            pub(super) fn push(&mut self, row: [i64; $count]) {
                let [$first, $($column),*] = row;
                self.$first.push($first);
                $(self.$column.push($column);)*
            }

            /// Returns a row.
            ///
            /// # Errors
            /// A column is too short.
            pub(super) fn row(&self, row: usize) -> Result<[i64; $count], $crate::recording::unpack_error::Damaged> {
                let at = |column: &[i64]| $crate::recording::columns::value(column, row);
                Ok([at(&self.$first)?, $(at(&self.$column)?),*])
            }

            /// Shortens the columns that can be. The first one stays where its length is the number of rows.
            pub(super) fn shorten(&mut self, has_length: bool) {
                if !has_length {
                    $crate::recording::columns::shorten(&mut self.$first);
                }
                $($crate::recording::columns::shorten(&mut self.$column);)*
            }

            /// Returns whether there is no column.
            pub(super) fn is_empty(&self) -> bool {
                self.$first.is_empty() $(&& self.$column.is_empty())*
            }
        }
    };
}
pub(super) use columns;

/// Values that were written before, by which a later one is a number.
#[derive(Debug)]
pub(super) struct Dictionary<T> {
    /// The values in the order in which they were added.
    values: Vec<T>,
    /// The place of each of them.
    places: HashMap<T, usize>,
}

impl<T> Default for Dictionary<T> {
    fn default() -> Self {
        Self { values: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Dictionary<T> {
    /// Returns the number of a value: its place, from 1, or 0 for one that is not contained. That is appended to `new`,
    /// and added where there is space.
    pub(super) fn number(&mut self, value: &T, new: &mut Vec<T>) -> i64 {
        if let Some(place) = self.places.get(value) {
            return *place as i64 + 1;
        }
        new.push(value.clone());
        self.add(value);
        0
    }

    /// Returns the value of a number; that of 0 is the next of `new`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn value(&mut self, number: i64, new: &mut impl Iterator<Item = T>) -> Result<T, Damaged> {
        if number == 0 {
            let value = new.next().ok_or(Damaged)?;
            self.add(&value);
            return Ok(value);
        }
        let place = usize::try_from(number.wrapping_sub(1)).map_err(|_| Damaged)?;
        self.values.get(place).cloned().ok_or(Damaged)
    }

    /// Adds a value where there is space and it is not contained.
    fn add(&mut self, value: &T) {
        if self.values.len() < MAX_DICTIONARY && !self.places.contains_key(value) {
            self.places.insert(value.clone(), self.values.len());
            self.values.push(value.clone());
        }
    }
}
