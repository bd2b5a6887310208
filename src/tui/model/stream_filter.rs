//! What filters search in a row of the streams table.

use std::time::Instant;

use super::{ProxyRows, StreamRow};
use crate::control::{FilterField, FilterFigure, FilteredStream};

/// A row of the streams table, with what a filter needs to judge it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterRow<'a> {
    /// The row.
    pub(crate) row: StreamRow<'a>,
    /// Names the row's proxy.
    pub(crate) proxies: &'a ProxyRows,
    /// Determines the row's age.
    pub(crate) now: Instant,
}

impl FilteredStream for FilterRow<'_> {
    /// Returns the text by which filters search the row in this field. A proxy has its number where others have its
    /// name, too.
    fn searchable_text(&self, field: FilterField) -> String {
        let row = self.row;
        match field {
            FilterField::Stream => row.key.to_string(),
            FilterField::Proxy => row.proxy.map(|id| self.proxies.name(id)).unwrap_or_default(),
            // With the id, which names the user on other screens.
            FilterField::Address => format!("{} {}", row.addr, row.key.user),
            FilterField::Service => row.service.to_string(),
            FilterField::State => state_name(row).to_owned(),
            FilterField::Content => row.content.as_ref().map(ToString::to_string).unwrap_or_default(),
            FilterField::Priority => row.priority.to_string(),
        }
    }

    fn exact_texts(&self, field: FilterField) -> Vec<String> {
        let row = self.row;
        match field {
            FilterField::Stream => vec![row.key.to_string(), row.key.user.to_string()],
            FilterField::Address => {
                vec![row.addr.to_string(), row.addr.ip().to_string(), row.key.user.to_string()]
            }
            FilterField::Service => vec![row.service.to_string(), row.service.port.to_string()],
            FilterField::Proxy => {
                let Some(id) = row.proxy else { return Vec::new() };
                let own_name = self.proxies.get(id).map(|proxy| proxy.name.clone());
                own_name.into_iter().chain([self.proxies.name(id), id.to_string()]).collect()
            }
            other => vec![self.searchable_text(other)],
        }
    }

    fn figure(&self, figure: FilterFigure) -> f64 {
        let row = self.row;
        match figure {
            FilterFigure::Down => f64::from(row.counters.down_rate),
            FilterFigure::Up => f64::from(row.counters.up_rate),
            FilterFigure::DownBytes => row.counters.down as f64,
            FilterFigure::UpBytes => row.counters.up as f64,
            FilterFigure::Bytes => row.bytes() as f64,
            FilterFigure::Size => row.download.map_or(0, |body| body.size) as f64,
            FilterFigure::Age => row.age(self.now).as_secs_f64(),
        }
    }
}

/// Returns the state of a stream as one lower-case word, for filters, the detail screen and exports.
pub(crate) fn state_name(row: StreamRow<'_>) -> &'static str {
    match &row.ended {
        Some(ended) => ended.state_name(),
        None => row.phase.state_name(row.paused, row.is_in_grace_period),
    }
}
