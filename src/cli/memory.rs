//! The default of the memory budget, from what the system or the process's control group has.

use std::fs;

/// The share of the memory that streams may take by default, as a divisor: other programs, and the sockets of the
/// kernel, need the rest.
const MEMORY_FRACTION: u64 = 4;

/// The least and the most that streams may take by default, in bytes: enough for a thousand streams, and for twenty
/// thousand with windows for long paths.
const BOUNDS: (u64, u64) = (64 << 20, 1 << 30);

/// Returns the default of the memory budget in bytes. The upper bound where the memory is unknown.
pub(super) fn default_budget() -> u64 {
    budget_of(memory_bytes(|path| fs::read_to_string(path).ok()))
}

/// Returns the budget for a system with this much memory.
fn budget_of(memory: Option<u64>) -> u64 {
    memory.map_or(BOUNDS.1, |bytes| (bytes / MEMORY_FRACTION).clamp(BOUNDS.0, BOUNDS.1))
}

/// Returns how much memory the process may use at most, in bytes: that of the system, or the lowest limit of a control
/// group that it is in (versions 1 and 2). `read` returns the content of a file; `None` if it cannot be read.
fn memory_bytes(read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|kib| kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(line, &read));
    total.map(|kib| kib * 1024).into_iter().chain(limits).min()
}

/// Returns the memory limits, in bytes, of the control group in one line of `/proc/self/cgroup` and of those above it.
/// In a container the line may name a group that only the host sees; the container's own is then at the root.
fn group_limits(line: &str, read: &impl Fn(&str) -> Option<String>) -> Vec<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (root, file) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let mut limits = Vec::new();
    let mut path = path.trim_end_matches('/');
    loop {
        // `max` is no limit.
        limits
            .extend(read(&format!("{root}{path}/{file}")).and_then(|limit| limit.trim().parse::<u64>().ok()));
        match path.rfind('/') {
            Some(at) => path = &path[..at],
            None => return limits,
        }
    }
}

#[cfg(test)]
mod tests;
