//! A process's memory.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::BenchError;

/// A line of its /proc/PID/status that is an amount of memory, in bytes.
pub(crate) fn of(process: i32, line: &str) -> Result<u64, BenchError> {
    let path = PathBuf::from(format!("/proc/{process}/status"));
    let status = fs::read_to_string(&path).map_err(|source| BenchError::file("read", &path, source))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let missing = || BenchError::file("find its memory in", &path, io::ErrorKind::InvalidData.into());
    kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(missing)
}
