//! Tests of the default memory budget.

use super::*;

/// Returns the memory of a system with these files.
fn memory(files: &[(&str, &str)]) -> Option<u64> {
    memory_bytes(|path| {
        files.iter().find(|(known, _)| *known == path).map(|(_, content)| (*content).to_owned())
    })
}

const MEMINFO: (&str, &str) =
    ("/proc/meminfo", "MemTotal:        2048000 kB\nMemFree:          1000 kB\nBuffers: 1 kB\n");

#[test]
fn the_lowest_limit_counts() {
    assert_eq!(memory(&[]), None);
    assert_eq!(memory(&[MEMINFO]), Some(2_048_000 * 1024));
    let v2 = ("/proc/self/cgroup", "0::/system.slice/underpass.service\n");
    let own = ("/sys/fs/cgroup/system.slice/underpass.service/memory.max", "max\n");
    assert_eq!(memory(&[MEMINFO, v2, own]), Some(2_048_000 * 1024));
    let above = ("/sys/fs/cgroup/system.slice/memory.max", "536870912\n");
    assert_eq!(memory(&[MEMINFO, v2, own, above]), Some(512 << 20));
    let v1 = ("/proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/docker/4711\n0::/\n");
    // The container sees its own group as the root.
    let container = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
    assert_eq!(memory(&[MEMINFO, v1, container]), Some(256 << 20));
    let unlimited = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(memory(&[MEMINFO, v1, unlimited]), Some(2_048_000 * 1024));
}

#[test]
fn the_default_is_a_quarter_within_bounds() {
    assert_eq!(budget_of(None), 1 << 30);
    assert_eq!(budget_of(Some(16 << 30)), 1 << 30);
    assert_eq!(budget_of(Some(1 << 30)), 256 << 20);
    assert_eq!(budget_of(Some(100 << 20)), 64 << 20);
    assert!((64 << 20..=1 << 30).contains(&default_budget()));
}
