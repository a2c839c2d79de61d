//! Where the files are, and how manifests are read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge_source::yaml::{self, Field, Node};
use selvedge_tests::{client, skipped};
use serde_json::Value;

/// The folder `deploy`.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// helm or kubectl; `None` if it can't be had, which has been said.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let found = client(&format!("helm/{name}"));
    if found.is_none() {
        skipped("helm and kubectl could not be unpacked");
    }
    found
}

/// A folder that goes when this is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let name = format!("selvedge-deploy-{}-{}", process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("make {path:?}: {error}"));
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The text of a file.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path:?}: {error}"))
}

/// Runs a program and gives what it printed, whether or not it succeeded.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a program that must succeed, and gives what it printed on stdout.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("programs print text")
}

/// helm, with nothing of this user's.
pub(crate) fn helm(program: &Path, home: &Folder) -> Command {
    let mut command = Command::new(program);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.path());
    }
    command
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let nodes = yaml::documents(text.as_bytes(), &[]);
    let nodes = nodes.map(|node| node.unwrap_or_else(|fault| panic!("{fault}\n{text}")));
    let json = |node: Rc<Node>| Field::root(&node).json().unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    nodes.map(json).filter(|value| !value.is_null()).collect()
}

/// The objects of a kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The only object of a kind.
pub(crate) fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "there is one {kind}");
    found[0]
}
