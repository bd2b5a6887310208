//! The contexts in which keys have a meaning, and which contexts a key is looked up in.

/// The set of key bindings in which the next key is looked up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputContext {
    /// The streams table.
    Streams,
    /// The detail of one stream.
    Detail,
    /// The proxy table, channels and services.
    Proxies,
    /// The list of users and the timelines of links.
    Sessions,
    /// The log screen.
    Logs,
    /// Every screen with a table.
    List,
    /// Every screen.
    Screens,
    /// A question with buttons.
    Dialog,
    /// A line of text that is being typed.
    Prompt,
    /// The join command.
    AddProxy,
    /// The list of columns.
    Columns,
    /// The open help.
    Help,
    /// Everywhere, where no nearer context binds the key.
    Anywhere,
}

impl InputContext {
    /// Returns the name of the screen whose bindings these are; `None` for those of overlays and of several screens.
    pub(super) fn screen(self) -> Option<&'static str> {
        Some(match self {
            Self::Streams => "1 Streams",
            Self::Detail => "detail of a stream",
            Self::Proxies => "2 Proxies",
            Self::Sessions => "3 Users",
            Self::Logs => "4 Logs",
            _ => return None,
        })
    }

    /// The contexts in which a key is looked up, the nearest first. Those of overlays do not include the screen
    /// behind them: a key must not act on what the overlay covers.
    pub(super) fn chain(self) -> &'static [Self] {
        match self {
            Self::Streams => &[Self::Streams, Self::List, Self::Screens, Self::Anywhere],
            Self::Detail => &[Self::Detail, Self::Screens, Self::Anywhere],
            Self::Proxies => &[Self::Proxies, Self::List, Self::Screens, Self::Anywhere],
            Self::Sessions => &[Self::Sessions, Self::List, Self::Screens, Self::Anywhere],
            Self::Logs => &[Self::Logs, Self::Screens, Self::Anywhere],
            Self::Dialog => &[Self::Dialog, Self::Anywhere],
            Self::Prompt => &[Self::Prompt, Self::Anywhere],
            Self::AddProxy => &[Self::AddProxy, Self::Anywhere],
            Self::Columns => &[Self::Columns, Self::Anywhere],
            Self::Help => &[Self::Help, Self::Anywhere],
            Self::List | Self::Screens | Self::Anywhere => &[Self::Anywhere],
        }
    }
}
