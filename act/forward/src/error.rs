//! What keeps a forwarder from its work.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use selvedge_model::PublicKey;
use selvedge_packet::{Contradiction, KeyContradiction};
use selvedge_wireguard::KeyError;

/// Why there is no forwarder, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Another forwarder is at work in this run directory.
    #[error("another forwarder holds {path:?}: stop it, or give this one a --run-dir of its own")]
    Occupied {
        /// The lock.
        path: PathBuf,
    },
    /// A file can't be made.
    #[error("make {path:?} (--run-dir)")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The device can't be made, or is somebody else's.
    #[error("make the TUN device {name} (this needs /dev/net/tun and CAP_NET_ADMIN)")]
    Device {
        /// The device.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The device's name is taken.
    #[error(
        "there is a link {name} already that is no TUN device of a forwarder's: delete it, or let it do the work"
    )]
    Foreign {
        /// The device.
        name: String,
    },
    /// The device was deleted.
    #[error("the TUN device {name} is gone")]
    Gone {
        /// The device.
        name: String,
    },
    /// The node's address can't be used.
    #[error("local, port: listen for UDP on {address}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A state that can't be.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The same, where peers have keys.
    #[error(transparent)]
    KeyContradiction(#[from] KeyContradiction),
    /// Our own key can't be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no key of our own.
    #[error("key: there is no {path:?}, whose public half is to be {told}")]
    NoKey {
        /// Its file.
        path: PathBuf,
        /// What was told.
        told: PublicKey,
    },
    /// Our own key is another than the one that we were told of.
    #[error("key: the public half of {path:?} is {is}, not {told}")]
    OtherKey {
        /// Its file.
        path: PathBuf,
        /// The key there.
        is: PublicKey,
        /// What was told.
        told: PublicKey,
    },
    /// No thread could be started, or signals not be heard.
    #[error("start the thread {name:?}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answers at the socket.
    #[error("ask the forwarder at {path:?}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A forwarder listens at the socket and doesn't answer.
    #[error("the forwarder at {path:?}{} doesn't answer", at_work(*pid))]
    Hung {
        /// The socket.
        path: PathBuf,
        /// Its process; none if that is somewhere out of our sight, as in another container.
        pid: Option<i32>,
    },
    /// A forwarder that doesn't answer can't be killed.
    #[error("kill the forwarder at {path:?}, which doesn't answer")]
    Kill {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the forwarder answers can't be read: it is of another version.
    #[error("the forwarder at {path:?} answers {answer:?}")]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What it said.
        answer: String,
    },
    /// The forwarder does not do it.
    #[error("the forwarder says: {0}")]
    Refused(String),
}

fn at_work(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
