//! How the cockpit draws figures and charts: options that the operator toggles while it runs.

/// Display options of all screens. They change what is drawn, never what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DisplayOptions {
    /// Whether rates are shown in bits per second instead of bytes per second.
    pub(crate) bits: bool,
    /// Whether only ASCII characters are drawn, for terminals without UTF-8.
    pub(crate) ascii: bool,
    /// Whether the terminal reports mouse clicks and the wheel.
    pub(crate) mouse: bool,
    /// Index into [`CHART_WINDOWS`](super::CHART_WINDOWS): the time span that charts cover.
    pub(crate) chart_window: usize,
    /// What the load bars of the proxies measure: open streams or bytes per second.
    pub(crate) load_measure: LoadMeasure,
}

/// What the load bar of a proxy measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadMeasure {
    /// The number of open streams of the proxy.
    Streams,
    /// The bytes per second that the proxy forwards, both directions together.
    Bytes,
}

impl Default for DisplayOptions {
    fn default() -> Self {
        Self { bits: false, ascii: false, mouse: false, chart_window: 1, load_measure: LoadMeasure::Streams }
    }
}
