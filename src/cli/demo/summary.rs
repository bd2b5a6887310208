use std::{fmt, time::Duration};

use super::LoadReport;

/// What `underpass demo` prints last.
#[derive(Debug, Clone)]
pub struct DemoSummary {
    /// What the users counted.
    pub report: LoadReport,
    /// How long it ran.
    pub elapsed: Duration,
}

impl DemoSummary {
    /// Whether nothing arrived that was not sent. Failures that the users saw do not count: an operator who kills
    /// streams gets what was asked for.
    pub fn is_clean(&self) -> bool {
        self.report.checksum_failures == 0
    }
}

impl fmt::Display for DemoSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadReport { started, downloads, uploads, checksum_failures, failed, abandoned, down, up, notes } =
            &self.report;
        let rate = (down + up) as f64 / self.elapsed.as_secs_f64().max(0.001);
        writeln!(f, "demo ran for {:.1} s", self.elapsed.as_secs_f64())?;
        writeln!(f, "  streams            {started}: {downloads} downloads, {uploads} uploads complete")?;
        if *abandoned > 0 {
            writeln!(f, "                     {abandoned} still open when the demo ended")?;
        }
        if *failed > 0 {
            writeln!(f, "                     {failed} ended early, and the user saw it")?;
        }
        let (down, up, rate) = (Bytes(*down as f64), Bytes(*up as f64), Bytes(rate));
        writeln!(f, "  bytes              {down} down, {up} up, {rate}/s")?;
        writeln!(f, "  checksum failures  {checksum_failures}")?;
        notes.iter().try_for_each(|note| writeln!(f, "    {note}"))
    }
}

struct Bytes(f64);

impl fmt::Display for Bytes {
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
mod tests {
    use super::*;

    #[test]
    fn a_quiet_run_says_little() {
        let report = LoadReport {
            started: 12,
            downloads: 10,
            uploads: 2,
            down: 1_234_567_890,
            up: 999,
            ..LoadReport::default()
        };
        let summary = DemoSummary { report, elapsed: Duration::from_millis(10_000) };
        assert!(summary.is_clean());
        assert_eq!(
            summary.to_string(),
            "demo ran for 10.0 s\n\
             \x20 streams            12: 10 downloads, 2 uploads complete\n\
             \x20 bytes              1.2 GB down, 999 B up, 123 MB/s\n\
             \x20 checksum failures  0\n"
        );
    }

    #[test]
    fn failures_are_told_with_their_reasons() {
        let report = LoadReport {
            started: 9,
            downloads: 4,
            checksum_failures: 1,
            failed: 2,
            abandoned: 2,
            notes: vec!["download: corrupt: wrong byte at offset 7".into()],
            ..LoadReport::default()
        };
        let summary = DemoSummary { report, elapsed: Duration::ZERO };
        assert!(!summary.is_clean());
        let text = summary.to_string();
        for part in ["2 still open", "2 ended early", "failures  1", "offset 7", "0 B down"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
