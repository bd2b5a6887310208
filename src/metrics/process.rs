//! What the system says about this process, under the names that all exporters of Prometheus use for it.

use std::{fmt, fs, path::Path};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::families::Families;

/// Where the system lists the open descriptors of this process: Linux, and macOS.
const DESCRIPTORS: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// Figures of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ProcessFigures {
    /// When the process started, in seconds since the Unix epoch.
    start: f64,
    /// The processor time that it has used, in seconds.
    cpu: f64,
    /// The open descriptors; `None` where the system does not list them.
    open_descriptors: Option<u64>,
    /// The limit of open descriptors.
    max_descriptors: u64,
    /// The resident memory in bytes; `None` where the system does not report it.
    resident: Option<u64>,
    /// The virtual memory in bytes; `None` where the system does not report it.
    virtual_memory: Option<u64>,
    /// The threads; `None` where the system does not report them.
    threads: Option<u64>,
}

impl ProcessFigures {
    /// Reads the present figures of a process that has started at `start_ms`, in milliseconds since the Unix epoch.
    pub(super) fn read(start_ms: u64) -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            rest.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let descriptors = DESCRIPTORS.iter().map(Path::new).find_map(|path| fs::read_dir(path).ok());
        Self {
            start: start_ms as f64 / 1000.0,
            cpu: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            // Without the one that lists them.
            open_descriptors: descriptors.map(|all| all.count().saturating_sub(1) as u64),
            max_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            resident: field("VmRSS").map(|kib| kib * 1024),
            virtual_memory: field("VmSize").map(|kib| kib * 1024),
            threads: field("Threads"),
        }
    }

    /// Writes the figures that the system reports.
    pub(super) fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        families
            .counter("process_cpu_seconds", "Processor time that this process has used, in seconds.")?
            .sum(self.cpu)?;
        families
            .gauge(
                "process_start_time_seconds",
                "When this process started, in seconds since the Unix epoch.",
            )?
            .values([([], self.start)])?;
        families
            .gauge("process_max_fds", "Limit of open file descriptors of this process.")?
            .number(self.max_descriptors)?;
        for (name, help, value) in [
            ("process_open_fds", "Open file descriptors of this process.", self.open_descriptors),
            ("process_resident_memory_bytes", "Resident memory of this process in bytes.", self.resident),
            ("process_virtual_memory_bytes", "Virtual memory of this process in bytes.", self.virtual_memory),
            ("process_threads", "Threads of this process.", self.threads),
        ] {
            if let Some(value) = value {
                families.gauge(name, help)?.number(value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
