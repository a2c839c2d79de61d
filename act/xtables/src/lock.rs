//! The lock that every legacy iptables holds while it changes a table.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::XtablesError;

/// How long the lock is waited for: what kube-proxy and others give to `iptables -w`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(5);

/// Takes the lock; closing the descriptor releases it.
pub(crate) fn hold(path: &Path, patience: Duration) -> Result<OwnedFd, XtablesError> {
    let failed = |e: Errno| XtablesError::Lock { path: path.to_owned(), source: e.into() };
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < patience => sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(XtablesError::Locked { path: path.to_owned(), waited: patience });
            }
            Err(e) => return Err(failed(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_and_then_reported_with_its_path() {
        let path = std::env::temp_dir().join(format!("selvedge-xtables-lock-{}", std::process::id()));
        let first = hold(&path, Duration::ZERO).unwrap();
        let error = hold(&path, Duration::from_millis(20)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} was locked", path.display())), "{error}");
        drop(first);
        hold(&path, Duration::ZERO).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
