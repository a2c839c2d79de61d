//! A node and its pods, as namespaces that only the test holds.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use selvedge_netns::{Namespace, NetnsError};

/// One node, with a folder of its own for whatever its programs write.
///
/// The kernel takes the namespaces away with the test process, however that ends; the folder goes when the stage is
/// dropped.
#[derive(Debug)]
pub struct Stage {
    node: Namespace,
    folder: PathBuf,
}

/// A pod's namespace.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
}

impl Stage {
    /// A node without links other than its loopback, which is down. `None` if this user may not make one, which has
    /// been said by [`skipped`](crate::skipped).
    ///
    /// # Panics
    /// If the kernel refuses for another reason, or the folder cannot be made.
    pub fn new() -> Option<Self> {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let node = namespace()?;
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("selvedge-tests-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("make {folder:?}: {error}"));
        Some(Self { node, folder })
    }

    /// The node's namespace: what runs in it sees the node as its machine.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// A folder that only this stage uses, for the run directory, manifests and whatever else the programs want.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new pod, not attached to anything yet.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn pod(&self) -> Pod {
        Pod { namespace: namespace().unwrap_or_else(|| panic!("the node could be made, and a pod cannot")) }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for such things.
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Pod {
    /// The pod's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The path that a runtime would hand to a plugin in CNI_NETNS, good for as long as the pod is held.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), self.namespace.as_fd().as_raw_fd()))
    }
}

/// A new network namespace; `None` if this user may not make one, which has been said.
pub(crate) fn namespace() -> Option<Namespace> {
    match Namespace::create() {
        Ok(namespace) => Some(namespace),
        Err(NetnsError::Create { source }) if source.kind() == ErrorKind::PermissionDenied => {
            crate::skipped("network namespaces need root");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_not_the_machine_it_stands_on() {
        let Some(stage) = Stage::new() else { return };
        let machine = Namespace::current().unwrap().identity();
        let inside = stage.node().run(Namespace::current).unwrap().unwrap().identity();
        assert_eq!(inside, stage.node().identity());
        assert_ne!(inside, machine);
    }

    #[test]
    fn a_pods_path_opens_its_namespace() {
        let Some(stage) = Stage::new() else { return };
        let pod = stage.pod();
        assert_eq!(Namespace::open(&pod.path()).unwrap().identity(), pod.namespace().identity());
    }

    #[test]
    fn the_folder_goes_with_the_stage() {
        let Some(stage) = Stage::new() else { return };
        let folder = stage.folder().to_owned();
        fs::write(folder.join("file"), "").unwrap();
        drop(stage);
        assert!(!folder.exists());
    }
}
