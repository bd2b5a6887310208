//! The text of the help: key bindings, states and figures, filtered by what is searched for. The view draws it; the
//! length decides how far it can be scrolled.

use ratatui::{
    layout::Size,
    text::{Line, Span},
};

use unicode_width::UnicodeWidthStr;

use super::{
    format::{fit, wrap},
    keymap::InputContext,
    model::{Model, Overlay},
};

/// What a state in the table means.
const STATES: [(&str, &str); 9] = [
    ("WAIT", "no proxy is there for it yet, or its own has lost its channels"),
    ("DIAL", "its proxy connects to the target"),
    ("OPEN", "both directions are open"),
    ("PAUSED", "held by the operator; nothing is closed"),
    ("HALF↓ HALF↑", "one side is done; the other way still carries"),
    ("ended", "both sides are done, every byte arrived"),
    ("failed", "cut short; the reason stands beside it and in the log"),
    ("reset, left", "its user ended it"),
    ("killed", "by the operator"),
];

const FIGURES: [(&str, &str); 10] = [
    ("down", "to the user; up is from the user. K is 1,000"),
    ("rates", "over the last second; in the colour of warnings: limited"),
    ("carries", "what its first bytes tell; nothing is altered"),
    ("PRI", "each step up is twice the share of a crowded channel"),
    ("imbalance", "the busiest proxy's load, by the mean; 1 is even"),
    ("Jain", "1 is even, one by their number is all on one"),
    ("Gini", "how unevenly streams are spread: 0 is even, 1 is all on one"),
    ("share", "the mark is where a bar ends if the policy is kept"),
    ("50/99%", "half of them took at most so long, all but 1% at most so"),
    ("held by", "who keeps a stream from going faster at this moment"),
];

const CONTEXTS: [(InputContext, &str); 11] = [
    (InputContext::Streams, "Streams"),
    (InputContext::Detail, "One stream"),
    (InputContext::Proxies, "Proxies"),
    (InputContext::Sessions, "Sessions"),
    (InputContext::Logs, "Logs"),
    (InputContext::List, "In every table"),
    (InputContext::Screens, "On every screen"),
    (InputContext::Anywhere, "Anywhere"),
    (InputContext::Dialog, "In a dialog"),
    (InputContext::Prompt, "In a line"),
    (InputContext::Columns, "In the list of columns"),
];

/// The size of the help window, without its frame.
pub(crate) fn inner_size(size: Size) -> Size {
    Size::new(
        size.width.min(100).saturating_sub(2),
        size.height.saturating_sub(if size.height > 20 { 6 } else { 2 }),
    )
}

/// How many lines a page of the help has, and the largest scroll position.
pub(crate) fn extent(model: &Model) -> (usize, usize) {
    let page = usize::from(inner_size(model.size).height);
    let search = match &model.overlay {
        Some(Overlay::Help { search, .. }) => search.as_str(),
        _ => "",
    };
    let all = lines(model, search, inner_size(model.size).width.into()).len();
    (page.max(1), all.saturating_sub(page))
}

/// The lines of the help that contain `search`, for a window `width` cells wide; the bindings of the current screen come
/// first.
pub(crate) fn lines(model: &Model, search: &str, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    // Names that are longer than this stand on a line of their own, where the screen is narrow.
    let column = if width < 60 { 9 } else { 15 };
    let room = width.saturating_sub(column + 4).max(1);
    let mut lines = Vec::new();
    let wanted = search.to_lowercase();
    // What it is called on the command line can be looked for too.
    let mut section = |name: &str, entries: Vec<(String, String, String)>| {
        let fits = |(name, text, called): &(String, String, String)| {
            format!("{name} {text} {called}").to_lowercase().contains(&wanted)
        };
        let entries: Vec<_> = entries.into_iter().filter(fits).collect();
        if entries.is_empty() {
            return;
        }
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::styled(name.to_owned(), theme.strong));
        for (name, text, _) in entries {
            let mut name = format!("  {name}");
            if name.width() > column + 1 {
                lines.push(Line::styled(std::mem::take(&mut name), theme.accent));
            }
            for part in wrap(&text, room) {
                let name = fit(&std::mem::take(&mut name), column + 2);
                lines
                    .push(Line::from(vec![Span::styled(name, theme.accent), Span::styled(part, theme.text)]));
            }
        }
    };
    // What works here comes first.
    let mut contexts = CONTEXTS;
    let here = model.command_context();
    contexts.sort_by_key(|(context, _)| *context != here);
    for (context, name) in contexts {
        let entries = model.keymap.of(context).map(|entry| {
            let binding = entry.binding;
            let shown = match entry.shown.as_ref() {
                "" => format!(":{}", binding.name),
                shown => shown.to_owned(),
            };
            (shown, binding.help.to_owned(), binding.name.to_owned())
        });
        section(name, entries.collect());
    }
    let pairs = |list: &[(&str, &str)]| {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned(), String::new())).collect()
    };
    section("States", pairs(&STATES));
    section("Figures", pairs(&FIGURES));
    if lines.is_empty() {
        lines.push(Line::styled(format!("Nothing here says «{search}»."), theme.dim));
    }
    lines
}
