//! Server settings: those written into a new cluster, and those given at each start.
//!
//! Durability is never traded for speed.

use std::path::Path;

/// Settings for the `postgresql.conf` of a new cluster, where users may change them. fsync and full
/// page writes stay on; sizes suit a laptop with `memory` bytes, which runs models besides.
pub(super) fn initial(memory: u64) -> Vec<(&'static str, String)> {
    const MIB: u64 = 1024 * 1024;
    let share =
        |parts: u64, least: u64, most: u64| format!("{}MB", (memory / MIB / parts).clamp(least, most));
    vec![
        // A sixteenth of the memory, where the documentation of PostgreSQL suggests a quarter for a
        // server of its own: models need the rest.
        ("shared_buffers", share(16, 64, 1024)),
        ("effective_cache_size", share(2, 256, 16 * 1024)),
        // An HNSW graph is built much faster if it fits (pgvector documentation, "Index Build
        // Time").
        ("maintenance_work_mem", share(32, 64, 512)),
        ("work_mem", "16MB".into()),
        // Twice the default. Not tuned: each stage has a pool, and users have sessions.
        ("max_connections", "200".into()),
        // The default of 4 is for spinning disks.
        ("random_page_cost", "1.1".into()),
        ("max_wal_size", "1GB".into()),
        // The only method that every build of PostgreSQL has.
        ("wal_compression", "pglz".into()),
        // Compiling a short query takes longer than running it.
        ("jit", "off".into()),
        ("timezone", "UTC".into()),
        ("log_timezone", "UTC".into()),
        ("log_line_prefix", "%m [%p] %q%a ".into()),
        // A client that hangs in a transaction keeps vacuum from cleaning up. Not tuned.
        ("idle_in_transaction_session_timeout", "10min".into()),
    ]
}

/// Settings that may differ between starts, and are passed on the command line.
pub(super) fn of_start(port: u16, socket_dir: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("port", port.to_string()),
        ("listen_addresses", "127.0.0.1".into()),
        ("unix_socket_directories", socket_dir.display().to_string()),
        ("unix_socket_permissions", "0700".into()),
        // The supervisor rotates the log, which therefore has to be its stderr.
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
    ]
}

/// Reads a field of `/proc/meminfo`, such as `MemTotal`, in bytes.
pub(crate) fn memory(field: &str) -> Option<u64> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?, field)
}

fn parse_meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_memory_within_bounds() {
        let check = |gib: u64, name: &str, expected: &str| {
            let settings = initial(gib * 1024 * 1024 * 1024);
            let value =
                settings.iter().find(|(setting, _)| *setting == name).map(|(_, value)| value.as_str());
            assert_eq!(value, Some(expected), "{gib} GiB {name}");
        };
        check(0, "shared_buffers", "64MB");
        check(8, "shared_buffers", "512MB");
        check(512, "shared_buffers", "1024MB");
        check(8, "maintenance_work_mem", "256MB");
        check(8, "effective_cache_size", "4096MB");
    }

    #[test]
    fn meminfo() {
        let text = "MemTotal:       16 kB\nMemAvailable:    8 kB\n";
        assert_eq!(parse_meminfo(text, "MemTotal"), Some(16 * 1024));
        assert_eq!(parse_meminfo(text, "MemAvailable"), Some(8 * 1024));
        assert_eq!(parse_meminfo(text, "Mem"), None);
    }
}
