//! How the filters of the cockpit judge rows that are no streams.
//!
//! The language is that of streams, so that an operator learns one: a field that a row does not have contains nothing,
//! and a figure that it does not have is 0.

use super::{
    row_list::{ListedRow, RowFigures},
    rows::{ChannelRow, ProxyListRow, ServiceRow, UserRow},
};
use crate::control::{FilterField, FilterFigure, FilteredStream};

/// Returns a figure of a row as filters compare it.
fn figure(row: &impl ListedRow, figure: FilterFigure) -> f64 {
    let RowFigures { down, up, down_rate, up_rate, age_ms, .. } = row.figures();
    match figure {
        FilterFigure::Down => down_rate as f64,
        FilterFigure::Up => up_rate as f64,
        FilterFigure::DownBytes => down as f64,
        FilterFigure::UpBytes => up as f64,
        FilterFigure::Bytes => (down + up) as f64,
        FilterFigure::Size => 0.0,
        FilterFigure::Age => age_ms as f64 / 1000.0,
    }
}

/// Returns the names of a service: its key, and its port.
fn service(key: &str) -> Vec<String> {
    let port = key.split(':').next().unwrap_or_default();
    vec![key.to_owned(), port.to_owned()]
}

/// Implements the judgement of a row by the texts that a function returns for a field.
macro_rules! filtered_by {
    ($row:ty, $texts:expr) => {
        impl FilteredStream for $row {
            fn searchable_text(&self, field: FilterField) -> String {
                self.exact_texts(field).join(" ")
            }

            fn exact_texts(&self, field: FilterField) -> Vec<String> {
                let texts: fn(&Self, FilterField) -> Vec<String> = $texts;
                texts(self, field)
            }

            fn figure(&self, of: FilterFigure) -> f64 {
                figure(self, of)
            }
        }
    };
}

filtered_by!(UserRow, |row, field| match field {
    FilterField::Stream => vec![row.user.clone()],
    FilterField::Address => vec![row.address.clone(), row.user.clone()],
    FilterField::Service => service(&row.service),
    _ => Vec::new(),
});

filtered_by!(ProxyListRow, |row, field| match field {
    FilterField::Proxy => vec![row.name.clone(), row.proxy.clone()],
    FilterField::State => vec![row.state.clone()],
    FilterField::Service => row.services.iter().flat_map(|key| service(key)).collect(),
    FilterField::Address => vec![row.address.clone()],
    _ => Vec::new(),
});

filtered_by!(ServiceRow, |row, field| match field {
    FilterField::Service => service(&row.service),
    _ => Vec::new(),
});

filtered_by!(ChannelRow, |row, field| match field {
    FilterField::Stream => vec![row.channel.clone()],
    FilterField::Proxy => {
        let id = row.channel.split('/').next().unwrap_or_default();
        vec![row.proxy_name.clone(), id.to_owned()]
    }
    FilterField::State => vec![row.state.clone()],
    FilterField::Address => vec![row.address.clone()],
    _ => Vec::new(),
});
