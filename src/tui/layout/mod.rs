//! Divides the terminal into the areas of a screen: pure arithmetic on sizes, shared by the views, which draw into the
//! areas, and by the update, which pages and resolves mouse clicks with them.

mod columns;

use ratatui::layout::{Rect, Size};

pub(crate) use columns::{ColumnRequest, FitPolicy, FittedColumns};

/// The cells left of the first column of a table: the mark of the selected row, and that of a marked one.
pub(crate) const SELECTION_MARGIN: u16 = 2;

/// The overview of proxy load and throughput above the streams table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverviewLayout {
    /// A panel with a row for each proxy, beside a chart of the throughput.
    Panels { proxies: Rect, chart: Rect },
    /// One line with the load of the proxies above one line with the throughput.
    Lines { proxies: Rect, chart: Rect },
    /// The terminal is too low or too narrow for an overview.
    Hidden,
}

/// The areas of a screen. An area for which there is no room has no height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Whether the terminal is large enough for a table. If not, `header` covers the whole terminal and is the only
    /// area to draw into.
    pub(crate) has_table: bool,
    /// The row with the program's name, the screens and the totals.
    pub(crate) header: Rect,
    /// The horizontal rule below the header.
    pub(crate) rule: Rect,
    /// Proxy load and throughput; on the streams screen only.
    pub(crate) overview: OverviewLayout,
    /// The title of the streams table.
    pub(crate) title: Rect,
    /// The streams table: its header row and its rows.
    pub(crate) table: Rect,
    /// The newest log records, below the streams table.
    pub(crate) log: Rect,
    /// All rows between header and notice, for the screens other than the streams screen.
    pub(crate) body: Rect,
    /// The row for notices.
    pub(crate) notice: Rect,
    /// The row with key hints or the prompt.
    pub(crate) footer: Rect,
}

/// The smallest terminal with a table.
const MIN_SIZE: Size = Size::new(24, 6);

impl Layout {
    /// Divides a terminal of this size.
    pub(crate) fn of(size: Size) -> Self {
        let Size { width, height } = size;
        let area = Rect::new(0, 0, width, height);
        if width < MIN_SIZE.width || height < MIN_SIZE.height {
            let none = Rect::new(0, 0, 0, 0);
            return Self {
                has_table: false,
                header: area,
                rule: none,
                overview: OverviewLayout::Hidden,
                title: none,
                table: none,
                log: none,
                body: none,
                notice: none,
                footer: none,
            };
        }
        let mut rest = Strip { width, top: 0, bottom: height };
        let header = rest.take_top(1);
        let footer = rest.take_bottom(1);
        let notice = rest.take_bottom(u16::from(height >= 16));
        let above = u16::from(height >= 20) + 1;
        let body = Rect::new(0, above, width, rest.bottom - above);
        let log = match height {
            0..24 => rest.take_bottom(0),
            24..30 => rest.take_bottom(4),
            30..44 => rest.take_bottom(7),
            _ => rest.take_bottom(10),
        };
        let rule = rest.take_top(u16::from(height >= 20));
        let overview = Self::overview(&mut rest, size);
        let title = rest.take_top(u16::from(height >= 14));
        Self { has_table: true, header, rule, overview, title, table: rest.all(), log, body, notice, footer }
    }

    /// Takes the area of the overview from the top of `rest`.
    fn overview(rest: &mut Strip, size: Size) -> OverviewLayout {
        let Size { width, height } = size;
        if height >= 30 && width >= 100 {
            let area = rest.take_top(if height >= 44 { 12 } else { 9 });
            // The last row stays empty and separates the sections.
            let height = area.height - 1;
            let left = (width / 2).min(84);
            OverviewLayout::Panels {
                proxies: Rect { width: left, height, ..area },
                chart: Rect { x: left + 1, width: width - left - 1, height, ..area },
            }
        } else if height >= 14 && width >= 44 {
            let (proxies, chart) = (rest.take_top(1), rest.take_top(1));
            OverviewLayout::Lines { proxies, chart }
        } else {
            OverviewLayout::Hidden
        }
    }

    /// Divides the proxies screen: returns the areas of the proxy table (title, header and `proxy_rows` rows) and of
    /// the service table (header and `service_rows` rows). The service table follows the last proxy, and keeps a
    /// quarter of the screen where not all rows of both fit.
    pub(crate) fn split_proxies(&self, proxy_rows: usize, service_rows: usize) -> (Rect, Rect) {
        let Rect { y, height, .. } = self.body;
        if service_rows == 0 {
            return (self.body, Rect { y: self.body.bottom(), height: 0, ..self.body });
        }
        let services = u16::try_from(service_rows).unwrap_or(u16::MAX);
        let services = services.min((height / 4).max(1)).saturating_add(1);
        let gap = u16::from(height >= 14);
        let proxies = u16::try_from(proxy_rows.max(1) + 2).unwrap_or(u16::MAX);
        let proxies = proxies.min(height.saturating_sub(services + gap));
        let services_y = y + proxies + gap;
        let services = services.min(self.body.bottom().saturating_sub(services_y));
        (Rect { height: proxies, ..self.body }, Rect { y: services_y, height: services, ..self.body })
    }

    /// Divides the sessions screen: returns the areas of the link timelines and of the users table. Timelines get as
    /// many rows as they need, up to a third of the screen: the operator acts on users, not on timelines.
    pub(crate) fn split_sessions(&self, links: usize) -> (Rect, Rect) {
        let Rect { y, width, height, .. } = self.body;
        let wanted = u16::try_from(links + 2).unwrap_or(u16::MAX).min((height / 3).max(3));
        let upper = if height >= 16 && width >= 60 { wanted } else { 0 };
        let users = Rect { y: y + upper, height: height - upper, ..self.body };
        (Rect { height: upper.saturating_sub(1), ..self.body }, users)
    }

    /// Returns the number of rows of the streams table that are visible at once, at least 1.
    pub(crate) fn table_rows(&self) -> usize {
        usize::from(self.table.height.saturating_sub(1)).max(1)
    }
}

/// The rows of the terminal that no area has taken yet.
struct Strip {
    /// The width of the terminal in columns.
    width: u16,
    /// The first row of the strip, counted from 0 at the top of the terminal.
    top: u16,
    /// The first row below the strip.
    bottom: u16,
}

impl Strip {
    /// Takes up to `height` rows from the top of the strip, and returns them as an area.
    fn take_top(&mut self, height: u16) -> Rect {
        let height = height.min(self.bottom - self.top);
        let area = Rect::new(0, self.top, self.width, height);
        self.top += height;
        area
    }

    /// Takes up to `height` rows from the bottom of the strip, and returns them as an area.
    fn take_bottom(&mut self, height: u16) -> Rect {
        let height = height.min(self.bottom - self.top);
        self.bottom -= height;
        Rect::new(0, self.bottom, self.width, height)
    }

    /// Returns all rows that no area has taken.
    fn all(&self) -> Rect {
        Rect::new(0, self.top, self.width, self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests;
