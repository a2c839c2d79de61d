//! One call at a time on each attachment: a DEL waits for the ADD that its runtime gave up on.

use std::fs::{self, File};
use std::path::PathBuf;

use crate::error::LeaseError;
use crate::file::{self, Wait};

/// Holds an attachment until dropped; the lock file goes with it.
#[derive(Debug)]
pub struct AttachmentGuard {
    path: PathBuf,
    file: File,
}

impl AttachmentGuard {
    /// Waits for the attachment; `None` if somebody else is still at work on it at the deadline.
    pub(crate) fn take(path: PathBuf, wait: &Wait) -> Result<Option<Self>, LeaseError> {
        loop {
            let open = File::options().create(true).truncate(false).write(true).open(&path);
            let file = open.map_err(LeaseError::file("open", &path))?;
            if !file::lock(&file, wait).map_err(LeaseError::file("lock", &path))? {
                return Ok(None);
            }
            let guard = Self { path: path.clone(), file };
            // Whoever held it before us may have removed the file; then it is no longer what others lock.
            if file::is_at(&guard.file, &guard.path) {
                return Ok(Some(guard));
            }
        }
    }
}

impl Drop for AttachmentGuard {
    fn drop(&mut self) {
        if file::is_at(&self.file, &self.path) {
            // A file that stays behind is taken over by the next call.
            fs::remove_file(&self.path).ok();
        }
    }
}
