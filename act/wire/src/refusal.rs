//! The kernel's refusals.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// What the kernel answered to a request that it did not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    errno: i32,
    explanation: Option<String>,
}

impl Refusal {
    /// A refusal by its error number alone.
    pub fn new(errno: i32) -> Self {
        Self { errno, explanation: None }
    }

    /// A refusal with the sentence that the kernel sent along (an extended acknowledgement).
    pub(crate) fn explained(errno: i32, explanation: Option<String>) -> Self {
        Self { errno, explanation }
    }

    /// The error number, as in errno(3).
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        match &self.explanation {
            Some(explanation) => write!(f, ": {explanation}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::new(errno.raw_os_error())
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        Self::from_raw_os_error(refusal.errno)
    }
}
