//! The nodes' WireGuard keys: what others are to know of ours, and a directory that nodes share, with a file per node.
//!
//! A file bears its node's name and holds the node's public key in base64, and a line's end. The manifests' watcher
//! reads them; each agent writes its own alone.

mod read;

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_model::{NodeName, PublicKey};
use tokio::sync::watch;

pub(crate) use read::Keys;

/// No file that holds a key is longer.
pub(crate) const LONGEST: u64 = 256;

/// What others are to know of our key: a key, that we have none, or, at first, that it isn't known yet. Clones share it.
#[derive(Debug, Clone)]
pub struct Announced(Arc<watch::Sender<Option<Option<PublicKey>>>>);

impl Default for Announced {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Announced {
    /// From now on it is this key, or none. Whoever publishes it is woken if it was another before.
    pub fn is(&self, key: Option<PublicKey>) {
        self.0.send_if_modified(|before| before.replace(key) != Some(key));
    }

    pub(crate) fn hear(&self) -> watch::Receiver<Option<Option<PublicKey>>> {
        self.0.subscribe()
    }
}

/// A key can't be published.
#[derive(Debug, thiserror::Error)]
#[error("the WireGuard key can't be published in {}", file.display())]
pub struct PublishError {
    /// The file.
    pub file: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Has a node's file in a directory of keys say that key, or with none has no such file. A directory that isn't there
/// is made. Others see the whole file or the one before. True if anything was changed.
///
/// # Errors
/// [`PublishError`]: the file says what it said before.
pub fn publish(directory: &Path, node: &NodeName, key: Option<PublicKey>) -> Result<bool, PublishError> {
    let file = directory.join(node.as_str());
    let published = || -> io::Result<bool> {
        // That one would be hidden, or lead elsewhere.
        if node.as_str().starts_with('.') {
            return Err(ErrorKind::InvalidInput.into());
        }
        match key {
            Some(key) => say(directory, (node, &file), &format!("{key}\n")),
            None => match fs::remove_file(&file) {
                Ok(()) => Ok(true),
                Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
                Err(why) => Err(why),
            },
        }
    };
    published().map_err(|source| PublishError { file: file.clone(), source })
}

fn say(directory: &Path, (node, file): (&NodeName, &Path), text: &str) -> io::Result<bool> {
    // What can't be read is written anew.
    if is_file(file).is_ok_and(|is| is) && read(file).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(false);
    }
    fs::create_dir_all(directory)?;
    // As long as a name may be.
    let beside = directory.join(format!(".{node}~"));
    match fs::remove_file(&beside) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut new = File::options().write(true).create_new(true).open(&beside)?;
    new.set_permissions(Permissions::from_mode(0o644))?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    Ok(true)
}

/// What a file holds, of more than a key only the beginning.
pub(crate) fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// True if it is a file, or leads to one: to open anything else may take for ever.
pub(crate) fn is_file(path: &Path) -> io::Result<bool> {
    fs::metadata(path).map(|found| found.is_file())
}

#[cfg(test)]
mod tests;
