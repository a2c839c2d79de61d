//! What can go wrong, and how to tell it apart.

use std::fmt;
use std::io;
use std::path::PathBuf;

use selvedge_datapath::step::NetStep;
use selvedge_model::IfName;
use selvedge_netns::NetnsError;
pub use selvedge_wire::Refusal;

/// Why an observation or a change failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket could be opened.
    #[error("open an rtnetlink socket")]
    Open {
        /// What the system said.
        source: io::Error,
    },
    /// The namespace to open a socket or write a sysctl in could not be entered.
    #[error("use a network namespace")]
    Namespace {
        /// Which, and why.
        #[from]
        source: NetnsError,
    },
    /// Something could not be read.
    #[error("read the {what}")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: Refusal,
    },
    /// What was read went on changing each time it was read.
    #[error("read the {what}: they changed each of the {tries} times they were read")]
    Unsettled {
        /// What was asked for.
        what: &'static str,
        /// How often it was tried.
        tries: u32,
    },
    /// A step was not carried out.
    #[error("`{step}`")]
    Step {
        /// The step; its text is the command that does the same.
        step: Box<NetStep>,
        /// The kernel's answer.
        source: Refusal,
    },
    /// A veth pair was not made, since one of its names belongs to another link.
    #[error("`{step}`: {end} already has a link named {name}")]
    NameTaken {
        /// The step.
        step: Box<NetStep>,
        /// Where the name is taken.
        end: TakenEnd,
        /// The name.
        name: IfName,
        /// The kernel's answer.
        source: Refusal,
    },
    /// A route was not made, since there is another to its destination.
    #[error("`{step}`: there is a route already: {there}")]
    RouteTaken {
        /// The step.
        step: Box<NetStep>,
        /// What is there.
        there: String,
        /// The kernel's answer.
        source: Refusal,
    },
    /// A veth that is in use no longer could not be set aside, or the veths set aside could not be deleted.
    #[error("{what}")]
    Reap {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: Refusal,
    },
    /// A sysctl could not be read.
    #[error("read sysctl {path:?}")]
    ReadSysctl {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sysctl could not be written.
    #[error("write {value:?} to sysctl {path:?}")]
    WriteSysctl {
        /// Its file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel's notifications could not be subscribed to or read.
    #[error("watch the kernel's notifications")]
    Watch {
        /// What the system said.
        source: io::Error,
    },
}

/// The namespace in which a name of a veth pair is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenEnd {
    /// The node's.
    Host,
    /// The pod's.
    Pod,
}

impl fmt::Display for TakenEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the node",
            Self::Pod => "the pod",
        })
    }
}

impl NetlinkError {
    /// The error number behind it, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Read { source, .. }
            | Self::Step { source, .. }
            | Self::NameTaken { source, .. }
            | Self::RouteTaken { source, .. }
            | Self::Reap { source, .. } => Some(source.errno()),
            Self::Open { source }
            | Self::ReadSysctl { source, .. }
            | Self::WriteSysctl { source, .. }
            | Self::Watch { source } => source.raw_os_error(),
            Self::Namespace { .. } | Self::Unsettled { .. } => None,
        }
    }

    /// True if what was to be made exists.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// True if the object, or the device or address it needs, is not there.
    pub fn is_gone(&self) -> bool {
        self.errno().is_some_and(|errno| GONE.contains(&errno))
    }

    /// True if a device is not there.
    pub fn is_no_such_device(&self) -> bool {
        matches!(self.errno(), Some(libc::ENODEV | libc::ENXIO))
    }
}

/// The error numbers by which the kernel says that an object is not there.
pub(crate) const GONE: [i32; 5] = [libc::ENODEV, libc::ENXIO, libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENOENT];
