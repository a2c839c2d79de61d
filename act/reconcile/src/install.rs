//! Files that runtimes read or run, put in their places by rename: nobody ever sees half of one.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_cni::conflist::is_read;
use selvedge_datapath::converge::Plugin;

/// Executable by everyone, written by its owner.
const MODE: u32 = 0o755;

/// A configuration is no longer.
const CONFIGURATION: u64 = 1024 * 1024;

/// How much of two files is compared at a time.
const CHUNK: usize = 64 * 1024;

/// An install takes no longer: what wrote the draft was killed.
const ABANDONED: Duration = Duration::from_secs(60);

/// The plugin that the agent was given, and the place where runtimes look for it.
#[derive(Debug)]
pub(crate) struct PluginFile {
    from: PathBuf,
    to: PathBuf,
    /// Both as they were when they were last found to be the same: while they look like that, neither is read.
    same: Option<Looks>,
}

/// What of both files is looked at without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looks {
    from: Option<Look>,
    to: Option<Look>,
}

/// A file as far as its directory tells: it is another one if anything of this differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    file: (u64, u64),
    size: u64,
    mode: u32,
    changed: (i64, i64),
}

impl PluginFile {
    /// The plugin `from` is to be at `to`.
    pub(crate) fn new(from: PathBuf, to: PathBuf) -> Self {
        Self { from, to, same: None }
    }

    /// Where it is to be.
    pub(crate) fn place(&self) -> &Path {
        &self.to
    }

    /// What can be seen without reading.
    pub(crate) fn look(&self) -> io::Result<Looks> {
        // A symbolic link may lead anywhere, and its target may change unseen: it is another file.
        Ok(Looks { from: look(fs::metadata(&self.from))?, to: look(fs::symlink_metadata(&self.to))? })
    }

    /// How the one compares to the other.
    pub(crate) fn compare(&mut self) -> io::Result<Plugin> {
        let looks = self.look()?;
        let Some(to) = looks.to else { return Ok(Plugin::Missing) };
        if self.same == Some(looks) {
            return Ok(Plugin::Same);
        }
        self.same = None;
        let regular = to.mode & 0o170_000 == 0o100_000;
        let alike =
            regular && to.mode & 0o7777 == MODE && looks.from.is_some_and(|from| from.size == to.size);
        if !alike || !equal(&self.from, &self.to)? {
            return Ok(Plugin::Other);
        }
        self.same = Some(looks);
        Ok(Plugin::Same)
    }

    /// Puts the plugin in its place. What installs that were killed have left goes away.
    pub(crate) fn install(&self) -> io::Result<()> {
        let mut from = File::open(&self.from)?;
        let directory = self.to.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(directory)?;
        let prefix = draft_prefix(&self.to);
        remove_drafts(directory, &prefix)?;
        // Of two agents at work, one being replaced by the other, neither writes into the other's draft.
        let draft = directory.join(format!("{prefix}{:016x}", RandomState::new().hash_one(&prefix)));
        let written = write(&mut from, &draft).and_then(|()| fs::rename(&draft, &self.to));
        if written.is_err() {
            // It may not even be there. The first failure is what to tell.
            fs::remove_file(&draft).ok();
        }
        written?;
        File::open(directory)?.sync_all()
    }
}

/// How the names of a plugin's drafts begin.
fn draft_prefix(plugin: &Path) -> String {
    format!(".{}.new-", plugin.file_name().unwrap_or_default().to_string_lossy())
}

/// True for what an install of the plugin wrote, and didn't finish.
pub(crate) fn is_draft_of(path: &Path, plugin: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.parent() == plugin.parent() && name.starts_with(&draft_prefix(plugin))
}

/// Writes beside the file and renames within the directory: containerd takes no notice of a file renamed into it
/// from elsewhere, and no reader ever sees half a file.
pub(crate) fn conflist(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(directory)?;
    let temporary = draft_of(path);
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// Where a conflist is written before it is renamed.
pub(crate) fn draft_of(conflist: &Path) -> PathBuf {
    let name = conflist.file_name().unwrap_or_default().to_string_lossy();
    conflist.with_file_name(format!(".{name}.tmp"))
}

/// What is written in somebody's configuration; none if that can't be read, or is nothing that a runtime would take.
fn configuration(path: &Path) -> Option<String> {
    // Whoever opens a pipe may wait for its writer for ever.
    let found = fs::metadata(path).ok()?;
    (found.is_file() && found.len() <= CONFIGURATION).then(|| fs::read_to_string(path).ok())?
}

/// What is written in the configurations beside a conflist that runtimes read, it included, by their names.
pub(crate) fn texts_beside(conflist: &Path, names: &[String]) -> BTreeMap<String, String> {
    let read = names.iter().filter(|name| is_read(name));
    let text = |name: &String| Some((name.clone(), configuration(&conflist.with_file_name(name))?));
    read.filter_map(text).collect()
}

/// The names of what is in a file's directory, sorted; none if that isn't there. A file that is being written is not
/// among them.
pub(crate) fn names_beside(path: &Path) -> io::Result<Vec<String>> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let draft = draft_of(path);
    names.retain(|name| draft.file_name().is_none_or(|draft| draft != name.as_str()));
    names.sort();
    Ok(names)
}

fn write(from: &mut File, draft: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(draft)?;
    io::copy(from, &mut file)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.sync_all()
}

fn remove_drafts(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        // One that is younger may be another agent's, at work on it. One from the future is young too.
        let Ok(found) = entry.metadata() else { continue };
        if found.modified()?.elapsed().is_ok_and(|age| age > ABANDONED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn look(metadata: io::Result<Metadata>) -> io::Result<Option<Look>> {
    match metadata {
        Ok(file) => Ok(Some(Look {
            file: (file.dev(), file.ino()),
            size: file.size(),
            mode: file.mode(),
            changed: (file.ctime(), file.ctime_nsec()),
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut of_one, mut of_other) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let length = fill(&mut one, &mut of_one)?;
        if fill(&mut other, &mut of_other)? != length || of_one[..length] != of_other[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
