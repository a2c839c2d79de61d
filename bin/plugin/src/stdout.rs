//! The one document that a call may print.

use std::io::Write;

use selvedge_cni::{CniError, code};
use serde_json::Value;

/// Writes the document at once, so that a reader never sees half of it.
pub(crate) fn write(document: &Value) -> Result<(), CniError> {
    let mut text = document.to_string();
    text.push('\n');
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|why| CniError::new(code::IO, format!("write the answer to stdout: {why}")))
}
