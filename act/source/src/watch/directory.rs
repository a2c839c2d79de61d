//! The files of a directory of manifests.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The text of each manifest in the directory, or why it can't be read. Fails unless the directory can be listed to
/// its end.
pub(super) fn texts(directory: &Path) -> io::Result<BTreeMap<PathBuf, io::Result<Vec<u8>>>> {
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_manifest(&path)
            && let Some(text) = text(&path).transpose()
        {
            texts.insert(path, text);
        }
    }
    Ok(texts)
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(OsStr::to_str);
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The text of a regular file; nothing if it is something else.
fn text(path: &Path) -> io::Result<Option<Vec<u8>>> {
    if fs::metadata(path)?.is_file() { fs::read(path).map(Some) } else { Ok(None) }
}
