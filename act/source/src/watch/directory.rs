//! The files of a directory, of manifests or of keys.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::keys;
use crate::manifests::Text;

/// A file that was changed so shortly before it was read may have been changed again without another time.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// The manifests of a directory as they were when they were last read.
#[derive(Debug, Default)]
pub(super) struct ManifestFiles(BTreeMap<PathBuf, Stamp>);

impl ManifestFiles {
    /// Forgets how they looked: all are read again.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The text of each manifest in the directory that doesn't look as it did when it was last read, or why it can't be
    /// read. What is being written is as it was before. Fails unless the directory can be listed to its end.
    pub(super) fn texts(
        &mut self,
        directory: &Path,
        is_written: impl Fn(&OsStr) -> bool,
    ) -> io::Result<BTreeMap<PathBuf, Text>> {
        let mut texts = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            if !is_manifest(&path) {
                continue;
            }
            let text = if is_written(&entry.file_name()) { Some(Text::AsBefore) } else { self.text(&path) };
            texts.extend(text.map(|text| (path, text)));
        }
        self.0.retain(|path, _| texts.contains_key(path));
        Ok(texts)
    }

    /// The text of a regular file; nothing if it is something else.
    fn text(&mut self, path: &Path) -> Option<Text> {
        let before = self.0.remove(path);
        let found = match fs::metadata(path) {
            Ok(found) if found.is_file() => found,
            Ok(_) => return None,
            Err(error) => return Some(Text::Now(Err(error))),
        };
        let (stamp, is_settled) = (stamp_of(&found), is_settled(&found));
        let is_same = before == Some(stamp);
        let text = if is_same { Text::AsBefore } else { Text::Now(fs::read(path)) };
        if is_same || (is_settled && matches!(text, Text::Now(Ok(_)))) {
            self.0.insert(path.to_owned(), stamp);
        }
        Some(text)
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    !is_hidden(path) && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The files of a directory of keys as they were last read: there may be thousands, one of which changes.
#[derive(Debug, Default)]
pub(super) struct KeyFiles(BTreeMap<PathBuf, (Stamp, Vec<u8>)>);

/// By what it is seen that a file is what it was.
type Stamp = (u64, u64, u64, i64, i64);

impl KeyFiles {
    /// What each file holds that isn't hidden, or why it can't be read. Fails unless the directory can be listed to its
    /// end.
    pub(super) fn texts(&mut self, directory: &Path) -> io::Result<BTreeMap<PathBuf, io::Result<Vec<u8>>>> {
        let mut texts = BTreeMap::new();
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if is_hidden(&path) {
                continue;
            }
            let text = match fs::metadata(&path) {
                // To open anything else may take for ever.
                Ok(found) if !found.is_file() => continue,
                Ok(found) => match self.0.remove(&path).filter(|(stamp, _)| *stamp == stamp_of(&found)) {
                    Some((_, text)) => Ok(text),
                    None => keys::read(&path),
                }
                .inspect(|text| {
                    if is_settled(&found) {
                        known.insert(path.clone(), (stamp_of(&found), text.clone()));
                    }
                }),
                Err(error) => Err(error),
            };
            texts.insert(path, text);
        }
        self.0 = known;
        Ok(texts)
    }
}

fn stamp_of(found: &fs::Metadata) -> Stamp {
    (found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec())
}

/// True if the file was changed long enough ago.
fn is_settled(found: &fs::Metadata) -> bool {
    // To the full second after it.
    let changed =
        u64::try_from(found.ctime()).ok().map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s + 1));
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age > FRESH)
}
