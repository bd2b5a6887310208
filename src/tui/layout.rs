//! Where things are for a size of the terminal: pure arithmetic, shared by the views and by the keys that page.

use ratatui::layout::{Rect, Size};

/// How the upper part is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverviewLayout {
    /// A panel for the proxies beside a chart.
    Panels { proxies: Rect, chart: Rect },
    /// A line for the proxies above a line for the throughput.
    Lines { proxies: Rect, chart: Rect },
    /// Nothing.
    None,
}

/// Where things are. What has no room has no height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Whether there is room for a table at all. If not, only `header` is to be drawn, over everything.
    pub(crate) fits: bool,
    pub(crate) header: Rect,
    pub(crate) rule: Rect,
    pub(crate) overview: OverviewLayout,
    pub(crate) title: Rect,
    /// The head of the table and its rows.
    pub(crate) table: Rect,
    pub(crate) log: Rect,
    /// Everything between the header and the notice: what the other screens have.
    pub(crate) body: Rect,
    pub(crate) notice: Rect,
    pub(crate) footer: Rect,
}

/// The smallest screen with a table.
const MIN: Size = Size::new(24, 6);

impl Layout {
    pub(crate) fn of(size: Size) -> Self {
        let Size { width, height } = size;
        let area = Rect::new(0, 0, width, height);
        if width < MIN.width || height < MIN.height {
            let none = Rect::new(0, 0, 0, 0);
            return Self {
                fits: false,
                header: area,
                rule: none,
                overview: OverviewLayout::None,
                title: none,
                table: none,
                log: none,
                body: none,
                notice: none,
                footer: none,
            };
        }
        let mut rest = Rows { width, top: 0, bottom: height };
        let header = rest.take(1);
        let footer = rest.take_last(1);
        let notice = rest.take_last(u16::from(height >= 16));
        let above = u16::from(height >= 20) + 1;
        let body = Rect::new(0, above, width, rest.bottom - above);
        let log = match height {
            0..24 => rest.take_last(0),
            24..30 => rest.take_last(4),
            30..44 => rest.take_last(7),
            _ => rest.take_last(10),
        };
        let rule = rest.take(u16::from(height >= 20));
        let overview = Self::overview(&mut rest, size);
        let title = rest.take(u16::from(height >= 14));
        Self { fits: true, header, rule, overview, title, table: rest.all(), log, body, notice, footer }
    }

    fn overview(rest: &mut Rows, size: Size) -> OverviewLayout {
        let Size { width, height } = size;
        if height >= 30 && width >= 100 {
            let area = rest.take(if height >= 44 { 12 } else { 9 });
            // The last row stays empty: air between the sections.
            let height = area.height - 1;
            let left = (width / 2).min(84);
            OverviewLayout::Panels {
                proxies: Rect { width: left, height, ..area },
                chart: Rect { x: left + 1, width: width - left - 1, height, ..area },
            }
        } else if height >= 14 && width >= 44 {
            let (proxies, chart) = (rest.take(1), rest.take(1));
            OverviewLayout::Lines { proxies, chart }
        } else {
            OverviewLayout::None
        }
    }

    /// The screen of proxies: the table with so many `rows` below its title and its head, then as many services below
    /// theirs. These come right behind it, and keep a quarter of the screen where there is more of all than has room.
    pub(crate) fn with_services(&self, rows: usize, services: usize) -> (Rect, Rect) {
        let Rect { y, height, .. } = self.body;
        if services == 0 {
            return (self.body, Rect { y: self.body.bottom(), height: 0, ..self.body });
        }
        let services = u16::try_from(services).unwrap_or(u16::MAX).min((height / 4).max(1)).saturating_add(1);
        let air = u16::from(height >= 14);
        let table = u16::try_from(rows.max(1) + 2).unwrap_or(u16::MAX);
        let table = table.min(height.saturating_sub(services + air));
        let at = y + table + air;
        let services = services.min(self.body.bottom().saturating_sub(at));
        (Rect { height: table, ..self.body }, Rect { y: at, height: services, ..self.body })
    }

    /// The screen of sessions: links above, users below. Users are what is acted on; links get what they need, up to a
    /// third.
    pub(crate) fn with_links(&self, links: usize) -> (Rect, Rect) {
        let Rect { y, width, height, .. } = self.body;
        let wanted = u16::try_from(links + 2).unwrap_or(u16::MAX).min((height / 3).max(3));
        let overview = if height >= 16 && width >= 60 { wanted } else { 0 };
        let users = Rect { y: y + overview, height: height - overview, ..self.body };
        (Rect { height: overview.saturating_sub(1), ..self.body }, users)
    }

    /// How many rows of the table are on screen.
    pub(crate) fn page(&self) -> usize {
        usize::from(self.table.height.saturating_sub(1)).max(1)
    }
}

/// Full-width strips, taken from above and below.
struct Rows {
    width: u16,
    top: u16,
    bottom: u16,
}

impl Rows {
    fn take(&mut self, height: u16) -> Rect {
        let height = height.min(self.bottom - self.top);
        let strip = Rect::new(0, self.top, self.width, height);
        self.top += height;
        strip
    }

    fn take_last(&mut self, height: u16) -> Rect {
        let height = height.min(self.bottom - self.top);
        self.bottom -= height;
        Rect::new(0, self.bottom, self.width, height)
    }

    fn all(&self) -> Rect {
        Rect::new(0, self.top, self.width, self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_layout_that_stays_on_the_screen() {
        for width in 0..=210 {
            for height in 0..=70 {
                let layout = Layout::of(Size::new(width, height));
                let screen = Rect::new(0, 0, width, height);
                let mut parts =
                    vec![layout.header, layout.rule, layout.title, layout.table, layout.log, layout.notice];
                if let OverviewLayout::Panels { proxies, chart } | OverviewLayout::Lines { proxies, chart } =
                    layout.overview
                {
                    parts.extend([proxies, chart]);
                }
                for part in parts {
                    assert_eq!(part.intersection(screen), part, "{width}x{height}");
                }
                for some in [0, 1, 5, 100] {
                    let (proxies, services) = layout.with_services(some, some / 3);
                    let (links, users) = layout.with_links(some);
                    for part in [proxies, services, links, users] {
                        assert_eq!(part.intersection(layout.body), part, "{width}x{height}");
                    }
                    assert!(proxies.bottom() <= services.y && links.bottom() <= users.y);
                }
                if layout.fits {
                    assert!(layout.table.height >= 3, "{width}x{height}: {:?}", layout.table);
                }
            }
        }
    }
}
