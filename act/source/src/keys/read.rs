//! What the files of a directory of keys say.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use selvedge_model::{NoKey, NodeName, PublicKey};

use crate::object::ObjectKey;
use crate::problem::{Cause, InForce, Place, Problem};

/// The keys as they were last read. A file that can't be read, or holds no key, leaves in force what it said last.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    nodes: BTreeMap<NodeName, PublicKey>,
    unlisted: Option<Problem>,
    problems: Vec<Problem>,
}

impl Keys {
    /// Takes what all files of the directory hold now, but for the hidden ones.
    pub(crate) fn update(&mut self, files: BTreeMap<PathBuf, io::Result<Vec<u8>>>) {
        self.unlisted = None;
        self.problems.clear();
        let mut before = std::mem::take(&mut self.nodes);
        for (file, text) in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name: NodeName = match name.parse() {
                Ok(name) => name,
                Err(why) => {
                    self.problem(file, None, (Cause::NoNode(why), InForce::Nothing));
                    continue;
                }
            };
            let last = before.remove(&name);
            let said = match text {
                Ok(text) => key(&text).map_err(Cause::NoKey),
                Err(why) => Err(Cause::Unreadable(why.to_string())),
            };
            let key = said.map(Some).unwrap_or_else(|cause| {
                let in_force = if last.is_some() { InForce::LastGood } else { InForce::Nothing };
                self.problem(file, Some(&name), (cause, in_force));
                last
            });
            self.nodes.extend(key.map(|key| (name, key)));
        }
    }

    /// The directory can't be listed: everything stays as it is, and that is a problem, but where nobody has made it yet.
    pub(crate) fn unlisted(&mut self, directory: &Path, why: &io::Error) {
        if why.kind() == ErrorKind::NotFound && self.nodes.is_empty() {
            return self.update(BTreeMap::new());
        }
        self.unlisted = Some(Problem {
            place: Place { file: directory.to_owned(), at: None },
            object: None,
            cause: Cause::Unreadable(why.to_string()),
            in_force: InForce::LastGood,
        });
    }

    /// The key of a node, if there is a file of it.
    pub(crate) fn of(&self, node: &NodeName) -> Option<PublicKey> {
        self.nodes.get(node).copied()
    }

    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.unlisted.iter().chain(&self.problems)
    }

    fn problem(&mut self, file: PathBuf, node: Option<&NodeName>, (cause, in_force): (Cause, InForce)) {
        let (place, object) = (Place { file, at: None }, node.cloned().map(ObjectKey::Node));
        self.problems.push(Problem { place, object, cause, in_force });
    }
}

/// The key, with the white space that editors and shells put behind it.
fn key(text: &[u8]) -> Result<PublicKey, NoKey> {
    str::from_utf8(text).map_err(|_no_text| NoKey)?.trim_end().parse()
}
