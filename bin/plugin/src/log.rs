//! One line a call, on stderr and, where the configuration names one, in a file.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ipnet::IpNet;
use rustix::fs::OFlags;
use selvedge_cni::{CniError, Environment};

/// The line of the call under way.
#[derive(Debug)]
pub(crate) struct Entry {
    started: Instant,
    line: String,
    file: Option<PathBuf>,
}

impl Entry {
    /// Starts with what the environment says of the call.
    pub(crate) fn begin(environment: &Environment) -> Self {
        let mut entry = Self { started: Instant::now(), line: "selvedge:".to_owned(), file: None };
        for (key, variable) in
            [("verb", "CNI_COMMAND"), ("container", "CNI_CONTAINERID"), ("interface", "CNI_IFNAME")]
        {
            if let Some(value) = environment.value(variable) {
                entry.field(key, value.escape_default());
            }
        }
        if let Some(trace) = environment.trace_parent() {
            entry.field("traceparent", trace);
        }
        entry
    }

    /// Names the file that the line is appended to as well.
    pub(crate) fn log_to(&mut self, file: Option<&Path>) {
        self.file = file.map(Path::to_owned);
    }

    /// Adds `key=value`.
    pub(crate) fn field(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a String can't fail.
        write!(self.line, " {key}={value}").ok();
    }

    /// Ends the line with the duration and the result, and writes it. What can't be logged is let go: the call
    /// itself has been answered.
    pub(crate) fn end(mut self, error: Option<&CniError>) {
        let took = self.started.elapsed();
        self.field("took", format_args!("{:.1}ms", took.as_secs_f64() * 1e3));
        match error {
            None => self.field("result", "ok"),
            Some(error) => self.field("result", format_args!("error {} {:?}", error.code(), error.message())),
        }
        self.line.push('\n');
        std::io::stderr().lock().write_all(self.line.as_bytes()).ok();
        if let Some(file) = &self.file {
            // A pipe that nobody empties would have the runtime wait for us.
            let unblocked = OFlags::NONBLOCK.bits().cast_signed();
            let open = OpenOptions::new().create(true).append(true).custom_flags(unblocked).open(file);
            open.and_then(|mut file| file.write_all(self.line.as_bytes())).ok();
        }
    }
}

/// Addresses with commas between them.
#[derive(Debug)]
pub(crate) struct Nets<'a>(pub(crate) &'a [IpNet]);

impl std::fmt::Display for Nets<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, net) in self.0.iter().enumerate() {
            write!(f, "{}{net}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
