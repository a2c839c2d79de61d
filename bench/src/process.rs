//! What a process uses.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::BenchError;

/// A line of its /proc/PID/status that is an amount of memory, in bytes.
pub(crate) fn memory(process: i32, line: &str) -> Result<u64, BenchError> {
    let path = PathBuf::from(format!("/proc/{process}/status"));
    let status = fs::read_to_string(&path).map_err(|source| BenchError::file("read", &path, source))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let missing = || BenchError::file("find its memory in", &path, io::ErrorKind::InvalidData.into());
    kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(missing)
}

/// The processor time that its threads have used.
pub(crate) fn processor(process: i32) -> Result<Duration, BenchError> {
    let path = PathBuf::from(format!("/proc/{process}/task"));
    let threads = fs::read_dir(&path).map_err(|source| BenchError::file("read", &path, source))?;
    let used = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    Ok(used.sum())
}
