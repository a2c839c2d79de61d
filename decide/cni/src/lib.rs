//! The CNI protocol, versions 0.1.0 to 1.1.0, as values: what a runtime asks for and what it is answered.
//!
//! - [`Environment`] and the bytes of stdin become a [`Request`], one variant a verb, each with exactly what is valid
//!   for that verb
//! - [`NetConf`] is the whole network configuration, refused at its first mistake; [`RemovalConf`] is as much of it as
//!   DEL and GC need, and is never refused for what they can do without
//! - [`AddResult`] is written and read in every version; [`CniError`] is the error object
//! - [`Delegate`] is another plugin that allocates the addresses, as far as that needs no process
//! - [`conflist`] writes the configuration by which a runtime finds the agent's network
//!
//! Left to others: reading stdin and writing stdout, searching directories, running plugins, and everything that
//! touches a namespace. Invariants: nothing here panics on any input; keys of JSON objects are matched without regard
//! to case, as Go's decoder does; `null` means absent; an error's message is one line and names the key or the
//! variable and its value.

mod args;
mod conf;
pub mod conflist;
mod delegate;
mod dns;
mod env;
mod error;
mod gc;
mod json;
mod request;
mod result;
pub mod version;

pub use args::{CniArgs, Requested, RequestedIp, RequestedIpError};
pub use conf::{Attach, Ipam, NetConf, Pools, Range, RangeSet, RemovalConf, RuntimeConfig};
pub use delegate::{Delegate, Exit, PluginName, PluginNameError};
pub use dns::Dns;
pub use env::{Command, Environment, command};
pub use error::{CniError, code};
pub use gc::ValidAttachments;
pub use request::{Add, Check, Del, Gc, MAX_STDIN, Netns, Request, Status};
pub use result::{AddResult, Interface, Ip, PrevResult, Route};
pub use version::Version;
