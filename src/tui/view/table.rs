//! Columns of the smaller tables: which have room, how wide they are, and what they say.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::tui::format::{fit, fit_right};

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec<C> {
    pub(super) column: C,
    pub(super) head: &'static str,
    pub(super) width: usize,
    /// How wide it grows where there is room to spare.
    pub(super) widest: usize,
    pub(super) right: bool,
    /// The lowest ranks stay longest when the screen gets narrow.
    pub(super) rank: u8,
}

/// A column of text, which begins at the left.
pub(super) const fn left<C>(column: C, head: &'static str, width: usize, widest: usize, rank: u8) -> Spec<C> {
    Spec { column, head, width, widest, right: false, rank }
}

/// A column of figures, which end at the right.
pub(super) const fn right<C>(column: C, head: &'static str, width: usize, rank: u8) -> Spec<C> {
    Spec { column, head, width, widest: width, right: true, rank }
}

/// What stands in a cell.
pub(super) enum Cell {
    Text(String, Style),
    /// As wide as the column already.
    Drawn(Vec<Span<'static>>),
}

/// The columns that have room.
#[derive(Debug)]
pub(super) struct Table<C>(Vec<Spec<C>>);

impl<C: Copy + PartialEq> Table<C> {
    /// As many as fit into `width` cells, in the order in which they are given.
    pub(super) fn fitting(specs: impl IntoIterator<Item = Spec<C>>, width: u16) -> Self {
        let mut kept: Vec<Spec<C>> = specs.into_iter().collect();
        let mut by_rank: Vec<(u8, usize)> = kept.iter().map(|spec| (spec.rank, spec.width)).collect();
        by_rank.sort_unstable();
        let (mut spare, mut limit) = (usize::from(width), 0);
        for (rank, width) in by_rank {
            let Some(rest) = spare.checked_sub(width + 1) else { break };
            (spare, limit) = (rest, rank + 1);
        }
        kept.retain(|spec| spec.rank < limit);
        // What is left goes to those that can use it, a cell each in turn.
        while spare > 0 {
            let before = spare;
            for spec in kept.iter_mut().filter(|spec| spec.width < spec.widest) {
                if spare > 0 {
                    (spec.width, spare) = (spec.width + 1, spare - 1);
                }
            }
            if spare == before {
                break;
            }
        }
        Self(kept)
    }

    /// How wide a column is; nothing where it has no room.
    pub(super) fn width(&self, column: C) -> Option<usize> {
        self.0.iter().find(|spec| spec.column == column).map(|spec| spec.width)
    }

    pub(super) fn head(&self, style: Style) -> Line<'static> {
        self.row(|spec| Cell::Text(spec.head.to_owned(), style))
    }

    pub(super) fn row(&self, mut cell: impl FnMut(&Spec<C>) -> Cell) -> Line<'static> {
        let mut spans = Vec::with_capacity(self.0.len() * 3);
        for spec in &self.0 {
            match cell(spec) {
                Cell::Text(text, style) if spec.right => {
                    spans.push(Span::styled(fit_right(&text, spec.width), style));
                }
                Cell::Text(text, style) => spans.push(Span::styled(fit(&text, spec.width), style)),
                Cell::Drawn(drawn) => spans.extend(drawn),
            }
            spans.push(Span::raw(" "));
        }
        Line::from(spans)
    }
}

/// What is said in one line, in this order, as far as there is room: the lowest ranks stay longest.
pub(super) fn facts(mut facts: Vec<(u8, Vec<Span<'static>>)>, width: usize) -> Line<'static> {
    const GAP: usize = 2;
    let own = |fact: &(u8, Vec<Span<'_>>)| fact.1.iter().map(Span::width).sum::<usize>() + GAP;
    while facts.iter().map(own).sum::<usize>() > width + GAP && facts.len() > 1 {
        let last = facts.iter().enumerate().max_by_key(|(_, (rank, _))| *rank).map_or(0, |(at, _)| at);
        facts.remove(last);
    }
    let mut spans = Vec::new();
    for (_, fact) in facts {
        if !spans.is_empty() {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        spans.extend(fact);
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_go_by_rank_and_grow_into_what_is_left() {
        let specs = || [left('a', "A", 4, 8, 0), right('b', "B", 3, 2), left('c', "C", 5, 5, 1)];
        let widths = |width| {
            Table::fitting(specs(), width).0.iter().map(|spec| (spec.column, spec.width)).collect::<Vec<_>>()
        };
        assert_eq!(widths(4), []);
        assert_eq!(widths(10), [('a', 8)]);
        assert_eq!(widths(11), [('a', 4), ('c', 5)]);
        assert_eq!(widths(100), [('a', 8), ('b', 3), ('c', 5)]);
        for width in 0..40 {
            assert!(widths(width).iter().map(|(_, own)| own + 1).sum::<usize>() <= usize::from(width));
        }
    }

    #[test]
    fn what_matters_least_is_left_out_first() {
        let line = |width| {
            let fact = |rank, text: &'static str| (rank, vec![Span::raw(text)]);
            facts(vec![fact(0, "one"), fact(2, "two"), fact(1, "three")], width).to_string()
        };
        assert_eq!(line(15), "one  two  three");
        assert_eq!(line(14), "one  three");
        assert_eq!(line(2), "one");
    }
}
