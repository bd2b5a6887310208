//! Which columns of the table there are, and which of them the operator wants.

/// A column of the table of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamColumn {
    Stream,
    State,
    Service,
    Proxy,
    Channel,
    Address,
    Content,
    Priority,
    Limit,
    UpRate,
    DownRate,
    Up,
    Down,
    Progress,
    Age,
    Trend,
}

impl StreamColumn {
    /// All of them, in the order of the screen.
    pub(crate) const ALL: [Self; 16] = [
        Self::Stream,
        Self::State,
        Self::Service,
        Self::Proxy,
        Self::Channel,
        Self::Address,
        Self::Content,
        Self::Priority,
        Self::Limit,
        Self::UpRate,
        Self::DownRate,
        Self::Up,
        Self::Down,
        Self::Progress,
        Self::Age,
        Self::Trend,
    ];

    /// What the settings call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::State => "state",
            Self::Service => "service",
            Self::Proxy => "proxy",
            Self::Channel => "channel",
            Self::Address => "address",
            Self::Content => "carries",
            Self::Priority => "priority",
            Self::Limit => "limit",
            Self::UpRate => "up-rate",
            Self::DownRate => "down-rate",
            Self::Up => "up",
            Self::Down => "down",
            Self::Progress => "progress",
            Self::Age => "age",
            Self::Trend => "trend",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// What the operator said about columns. With nothing said, the width of the screen alone decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnSelection {
    /// They stay longest when the screen is narrow, the first one of all.
    wanted: Vec<StreamColumn>,
    hidden: Vec<StreamColumn>,
}

impl ColumnSelection {
    /// These and no others, as far as there is room.
    pub(crate) fn only(wanted: Vec<StreamColumn>) -> Self {
        let hidden = StreamColumn::ALL.into_iter().filter(|column| !wanted.contains(column)).collect();
        Self { wanted, hidden }
    }

    /// Whether nothing was said.
    pub(crate) fn is_none(&self) -> bool {
        self.wanted.is_empty() && self.hidden.is_empty()
    }

    pub(crate) fn hides(&self, column: StreamColumn) -> bool {
        // A row without its key must not be acted on.
        column != StreamColumn::Stream && self.hidden.contains(&column)
    }

    /// Where it stands among those that were asked for; after them, if it was not.
    pub(crate) fn precedence(&self, column: StreamColumn) -> usize {
        let at = self.wanted.iter().position(|wanted| *wanted == column);
        if column == StreamColumn::Stream { 0 } else { at.map_or(usize::MAX, |at| at + 1) }
    }

    /// Asks for a column, or for it to go away. The last one asked for comes first: it is to be seen at once.
    pub(crate) fn set(&mut self, column: StreamColumn, shown: bool) {
        self.wanted.retain(|known| *known != column);
        self.hidden.retain(|known| *known != column);
        if shown {
            self.wanted.insert(0, column);
        } else {
            self.hidden.push(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_read() {
        for column in StreamColumn::ALL {
            assert_eq!(StreamColumn::named(column.name()), Some(column));
        }
        assert_eq!(StreamColumn::named("colour"), None);
    }

    #[test]
    fn the_key_of_a_stream_stays() {
        let mut choice = ColumnSelection::only(vec![StreamColumn::Age]);
        assert!(
            !choice.hides(StreamColumn::Stream)
                && choice.hides(StreamColumn::State)
                && !choice.hides(StreamColumn::Age)
        );
        choice.set(StreamColumn::Stream, false);
        choice.set(StreamColumn::State, true);
        assert!(!choice.hides(StreamColumn::Stream) && !choice.hides(StreamColumn::State));
        assert!(choice.precedence(StreamColumn::Stream) < choice.precedence(StreamColumn::State));
        assert!(choice.precedence(StreamColumn::State) < choice.precedence(StreamColumn::Age));
    }
}
