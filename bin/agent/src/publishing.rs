//! Our own WireGuard key, told to the other nodes: by our Node in the API, or by a file in a directory that nodes share.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use selvedge_model::{NodeName, PublicKey, chain};
use selvedge_source::keys::{self, Announced};
use tracing::{info, warn};

/// How often it is looked whether our file still says our key.
const LOOK: Duration = Duration::from_secs(5);

/// Tells whoever is to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Publisher {
    /// For our Node in the API.
    pub(crate) own: Announced,
    /// For the directory, where there is one.
    files: Option<Sender<Option<PublicKey>>>,
}

impl Publisher {
    /// One that also keeps our file in a directory, if one is given.
    pub(crate) fn start(node: &NodeName, directory: Option<&Path>) -> io::Result<Self> {
        let files = directory.map(|directory| {
            let (sender, receiver) = mpsc::channel();
            let (node, directory) = (node.clone(), directory.to_owned());
            let keep = move || keep(&directory, &node, &receiver);
            thread::Builder::new().name("key".to_owned()).spawn(keep).map(|_thread| sender)
        });
        Ok(Self { own: Announced::default(), files: files.transpose()? })
    }

    /// From now on others are to know this key of ours, or none.
    pub(crate) fn publish(&self, key: Option<PublicKey>) {
        self.own.is(key);
        if let Some(files) = &self.files {
            // The thread ends only with the agent.
            files.send(key).ok();
        }
    }
}

/// Has our file say the last key that came, for as long as any may come.
fn keep(directory: &Path, node: &NodeName, keys: &Receiver<Option<PublicKey>>) {
    let (mut last, mut told) = (None, None);
    loop {
        match keys.recv_timeout(LOOK) {
            Ok(key) => last = Some(keys.try_iter().last().unwrap_or(key)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(key) = last else { continue };
        let failed = match keys::publish(directory, node, key) {
            Ok(changed) => {
                if changed {
                    info!(directory = %directory.display(), "our WireGuard key was published");
                }
                None
            }
            Err(why) => Some(chain(&why)),
        };
        if let Some(why) = failed.as_ref().filter(|why| told.as_ref() != Some(*why)) {
            warn!(why, "our WireGuard key is not published");
        }
        told = failed;
    }
}
