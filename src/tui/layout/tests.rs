//! Every part of the layout stays on the screen, whatever its size.

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
                let (proxies, services) = layout.split_proxies(some, some / 3);
                let (links, users) = layout.split_sessions(some);
                for part in [proxies, services, links, users] {
                    assert_eq!(part.intersection(layout.body), part, "{width}x{height}");
                }
                assert!(proxies.bottom() <= services.y && links.bottom() <= users.y);
            }
            if layout.has_table {
                assert!(layout.table.height >= 3, "{width}x{height}: {:?}", layout.table);
            }
        }
    }
}
