//! The one document that a call may print.

use std::io::Write;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};
use selvedge_cni::{CniError, code};
use serde_json::Value;

/// Writes the document at once, so that a reader never sees half of it.
pub(crate) fn write(document: &Value) -> Result<(), CniError> {
    if is_closed() {
        return Err(CniError::new(code::IO, "write the answer to stdout: it is closed"));
    }
    let mut text = document.to_string();
    text.push('\n');
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|why| CniError::new(code::IO, format!("write the answer to stdout: {why}")))
}

/// True if the plugin was started without a stdout. The language's runtime has put `/dev/null` (1, 3) in its place,
/// opened for reading too, as nobody opens it to write into.
fn is_closed() -> bool {
    let stdout = std::io::stdout();
    let null = fstat(&stdout).is_ok_and(|stat| {
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == (1, 3)
    });
    null && fcntl_getfl(&stdout).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}
