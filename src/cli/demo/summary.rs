//! The summary that `underpass demo` prints when it ends.

use std::{fmt, time::Duration};

use super::LoadReport;

/// Result of a demo run, displayed as the text that `underpass demo` prints last.
#[derive(Debug, Clone)]
pub struct DemoSummary {
    /// Transfers and bytes as the demo's users counted them.
    pub report: LoadReport,
    /// Duration of the run.
    pub elapsed: Duration,
}

impl DemoSummary {
    /// Returns whether no transfer delivered bytes that were never sent. Transfers that failed with an error are not
    /// counted here, because an operator who kills streams causes them on purpose.
    pub fn is_clean(&self) -> bool {
        self.report.checksum_failures == 0
    }
}

impl fmt::Display for DemoSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadReport {
            started,
            downloads,
            uploads,
            checksum_failures,
            failed,
            cancelled,
            down,
            up,
            errors,
        } = &self.report;
        let rate = (down + up) as f64 / self.elapsed.as_secs_f64().max(0.001);
        writeln!(f, "demo ran for {:.1} s", self.elapsed.as_secs_f64())?;
        writeln!(f, "  streams            {started}: {downloads} downloads, {uploads} uploads complete")?;
        if *cancelled > 0 {
            writeln!(f, "                     {cancelled} still open when the demo ended")?;
        }
        if *failed > 0 {
            writeln!(f, "                     {failed} failed with an error that the user saw")?;
        }
        let (down, up, rate) = (DecimalBytes(*down as f64), DecimalBytes(*up as f64), DecimalBytes(rate));
        writeln!(f, "  bytes              {down} down, {up} up, {rate}/s")?;
        writeln!(f, "  checksum failures  {checksum_failures}")?;
        errors.iter().try_for_each(|error| writeln!(f, "    {error}"))
    }
}

/// A number of bytes, displayed with a decimal unit: `1.2 GB`.
struct DecimalBytes(f64);

impl fmt::Display for DecimalBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut unit) = (self.0, "B");
        for larger in ["kB", "MB", "GB", "TB"] {
            if number < 1000.0 {
                break;
            }
            number /= 1000.0;
            unit = larger;
        }
        let digits = usize::from(unit != "B" && number < 100.0);
        write!(f, "{number:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests;
